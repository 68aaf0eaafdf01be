//! What to say when the kernel gives no ring: the cause and the remedy.

use std::io;

use super::Unavailable;

/// Explains an error of setting a ring up.
pub(super) fn explain(error: io::Error) -> Unavailable {
    let (cause, remedy) = match error.raw_os_error() {
        Some(libc::ENOSYS) => (
            "this kernel has no io_uring, or a seccomp filter hides it".to_owned(),
            "Use a kernel with CONFIG_IO_URING, or let the container's seccomp profile allow \
             io_uring_setup, io_uring_enter and io_uring_register"
                .to_owned(),
        ),
        Some(libc::EPERM | libc::EACCES) => forbidden(),
        Some(libc::ENOMEM) => (
            format!("the limit on locked memory is too small for the rings ({})", memlock()),
            "Raise it (ulimit -l, LimitMEMLOCK= in a systemd unit), grant CAP_IPC_LOCK, or ask for \
             smaller queues with Builder::submissions and Builder::completions"
                .to_owned(),
        ),
        Some(libc::EMFILE | libc::ENFILE) => (
            "no descriptor is left for the ring".to_owned(),
            "Raise the limit on open files (ulimit -n, LimitNOFILE= in a systemd unit)".to_owned(),
        ),
        Some(libc::EINVAL) => (
            format!("this kernel ({}) is older than Linux 6.1", release()),
            "Use Linux 6.1 or newer".to_owned(),
        ),
        _ => (
            "the kernel refused to set a ring up".to_owned(),
            "Look the error up in io_uring_setup(2)".to_owned(),
        ),
    };
    Unavailable::new(cause, remedy, error)
}

/// An operation of the floor is not there.
pub(super) fn missing(operation: &str) -> Unavailable {
    Unavailable::new(
        format!("this kernel ({}) lacks the operation {operation}", release()),
        "Use Linux 6.1 or newer",
        io::Error::from_raw_os_error(libc::EOPNOTSUPP),
    )
}

/// Two things forbid a ring with the same answer; the sysctl can be read.
fn forbidden() -> (String, String) {
    let sysctl = "/proc/sys/kernel/io_uring_disabled";
    match std::fs::read_to_string(sysctl).as_deref().map(str::trim) {
        Ok("2") => (
            "kernel.io_uring_disabled is 2: nobody may use io_uring".to_owned(),
            "As root: sysctl kernel.io_uring_disabled=0".to_owned(),
        ),
        Ok("1") => (
            "kernel.io_uring_disabled is 1: only members of kernel.io_uring_group and processes \
             with CAP_SYS_ADMIN may use io_uring"
                .to_owned(),
            "As root: sysctl kernel.io_uring_disabled=0, or add the user to that group".to_owned(),
        ),
        _ => (
            "a seccomp filter or a security module forbids io_uring (container engines do so by \
             default)"
                .to_owned(),
            "Allow io_uring_setup, io_uring_enter and io_uring_register in the container's \
             seccomp profile"
                .to_owned(),
        ),
    }
}

fn memlock() -> String {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    let answered = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } == 0;
    if answered { format!("{} bytes", limit.rlim_cur) } else { "unknown".to_owned() }
}

fn release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if text.is_empty() { "unknown release".to_owned() } else { format!("Linux {}", text.trim()) }
}
