//! The life of operations beside naive accounts: the pure machine, and the table with a kernel
//! that is played by bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::op::{
    Action, Event, Phase, Pool, PoolLimits, Pools, Pushed, Slot, State, Step, Submission, Table,
};
use crate::ring::{Completion, Host, Token};
use crate::slots::Key;

/// Runs both, each with all the bytes.
///
/// # Panics
/// If one of them and its naive account disagree.
pub fn op_state(data: &[u8]) {
    machine(data);
    table(data);
}

/// One operation after the other, each until its slot is free.
fn machine(data: &[u8]) {
    let Some((&first, events)) = data.split_first() else { return };
    let mut state = State::new(first % 4 > 0);
    let mut asked = false;
    for byte in events {
        let event = Event::ALL[usize::from(*byte) % Event::ALL.len()];
        let before = state;
        let step = state.step(event);
        let freed = matches!(step, Step::Free | Step::WithdrawAndFree | Step::DisposeAndFree);
        let over = state.phase == Phase::Terminal && state.orphan;
        // Rule D5: free exactly when the kernel has let go and nobody wants it.
        assert_eq!(freed, over, "{before:?} {event:?} {step:?}");
        let had = before.in_kernel();
        let left = had && !state.in_kernel();
        assert_eq!(
            left,
            had && event == Event::Terminal,
            "{before:?} {event:?}: the kernel has it"
        );
        let told = matches!(event, Event::More | Event::Terminal) && had;
        let delivered = step == Step::Deliver;
        assert_eq!(delivered, told && !before.orphan, "{before:?} {event:?} {step:?}");
        if step == Step::QueueCancel {
            let again = event == Event::CancelMissed;
            assert!(state.cancellable && had && (again || !asked), "{before:?} {event:?}");
            asked = true;
        }
        if over {
            (state, asked) = (State::new(byte % 4 > 0), false);
        }
    }
}

/// What the account knows of an operation.
#[derive(Clone, Copy, Default)]
struct Account {
    pushed: bool,
    ended: bool,
    orphan: bool,
}

/// Operations without memory, and a kernel that ends them in any order.
fn table(data: &[u8]) {
    let pool = Pool::new(None, PoolLimits { buffer: 4096, least: 1, most: 1 });
    let mut pair = Pair {
        table: Table::new(Pools::new(pool), Host::LINUX),
        accounts: BTreeMap::new(),
        kernel: Vec::new(),
    };
    for bytes in data.chunks_exact(2) {
        pair.act(bytes[0] % 8, bytes[1].into());
        assert_eq!(pair.table.in_kernel(), pair.kernel.len());
        assert_eq!(pair.table.iter().count(), pair.accounts.len());
    }
}

struct Pair {
    table: Table,
    accounts: BTreeMap<u64, Account>,
    kernel: Vec<Token>,
}

impl Pair {
    fn act(&mut self, what: u8, which: usize) {
        match what {
            0 | 1 => {
                let key = self.table.submit(Submission::nop, Duration::ZERO, |_| 0);
                let former = self.accounts.insert(key.to_bits(), Account::default());
                assert!(former.is_none(), "a living key was given out again");
            }
            2 | 3 => self.pump(which % 5),
            4 => self.complete(which),
            5 => self.cancel(which),
            6 => self.orphan(which),
            _ => self.take(which),
        }
    }

    fn choose(&self, which: usize) -> Option<Key<Slot>> {
        let count = self.accounts.len().max(1);
        Key::from_bits(*self.accounts.keys().nth(which % count)?)
    }

    fn account(&mut self, key: Key<Slot>) -> &mut Account {
        self.accounts.get_mut(&key.to_bits()).expect("it lives")
    }

    fn pump(&mut self, room: usize) {
        let (mut left, mut pushed) = (room, Vec::new());
        let done = self.table.pump(|entry| {
            if left == 0 {
                return false;
            }
            left -= 1;
            if let Pushed::Request(token, _) = entry {
                pushed.push(token);
            }
            true
        });
        assert_eq!(done, !self.table.has_queued(), "all or not all went");
        for token in pushed {
            assert!(!self.kernel.contains(&token), "a token is in flight twice");
            self.kernel.push(token);
            self.account(key_of(token)).pushed = true;
        }
    }

    fn complete(&mut self, which: usize) {
        if self.kernel.is_empty() {
            return;
        }
        let token = self.kernel.swap_remove(which % self.kernel.len());
        let result = if which % 2 == 0 { 0 } else { -libc::ECANCELED };
        let action = self.table.complete(Completion { token, result, more: false, buffer: None });
        let account = self.account(key_of(token));
        account.ended = true;
        let orphan = account.orphan;
        assert_eq!(matches!(action, Action::Freed { .. }), orphan, "D5: freed if nobody wants it");
        if orphan {
            self.accounts.remove(&key_of(token).to_bits());
        }
    }

    fn cancel(&mut self, which: usize) {
        let Some(key) = self.choose(which) else { return };
        self.table.cancel(key);
        let account = self.account(key);
        // Rule D6: what was not pushed ends at once.
        account.ended |= !account.pushed;
    }

    fn orphan(&mut self, which: usize) {
        let Some(key) = self.choose(which) else { return };
        let action = self.table.orphan(key);
        let account = self.account(key);
        let free = !account.orphan && (account.ended || !account.pushed);
        account.orphan = true;
        assert_eq!(matches!(action, Action::Freed { .. }), free, "D5, D6: freed if nobody has it");
        if free {
            self.accounts.remove(&key.to_bits());
        }
    }

    fn take(&mut self, which: usize) {
        let Some(key) = self.choose(which) else { return };
        let Account { ended, orphan, .. } = *self.account(key);
        let taken = self.table.take(key).is_some();
        assert_eq!(taken, ended && !orphan, "D4: a result is there when it has ended");
        if taken {
            self.accounts.remove(&key.to_bits());
        }
    }
}

fn key_of(token: Token) -> Key<Slot> {
    Key::new(token.index(), token.generation().try_into().expect("generations are not zero"))
}
