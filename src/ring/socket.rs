//! The system calls on sockets that answer at once.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::address::SockAddr;

/// How a listening socket is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenOptions {
    pub(crate) backlog: u32,
    pub(crate) reuse_port: bool,
}

/// A typed socket option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketOption {
    /// Send small segments at once (`TCP_NODELAY`).
    NoDelay(bool),
    /// Probe an idle connection after this time; `None` does not (`SO_KEEPALIVE`, `TCP_KEEPIDLE`).
    KeepAlive(Option<Duration>),
    /// What `close` does with unsent data (`SO_LINGER`).
    Linger(Option<Duration>),
}

/// What the machine answers without waiting: making, naming and tuning sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linux;

impl Linux {
    /// A TCP socket for addresses of this family.
    pub(super) fn tcp_socket(self, family: SocketAddr) -> io::Result<RawFd> {
        socket(family).map(IntoRawFd::into_raw_fd)
    }

    /// A socket that listens at `address`.
    pub(super) fn listen(self, address: SocketAddr, options: ListenOptions) -> io::Result<RawFd> {
        let socket = socket(address)?;
        let fd = socket.as_raw_fd();
        set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1)?;
        // What is accepted inherits it: one system call less for each connection.
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &1)?;
        if options.reuse_port {
            set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, &1)?;
        }
        if address.is_ipv6() {
            // So that 0.0.0.0 and [::] can be bound side by side, whatever the sysctl says.
            set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &1)?;
        }
        let address = SockAddr::from(address);
        // SAFETY: a valid address of the given length.
        check(unsafe { libc::bind(fd, address.as_ptr(), address.len() as libc::socklen_t) })?;
        let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
        // SAFETY: no memory is involved.
        check(unsafe { libc::listen(fd, backlog) })?;
        Ok(socket.into_raw_fd())
    }

    pub(super) fn local_addr(self, fd: RawFd) -> io::Result<SocketAddr> {
        // SAFETY: `filled` gives a valid place and its length.
        SockAddr::filled(|place, len| unsafe { libc::getsockname(fd, place, len) })?.try_into()
    }

    pub(super) fn peer_addr(self, fd: RawFd) -> io::Result<SocketAddr> {
        // SAFETY: as above.
        SockAddr::filled(|place, len| unsafe { libc::getpeername(fd, place, len) })?.try_into()
    }

    /// Ends a connection at once, with a reset, and frees what it was to send.
    pub(super) fn disconnect(self, fd: RawFd) -> io::Result<()> {
        let nobody =
            libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
        let len = size_of_val(&nobody) as libc::socklen_t;
        // SAFETY: a valid address of the given length.
        check(unsafe { libc::connect(fd, &raw const nobody, len) })?;
        Ok(())
    }

    pub(super) fn set(self, fd: RawFd, option: SocketOption) -> io::Result<()> {
        match option {
            SocketOption::NoDelay(on) => {
                set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &libc::c_int::from(on))
            }
            SocketOption::KeepAlive(idle) => {
                let on = libc::c_int::from(idle.is_some());
                set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &on)?;
                match idle {
                    Some(idle) => {
                        set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, &whole_seconds(idle))
                    }
                    None => Ok(()),
                }
            }
            SocketOption::Linger(time) => {
                let linger = libc::linger {
                    l_onoff: libc::c_int::from(time.is_some()),
                    // Zero is a meaning of its own here: reset the connection.
                    l_linger: time
                        .map_or(0, |time| if time.is_zero() { 0 } else { whole_seconds(time) }),
                };
                set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
            }
        }
    }

    pub(super) fn no_delay(self, fd: RawFd) -> io::Result<bool> {
        Ok(get_option::<libc::c_int>(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)? != 0)
    }

    pub(super) fn keep_alive(self, fd: RawFd) -> io::Result<Option<Duration>> {
        if get_option::<libc::c_int>(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE)? == 0 {
            return Ok(None);
        }
        let seconds = get_option::<libc::c_int>(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE)?;
        Ok(Some(Duration::from_secs(seconds.unsigned_abs().into())))
    }

    pub(super) fn linger(self, fd: RawFd) -> io::Result<Option<Duration>> {
        let linger = get_option::<libc::linger>(fd, libc::SOL_SOCKET, libc::SO_LINGER)?;
        let time = Duration::from_secs(linger.l_linger.unsigned_abs().into());
        Ok((linger.l_onoff != 0).then_some(time))
    }

    /// Closes at once. The number is free afterwards even if an error is reported, so there is nothing to
    /// tell anybody.
    pub(super) fn close(self, fd: RawFd) {
        // SAFETY: the caller gives up a descriptor that it owns.
        unsafe { libc::close(fd) };
    }
}

fn socket(family: SocketAddr) -> io::Result<OwnedFd> {
    let family = if family.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kernel counts these in whole seconds; a part of one is rounded up, never down to "at once".
fn whole_seconds(time: Duration) -> libc::c_int {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX).max(1)
}

/// A C type that a socket option has as its value.
trait OptionValue: Copy {}
impl OptionValue for libc::c_int {}
impl OptionValue for libc::linger {}

fn set_option<T: OptionValue>(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is a C type of this length.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const *value).cast(), len) })?;
    Ok(())
}

fn get_option<T: OptionValue>(fd: RawFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    // SAFETY: all zeros is valid for the C types that are option values.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: a valid place of this length.
    check(unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut len) })?;
    Ok(value)
}

pub(super) fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
