//! Models of the whole way: a thread that begins, works, and tells of its end, and a run that waits for it,
//! cancels it, or goes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool as Plain;

use loom::thread;

use super::job;
use crate::error::Reason;
use crate::exec::loom_run::LoomRun;
use crate::primitives::{Ordering, check_every_order};
use crate::thread::check_cancelled;
use crate::thread::ticket::Ticket;

/// Work under way in a thread, whose value is how it ended: whether it was cancelled.
struct Way {
    run: LoomRun,
    ticket: Arc<Ticket<bool>>,
    /// The thread has told of its end. Set on the run's thread.
    told: Arc<Plain>,
    /// Set by the thread, looked at when that has ended.
    worked: Arc<Plain>,
    thread: thread::JoinHandle<()>,
}

impl Way {
    fn start() -> Way {
        let (run, ticket) = (LoomRun::new(), Arc::new(Ticket::new()));
        let (told, worked) = (Arc::new(Plain::new(false)), Arc::new(Plain::new(false)));
        let (tell, mark) = (Arc::clone(&told), Arc::clone(&worked));
        let work = move || {
            mark.store(true, Ordering::Relaxed);
            check_cancelled().is_err()
        };
        let tell = move || tell.store(true, Ordering::Relaxed);
        let thread = thread::spawn(job(Arc::clone(&ticket), run.door(), work, tell));
        Way { run, ticket, told, worked, thread }
    }

    fn await_end(&self) {
        while !self.told.load(Ordering::Relaxed) {
            self.run.turn();
        }
    }

    /// The run ends, and then the thread. Says whether it has worked.
    fn end(self) -> bool {
        self.run.refuse_calls();
        self.run.close();
        self.thread.join().unwrap();
        assert_eq!(Arc::strong_count(&self.ticket), 1);
        self.worked.load(Ordering::Relaxed)
    }
}

/// A run that waits for a thread is told of its end, and finds its value then (rule K2).
#[test]
fn who_waits_gets_the_value() {
    check_every_order(4, || {
        let way = Way::start();
        way.await_end();
        assert!(matches!(way.ticket.take(), Some(Ok(false))));
        assert!(way.end());
    });
}

/// A run that cancels withdraws the work, which never begins (rule K1), or waits for its value (rule K2).
#[test]
fn what_is_cancelled_is_withdrawn_or_waited_for() {
    check_every_order(4, || {
        let way = Way::start();
        way.ticket.wish().make(Reason::Interrupt);
        if way.ticket.withdraw().is_some() {
            assert!(way.ticket.take().is_none());
            assert!(!way.end());
        } else {
            way.await_end();
            assert!(matches!(way.ticket.take(), Some(Ok(_))));
            assert!(way.end());
        }
    });
}

/// A run that finds the value before it is told does not wait for that, and may be over when the thread
/// tells; neither may one that abandons the thread (rule K3).
#[test]
fn who_does_not_wait_may_go() {
    check_every_order(4, || {
        let way = Way::start();
        let found = way.ticket.take();
        let ticket = Arc::clone(&way.ticket);
        if found.is_none() {
            ticket.wish().make(Reason::Finished);
        }
        let withdrawn = found.is_none() && ticket.withdraw().is_some();
        drop(ticket);
        assert_eq!(way.end(), !withdrawn);
    });
}
