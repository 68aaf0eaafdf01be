//! Random programs that take, give back, cancel and drop, beside a naive model that serves first come
//! first served; compared after every step.

use std::ops::Range;

use trine::sync::{CapacityLimiter, Permit, ReadGuard, RwLock, Semaphore, Token, WriteGuard};
use trine::{Error, Result};

use crate::common::random::Random;
use crate::common::{fewer, turns};
use crate::{Look, Waiter};

const PROGRAMS: u64 = fewer(120, 3);
const STEPS: usize = fewer(250, 60);

/// A tool that the programs use.
trait Tool: Sized {
    type Need: Copy + std::fmt::Debug;
    type Held<'a>
    where
        Self: 'a;
    type Twin: Twin<Self::Need>;

    fn new() -> (Self, Self::Twin);
    fn need(random: &mut Random) -> Self::Need;
    fn take(&self, need: Self::Need) -> impl Future<Output = Result<Self::Held<'_>>>;
    fn try_take(&self, need: Self::Need) -> Result<Self::Held<'_>>;

    /// Changes what there is; says whether that serves those who wait.
    fn change(&self, twin: &mut Self::Twin, random: &mut Random) -> bool;

    /// Compares what is held, and says how many wait.
    fn compare(&self, twin: &Self::Twin, story: &str) -> usize;
}

/// What there is, in the model.
trait Twin<Need> {
    /// Takes it if it is there.
    fn admit(&mut self, need: Need) -> bool;

    /// Says whether that serves those who wait.
    fn give_back(&mut self, need: Need) -> bool;
}

impl Tool for Semaphore {
    type Need = usize;
    type Held<'a> = Permit<'a>;
    type Twin = Permits;

    fn new() -> (Self, Permits) {
        (Semaphore::new(4), Permits(4))
    }
    fn need(random: &mut Random) -> usize {
        random.below(5)
    }
    fn take(&self, need: usize) -> impl Future<Output = Result<Permit<'_>>> {
        self.acquire_many(need)
    }
    fn try_take(&self, need: usize) -> Result<Permit<'_>> {
        self.try_acquire_many(need)
    }
    fn change(&self, twin: &mut Permits, random: &mut Random) -> bool {
        if random.below(2) == 0 {
            twin.0 += 1;
            self.release(1);
            return true;
        }
        // So that there are not more and more.
        if let Ok(permit) = self.try_acquire() {
            twin.0 -= 1;
            permit.forget();
        }
        false
    }
    fn compare(&self, twin: &Permits, story: &str) -> usize {
        let statistics = self.statistics();
        assert_eq!(statistics.available, twin.0, "{story}");
        statistics.waiting
    }
}

/// So many are there.
struct Permits(usize);

impl Twin<usize> for Permits {
    fn admit(&mut self, need: usize) -> bool {
        let is_there = self.0 >= need;
        self.0 -= if is_there { need } else { 0 };
        is_there
    }
    fn give_back(&mut self, need: usize) -> bool {
        self.0 += need;
        need > 0
    }
}

impl Tool for CapacityLimiter {
    type Need = ();
    type Held<'a> = Token<'a>;
    type Twin = Tokens;

    fn new() -> (Self, Tokens) {
        (CapacityLimiter::new(2), Tokens { total: 2, borrowed: 0 })
    }
    fn need(_: &mut Random) {}
    fn take(&self, (): ()) -> impl Future<Output = Result<Token<'_>>> {
        self.acquire()
    }
    fn try_take(&self, (): ()) -> Result<Token<'_>> {
        self.try_acquire()
    }
    fn change(&self, twin: &mut Tokens, random: &mut Random) -> bool {
        twin.total = random.below(5);
        self.set_total(twin.total);
        true
    }
    fn compare(&self, twin: &Tokens, story: &str) -> usize {
        let statistics = self.statistics();
        assert_eq!((statistics.total, statistics.borrowed), (twin.total, twin.borrowed), "{story}");
        statistics.waiting
    }
}

struct Tokens {
    total: usize,
    borrowed: usize,
}

