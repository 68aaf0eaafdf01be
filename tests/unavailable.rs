//! No io_uring: `run` says why, and what to do about it. It is really denied here, each time in a
//! process of its own: this very test program, run once more.

use std::io;
use std::process::Command;

use trine::{Error, run};

/// Which way of denying the process that was run once more is to try.
const ROLE: &str = "TRINE_TEST_DENIED";

/// Runs `role` in a process of its own, and gives what it prints.
fn denied(role: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["what_is_denied", "--exact", "--nocapture"])
        .env(ROLE, role)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// Not a test of its own: denies itself io_uring when it is asked to, and prints what `run` says.
#[test]
fn what_is_denied() {
    let Ok(role) = std::env::var(ROLE) else { return };
    match role.as_str() {
        "seccomp EPERM" => seccomp::deny_io_uring(libc::EPERM),
        "seccomp ENOSYS" => seccomp::deny_io_uring(libc::ENOSYS),
        "no memory" => limit(libc::RLIMIT_MEMLOCK, 0).and_then(|()| become_nobody()),
        "no descriptors" => limit(libc::RLIMIT_NOFILE, 3),
        _ => panic!("unknown: {role}"),
    }
    .unwrap();
    match run(async || trine::nop().await) {
        Ok(()) => println!("available"),
        Err(Error::Unavailable(why)) => {
            println!("cause: {}\nremedy: {}\nwhole: {why}", why.cause(), why.remedy());
        }
        Err(other) => panic!("another error: {other:?}"),
    }
}

#[test]
fn a_seccomp_filter_that_answers_eperm_is_named() {
    let said = denied("seccomp EPERM");
    assert!(said.contains("cause: a seccomp filter or a security module"), "{said}");
    assert!(said.contains("remedy: Allow io_uring_setup"), "{said}");
}

#[test]
fn a_seccomp_filter_that_answers_enosys_is_named_beside_an_old_kernel() {
    let said = denied("seccomp ENOSYS");
    assert!(said.contains("cause: this kernel has no io_uring, or a seccomp filter"), "{said}");
    assert!(said.contains("remedy: Use a kernel with CONFIG_IO_URING"), "{said}");
    assert!(said.contains("os error 38"), "what the kernel answered is kept: {said}");
}

#[test]
fn a_limit_on_locked_memory_is_named_where_the_kernel_counts_rings() {
    let said = denied("no memory");
    if said.contains("available") {
        // Most kernels charge rings to nobody's limit; then there is nothing to say.
        println!("this kernel does not count the memory of rings");
        return;
    }
    assert!(said.contains("the limit on locked memory"), "{said}");
    assert!(said.contains("ulimit -l"), "{said}");
}

#[test]
fn a_lack_of_descriptors_is_named() {
    let said = denied("no descriptors");
    assert!(said.contains("cause: no descriptor is left"), "{said}");
    assert!(said.contains("ulimit -n"), "{said}");
}

/// Lowers a limit for good.
fn limit(which: libc::__rlimit_resource_t, to: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: to, rlim_max: to };
    // SAFETY: a valid limit.
    check(unsafe { libc::setrlimit(which, &limit) })
}

/// Gives up root's right to lock as much memory as it likes.
fn become_nobody() -> io::Result<()> {
    // SAFETY: no memory is involved.
    unsafe {
        if libc::getuid() == 0 {
            check(libc::setgid(65_534))?;
            check(libc::setuid(65_534))?;
        }
    }
    Ok(())
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

mod seccomp {
    use super::{check, io};

    /// Has the kernel answer `errno` to the three calls of io_uring, from now on, in this process.
    pub(super) fn deny_io_uring(errno: i32) -> io::Result<()> {
        let answer = libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA);
        let (load, equal) =
            (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ);
        let give = libc::BPF_RET | libc::BPF_K;
        let calls =
            [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
        let mut filter = vec![step(load, 0, 0, 0)];
        for (n, call) in calls.iter().enumerate() {
            filter.push(step(equal | libc::BPF_K, (calls.len() - n) as u8, 0, *call as u32));
        }
        filter.push(step(give, 0, 0, libc::SECCOMP_RET_ALLOW));
        filter.push(step(give, 0, 0, answer));
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: a valid program, which the kernel copies.
        unsafe {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            // For all threads: the test runs in one of several.
            let sync = libc::SECCOMP_FILTER_FLAG_TSYNC;
            let mode = libc::SECCOMP_SET_MODE_FILTER;
            check(libc::syscall(libc::SYS_seccomp, mode, sync, &raw const program) as libc::c_int)
        }
    }

    fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt, jf, k }
    }
}
