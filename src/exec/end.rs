//! How a run ends: everything is let go of, and the kernel and the threads have let go too (rule P1).

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;

use crate::error::Reason;

use super::{Panics, Run};

impl Run {
    /// Ends the run: waits until the kernel has let go of everything, then closes the ring (rule P1).
    /// A panic of other people's code meanwhile comes back.
    pub(super) fn end(self: &Rc<Self>) -> Option<Box<dyn Any + Send>> {
        let mut panics = Panics::default();
        self.inbox.refuse_calls();
        self.drop_attendant(&mut panics);
        // The values of the run go last, and may leave something to be reaped too.
        let reaped = self.reap_whatever_panics(&mut panics).and_then(|()| {
            self.drop_values(&mut panics);
            self.reap_whatever_panics(&mut panics)
        });
        self.drop_workers(&mut panics);
        self.finished.set(true);
        self.inbox.close();
        match (self.act(|core| core.ring.take()), reaped) {
            (Some(mut ring), Ok(())) => {
                self.registry.close(&mut ring);
                ring.close();
                self.pools.close();
            }
            // The kernel may still have memory of ours: it stays, for ever.
            (ring, _) => {
                std::mem::forget(ring);
                std::mem::forget(Rc::clone(self));
            }
        }
        panics.into_first()
    }

    /// What panics is gone; the rest still has to be reaped.
    fn reap_whatever_panics(&self, panics: &mut Panics) -> io::Result<()> {
        loop {
            match panic::catch_unwind(AssertUnwindSafe(|| self.reap())) {
                Ok(reaped) => return reaped,
                Err(payload) => panics.keep(payload),
            }
        }
    }

    /// Cancels everything that is left, and waits for it, and for threads that cannot be cancelled.
    fn reap(&self) -> io::Result<()> {
        self.cancel(self.root, Reason::Shutdown);
        self.act(|core| {
            let left: Vec<_> = core.table.iter().map(|(key, _)| key).collect();
            for key in left {
                let action = core.table.cancel(key);
                core.follow(action);
            }
        });
        self.dismiss_workers();
        self.collect_last_mail();
        while self.is_waited_for() {
            let _rung = self.act(|core| {
                core.began = core.coarse_now();
                core.exchange(None)
            })?;
            #[cfg(feature = "testing")]
            if !_rung {
                self.let_time_pass()?;
            }
            self.collect_last_mail();
        }
        Ok(())
    }

    /// Whether the kernel or a thread has something left.
    fn is_waited_for(&self) -> bool {
        self.look(|core| {
            core.table.in_kernel() > 0 || core.table.has_queued() || core.workers.awaited() > 0
        })
    }

    /// Calls that were accepted are made. What they want run finds nobody who would: it is dropped, so that
    /// no thread waits for it.
    fn collect_last_mail(&self) {
        let mut panics = Panics::default();
        panics.catch(|| self.collect_mail());
        self.drop_attendant(&mut panics);
        panics.resume();
    }
}