impl Twin<()> for Tokens {
    fn admit(&mut self, (): ()) -> bool {
        let is_there = self.borrowed < self.total;
        self.borrowed += usize::from(is_there);
        is_there
    }
    fn give_back(&mut self, (): ()) -> bool {
        self.borrowed -= 1;
        true
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Access {
    Read,
    Write,
}

/// Is only kept, and dropped.
enum Guard<'a> {
    Read { _guard: ReadGuard<'a, ()> },
    Write { _guard: WriteGuard<'a, ()> },
}

impl Tool for RwLock<()> {
    type Need = Access;
    type Held<'a> = Guard<'a>;
    type Twin = Inside;

    fn new() -> (Self, Inside) {
        (RwLock::default(), Inside { readers: 0, writer: false })
    }
    fn need(random: &mut Random) -> Access {
        if random.below(3) == 0 { Access::Write } else { Access::Read }
    }
    async fn take(&self, access: Access) -> Result<Guard<'_>> {
        Ok(match access {
            Access::Read => Guard::Read { _guard: self.read().await? },
            Access::Write => Guard::Write { _guard: self.write().await? },
        })
    }
    fn try_take(&self, access: Access) -> Result<Guard<'_>> {
        Ok(match access {
            Access::Read => Guard::Read { _guard: self.try_read()? },
            Access::Write => Guard::Write { _guard: self.try_write()? },
        })
    }
    fn change(&self, _: &mut Inside, _: &mut Random) -> bool {
        false
    }
    fn compare(&self, twin: &Inside, story: &str) -> usize {
        let statistics = self.statistics();
        let inside = (statistics.readers, statistics.writer);
        assert_eq!(inside, (twin.readers, twin.writer), "{story}");
        statistics.waiting
    }
}

struct Inside {
    readers: usize,
    writer: bool,
}

impl Twin<Access> for Inside {
    fn admit(&mut self, access: Access) -> bool {
        let has_room = !self.writer && (access == Access::Read || self.readers == 0);
        match access {
            _ if !has_room => {}
            Access::Read => self.readers += 1,
            Access::Write => self.writer = true,
        }
        has_room
    }
    fn give_back(&mut self, access: Access) -> bool {
        match access {
            Access::Read => self.readers -= 1,
            Access::Write => self.writer = false,
        }
        true
    }
}

/// A wait of the program, and how it is in the model.
struct Asked<'a, T: Tool + 'a> {
    waiter: Waiter<'a, T::Held<'a>>,
    need: T::Need,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Waits,
    /// And has not been polled since.
    Cancelled,
    /// C4: and that is so, whatever is cancelled afterwards.
    Handed,
}

/// The waits in the order in which they asked, what is held, and the model.
struct Program<'a, T: Tool + 'a> {
    tool: &'a T,
    twin: T::Twin,
    asked: Vec<Asked<'a, T>>,
    held: Vec<(T::Held<'a>, T::Need)>,
}

impl<'a, T: Tool + 'a> Program<'a, T> {
    /// J7: in the model those who wait are served from the front, as far as it reaches.
    fn serve(&mut self) {
        for asked in self.asked.iter_mut().filter(|asked| asked.state == State::Waits) {
            if !self.twin.admit(asked.need) {
                break;
            }
            asked.state = State::Handed;
        }
    }

    fn count(&self, state: State) -> usize {
        self.asked.iter().filter(|asked| asked.state == state).count()
    }

    fn admit(&mut self, need: T::Need) -> bool {
        self.count(State::Waits) == 0 && self.twin.admit(need)
    }

    async fn ask(&mut self, need: T::Need, story: &str) {
        let mut waiter = Waiter::new(self.tool.take(need));
        match waiter.look().await {
            Look::Has(held) => {
                assert!(
                    self.admit(need),
                    "{story}: it got past others, or takes what is not there"
                );
                self.held.push((held, need));
            }
            Look::Waits => {
                assert!(!self.admit(need), "{story}: it could have had it");
                self.asked.push(Asked { waiter, need, state: State::Waits });
            }
            Look::Cancelled => panic!("{story}: nobody has cancelled it"),
        }
    }

    fn try_take(&mut self, need: T::Need, story: &str) {
        match self.tool.try_take(need) {
            Ok(held) => {
                assert!(
                    self.admit(need),
                    "{story}: it got past others, or takes what is not there"
                );
                self.held.push((held, need));
            }
            Err(Error::WouldBlock) => assert!(!self.admit(need), "{story}: it could have had it"),
            Err(other) => panic!("{story}: {other}"),
        }
    }

    fn cancel(&mut self, place: usize) {
        let asked = &mut self.asked[place];
        asked.waiter.cancel();
        if asked.state == State::Waits {
            asked.state = State::Cancelled;
        }
    }

