//! Semaphores, limiters and locks, and what there is of each.

use crate::error::Result;
use crate::sync::{
    CapacityLimiter, Mutex, MutexGuard, Permit, ReadGuard, RwLock, Semaphore, Token, WriteGuard,
};

use super::counted::{Inside, Stock, Tool};

impl Tool for Semaphore {
    type Need = usize;
    type Held<'a> = Permit<'a>;
    type Stock = Permits;

    fn new(size: usize) -> (Self, Permits) {
        (Semaphore::new(size), Permits { there: size, all: size })
    }

    fn need(argument: u8) -> usize {
        [1, 1, 1, 2, 2, 3, 4, 0][usize::from(argument % 8)]
    }

    async fn take(&self, need: usize) -> Result<Permit<'_>> {
        match need {
            1 => self.acquire().await,
            more => self.acquire_many(more).await,
        }
    }

    fn try_take(&self, need: usize) -> Result<Permit<'_>> {
        self.try_acquire_many(need)
    }

    fn change(&self, stock: &mut Permits, argument: u8) -> bool {
        // So that there are not more and more, one is forgotten now and then.
        if argument % 2 == 0 {
            (stock.there, stock.all) = (stock.there + 1, stock.all + 1);
            self.release(1);
            return true;
        }
        if let Ok(permit) = self.try_acquire() {
            (stock.there, stock.all) = (stock.there - 1, stock.all - 1);
            permit.forget();
        }
        false
    }

    fn look(&self) -> (Inside, usize) {
        let statistics = self.statistics();
        ((statistics.available, 0), statistics.waiting)
    }
}

/// So many are there, of so many.
pub(super) struct Permits {
    there: usize,
    all: usize,
}

impl Stock<usize> for Permits {
    fn admit(&mut self, need: usize) -> bool {
        let is_there = self.there >= need;
        self.there -= if is_there { need } else { 0 };
        is_there
    }

    fn give_back(&mut self, need: usize) -> bool {
        self.there += need;
        need > 0
    }

    fn inside(&self) -> Inside {
        (self.there, 0)
    }

    fn is_full(&self) -> bool {
        self.there == self.all
    }
}

impl Tool for CapacityLimiter {
    type Need = ();
    type Held<'a> = Token<'a>;
    type Stock = Tokens;

    fn new(size: usize) -> (Self, Tokens) {
        (CapacityLimiter::new(size), Tokens { total: size, borrowed: 0 })
    }

    fn need(_: u8) {}

    async fn take(&self, (): ()) -> Result<Token<'_>> {
        self.acquire().await
    }

    fn try_take(&self, (): ()) -> Result<Token<'_>> {
        self.try_acquire()
    }

    fn change(&self, stock: &mut Tokens, argument: u8) -> bool {
        stock.total = usize::from(argument % 5);
        self.set_total(stock.total);
        true
    }

    fn look(&self) -> (Inside, usize) {
        let statistics = self.statistics();
        ((statistics.total, statistics.borrowed), statistics.waiting)
    }
}

pub(super) struct Tokens {
    total: usize,
    borrowed: usize,
}

impl Stock<()> for Tokens {
    fn admit(&mut self, (): ()) -> bool {
        let is_there = self.borrowed < self.total;
        self.borrowed += usize::from(is_there);
        is_there
    }

    fn give_back(&mut self, (): ()) -> bool {
        self.borrowed = self.borrowed.saturating_sub(1);
        true
    }

    fn inside(&self) -> Inside {
        (self.total, self.borrowed)
    }

    fn is_full(&self) -> bool {
        self.borrowed == 0
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Access {
    Read,
    Write,
}

/// Is only kept, and dropped.
pub(super) enum Guard<'a> {
    Read { _guard: ReadGuard<'a, ()> },
    Write { _guard: WriteGuard<'a, ()> },
}

impl Tool for RwLock<()> {
    type Need = Access;
    type Held<'a> = Guard<'a>;
    type Stock = Holders;

    fn new(_: usize) -> (Self, Holders) {
        (RwLock::default(), Holders::default())
    }

    fn need(argument: u8) -> Access {
        if argument % 3 == 0 { Access::Write } else { Access::Read }
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

    fn look(&self) -> (Inside, usize) {
        let statistics = self.statistics();
        ((statistics.readers, usize::from(statistics.writer)), statistics.waiting)
    }
}

/// Who has a lock.
#[derive(Default)]
pub(super) struct Holders {
    readers: usize,
    writers: usize,
}

impl Stock<Access> for Holders {
    fn admit(&mut self, access: Access) -> bool {
        let has_room = self.writers == 0 && (access == Access::Read || self.readers == 0);
        match access {
            _ if !has_room => {}
            Access::Read => self.readers += 1,
            Access::Write => self.writers += 1,
        }
        has_room
    }

    fn give_back(&mut self, access: Access) -> bool {
        match access {
            Access::Read => self.readers = self.readers.saturating_sub(1),
            Access::Write => self.writers = self.writers.saturating_sub(1),
        }
        true
    }

    fn inside(&self) -> Inside {
        (self.readers, self.writers)
    }

    fn is_full(&self) -> bool {
        self.inside() == (0, 0)
    }
}

impl Tool for Mutex<()> {
    type Need = Access;
    type Held<'a> = MutexGuard<'a, ()>;
    type Stock = Holders;

    fn new(_: usize) -> (Self, Holders) {
        (Mutex::default(), Holders::default())
    }

    fn need(_: u8) -> Access {
        Access::Write
    }

    async fn take(&self, _: Access) -> Result<MutexGuard<'_, ()>> {
        self.lock().await
    }

    fn try_take(&self, _: Access) -> Result<MutexGuard<'_, ()>> {
        self.try_lock()
    }

    fn look(&self) -> (Inside, usize) {
        let statistics = self.statistics();
        ((0, usize::from(statistics.held)), statistics.waiting)
    }
}
