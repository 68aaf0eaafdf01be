//! A ring used directly, with nothing of trine: what the kernel itself costs.

use std::io;
use std::os::fd::AsRawFd;

use io_uring::{EnterFlags, IoUring, squeue};

/// A ring set up as well as one can: every flag that makes a single-threaded loop cheaper.
pub struct Ring {
    pub io: IoUring,
    /// The descriptor for `enter`, or its index among the thread's registered rings.
    fd: libc::c_uint,
    flags: libc::c_uint,
}

impl Ring {
    pub fn open(submissions: u32, completions: u32) -> io::Result<Ring> {
        // NO_SQARRAY is younger (6.6) than the others; a kernel without it gets a ring all the
        // same.
        let io = builder(completions)
            .setup_no_sqarray()
            .build(submissions)
            .or_else(|_| builder(completions).build(submissions))?;
        let (fd, flags) = registered(&io);
        Ok(Ring { io, fd, flags })
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
        // SAFETY: no argument is passed.
        let entered = unsafe {
            let nothing = std::ptr::null::<libc::sigset_t>();
            libc::syscall(libc::SYS_io_uring_enter, self.fd, queued, want, self.flags, nothing, 0)
        };
        if entered < 0 {
            let error = io::Error::last_os_error();
            let harmless = [libc::EINTR, libc::EAGAIN, libc::EBUSY];
            assert!(harmless.contains(&error.raw_os_error().unwrap_or(0)), "enter: {error}");
        }
    }
}

/// Registers the ring's descriptor, which saves its look-up on each enter. The crate's own
/// `register_ring_fd` lasts only as long as the `Submitter` it is called on.
fn registered(io: &IoUring) -> (libc::c_uint, libc::c_uint) {
    #[repr(C)]
    struct Update {
        offset: u32,
        resv: u32,
        data: u64,
    }
    const REGISTER_RING_FDS: libc::c_uint = 20;
    const REGISTERED_RING: libc::c_uint = 1 << 4;
    let mut update = Update { offset: u32::MAX, resv: 0, data: io.as_raw_fd() as u64 };
    // SAFETY: one valid update, whose offset the kernel fills in.
    let registered = unsafe {
        let (fd, update) = (io.as_raw_fd(), &raw mut update);
        libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_RING_FDS, update, 1)
    };
    let flags = EnterFlags::GETEVENTS.bits();
    if registered == 1 {
        return (update.offset, flags | REGISTERED_RING);
    }
    (io.as_raw_fd() as libc::c_uint, flags)
}

fn builder(completions: u32) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_clamp();
    builder.setup_cqsize(completions);
    builder
}
