//! A ring used directly, with nothing of trine: what the kernel itself costs.

use std::io;

use io_uring::{EnterFlags, IoUring, squeue};

/// A ring set up as well as one can: every flag that makes a single-threaded loop cheaper.
pub struct Ring {
    pub io: IoUring,
}

impl Ring {
    pub fn open(submissions: u32, completions: u32) -> io::Result<Ring> {
        // NO_SQARRAY is younger (6.6) than the others; a kernel without it gets a ring all the same.
        let io = builder(completions)
            .setup_no_sqarray()
            .build(submissions)
            .or_else(|_| builder(completions).build(submissions))?;
        // Saves the look-up of the descriptor on each enter; a refusal only costs speed.
        let _ = io.submitter().register_ring_fd();
        Ok(Ring { io })
    }

    /// # Safety
    /// What the entry points to stays valid until its terminal completion.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: the caller's promise.
            if unsafe { self.io.submission().push(entry) }.is_ok() {
                return;
            }
            self.io.submit().expect("io_uring_enter");
        }
    }

    /// Hands over what was pushed and waits for `want` completions, in one system call. Unlike
    /// `submit_and_wait` it runs deferred work also when `want` is zero.
    pub fn enter(&mut self, want: u32) {
        let queued = self.io.submission().len() as u32;
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: no argument is passed.
        let entered =
            unsafe { self.io.submitter().enter::<libc::sigset_t>(queued, want, flags, None) };
        if let Err(error) = entered {
            let harmless = [libc::EINTR, libc::EAGAIN, libc::EBUSY];
            assert!(harmless.contains(&error.raw_os_error().unwrap_or(0)), "enter: {error}");
        }
    }
}

fn builder(completions: u32) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_clamp();
    builder.setup_cqsize(completions);
    builder
}
