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
        // The values of the run go last, and may leave something to be reaped too. A last call may have
        // asked for an attendant.
        let reaped = self.reap_whatever_panics(&mut panics).and_then(|()| {
            self.drop_attendant(&mut panics);
            self.drop_values(&mut panics);
            self.reap_whatever_panics(&mut panics)
        });
        self.finished.set(true);
        self.inbox.close();
        match (self.act(|core| core.ring.take()), reaped) {
            (Some(ring), Ok(())) => {
                ring.close();
                self.pool.close();
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
        self.collect_mail();
        while self
            .look(|core| core.table.in_kernel() > 0 || core.table.has_queued() || core.threads > 0)
        {
            self.act(|core| core.exchange(None))?;
            #[cfg(feature = "testing")]
            self.let_time_pass()?;
            self.collect_mail();
        }
        Ok(())
    }
}
