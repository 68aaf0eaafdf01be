//! What the operating system has to be asked for.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// Who runs where: what is measured alone on one core, what only helps on another.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    pub measured: usize,
    pub helper: usize,
}

impl Cores {
    /// The last core that we may use, and the first: the first one usually takes the interrupts.
    /// The answer of the first call holds: later this thread may be pinned, and would see one core
    /// only.
    pub fn ours() -> Cores {
        static OURS: OnceLock<Cores> = OnceLock::new();
        *OURS.get_or_init(Cores::choose)
    }

    fn choose() -> Cores {
        // SAFETY: an all-zero set is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a valid place for the answer and its size is given.
        let asked = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
        assert_eq!(asked, 0, "sched_getaffinity: {}", io::Error::last_os_error());
        // SAFETY: the index stays below CPU_SETSIZE.
        let ours = |core: &usize| unsafe { libc::CPU_ISSET(*core, &set) };
        let all: Vec<usize> = (0..libc::CPU_SETSIZE as usize).filter(ours).collect();
        let (Some(&helper), Some(&measured)) = (all.first(), all.last()) else {
            panic!("there is no core to run on");
        };
        if measured == helper {
            eprintln!("warning: one core for everything; the figures say little");
        }
        Cores { measured, helper }
    }
}

/// Keeps this thread, and what it starts, on one core.
pub fn pin(core: usize) {
    // SAFETY: an all-zero set is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the core comes from a set of this size.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is initialised and its size is given.
    let pinned = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    assert_eq!(pinned, 0, "sched_setaffinity: {}", io::Error::last_os_error());
}

/// Raises the soft limit on descriptors to the hard one, and says what it is.
pub fn raise_descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is initialised. A refusal shows up as EMFILE where it matters.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    limit.rlim_cur as usize
}

/// A helper process must not outlive the program that is measuring, however that ends.
pub fn die_with_parent() {
    // SAFETY: the call takes plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Tens of thousands of closed connections that linger would use up the ports.
pub fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is a `linger`, alive across the call, and its size is given.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}