    async fn look(&mut self, place: usize, story: &str) {
        let Asked { waiter, need, state } = &mut self.asked[place];
        match (waiter.look().await, *state) {
            (Look::Waits, State::Waits) => {}
            (Look::Cancelled, State::Cancelled) => {
                self.asked.remove(place);
                // J8: perhaps those behind it can be served now.
                self.serve();
            }
            (Look::Has(held), State::Handed) => {
                self.held.push((held, *need));
                self.asked.remove(place);
            }
            (Look::Waits, state) => panic!("{story}: it waits, and is {state:?}"),
            (Look::Cancelled, state) => panic!("{story}: it is cancelled, and is {state:?}"),
            (Look::Has(_), state) => panic!("{story}: it has something, and is {state:?}"),
        }
    }

    fn drop_wait(&mut self, place: usize) {
        let Asked { need, state, .. } = self.asked.remove(place);
        if state == State::Handed {
            // J2.
            self.twin.give_back(need);
        }
        self.serve();
    }

    fn give_back(&mut self, place: usize) {
        let (held, need) = self.held.swap_remove(place);
        drop(held);
        if self.twin.give_back(need) {
            self.serve();
        }
    }

    fn compare(&self, story: &str) {
        let waiting = self.tool.compare(&self.twin, story);
        let (waits, cancelled) = (self.count(State::Waits), self.count(State::Cancelled));
        // Those who are cancelled are taken out by their own poll, or by whoever comes upon them.
        assert!((waits..=waits + cancelled).contains(&waiting), "{story}: {waiting} wait");
    }
}

/// Runs random programs, and counts what has happened in them.
async fn random_programs<T: Tool>(seeds: Range<u64>) {
    let mut ends = [0; 3];
    for seed in seeds {
        let mut random = Random(seed);
        let (tool, twin) = T::new();
        let mut program = Program { tool: &tool, twin, asked: Vec::new(), held: Vec::new() };
        for step in 0..STEPS {
            if step % 8 == 0 {
                // With as many operations ahead as a task has in a turn (rule A2).
                turns(1).await;
            }
            let story = format!("seed {seed}, step {step}");
            let (waits, holds) = (program.asked.len(), program.held.len());
            match random.below(12) {
                // Programs with few and programs with many who wait.
                0..=3 if waits < 3 + seed as usize % 12 => {
                    program.ask(T::need(&mut random), &story).await;
                }
                4 => program.try_take(T::need(&mut random), &story),
                5 if waits > 0 => {
                    ends[0] += 1;
                    program.cancel(random.below(waits));
                }
                6 if waits > 0 => {
                    let place = random.below(waits);
                    ends[1] += usize::from(program.asked[place].state == State::Handed);
                    program.drop_wait(place);
                }
                7 | 8 if waits > 0 => program.look(random.below(waits), &story).await,
                9 | 10 if holds > 0 => program.give_back(random.below(holds)),
                11 if tool.change(&mut program.twin, &mut random) => program.serve(),
                _ => {}
            }
            ends[2] += program.count(State::Handed);
            program.compare(&story);
        }
        finish(program, seed).await;
    }
    assert!(ends.iter().all(|&count| count > 0), "something never happened: {ends:?}");
}

/// In the end everybody is served or has gone, and nothing is lost.
async fn finish<T: Tool>(mut program: Program<'_, T>, seed: u64) {
    let story = format!("seed {seed}, the rest");
    while !program.held.is_empty() {
        program.give_back(0);
        program.compare(&story);
    }
    while !program.asked.is_empty() {
        program.drop_wait(program.asked.len() / 2);
        program.compare(&story);
    }
    let waiting = program.tool.compare(&program.twin, &story);
    assert_eq!(waiting, 0, "{story}: J8");
}

// J2, J7, J8, C4.
#[trine::test(kernel = "both", runs = 1)]
async fn a_semaphore_is_like_its_model() {
    random_programs::<Semaphore>(0..PROGRAMS).await;
}

// J2, J7, J8, C4.
#[trine::test(kernel = "both", runs = 1)]
async fn a_limiter_is_like_its_model() {
    random_programs::<CapacityLimiter>(0..PROGRAMS).await;
}

// J2, J7, J8, C4.
#[trine::test(kernel = "both", runs = 1)]
async fn a_lock_for_readers_and_writers_is_like_its_model() {
    random_programs::<RwLock<()>>(0..PROGRAMS).await;
}
