//! The system calls on sockets that answer at once.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

use super::address::SockAddr;

/// Which option of a socket, in the kernel's terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OptionName {
    pub(crate) level: libc::c_int,
    pub(crate) name: libc::c_int,
}

/// The value of a socket option, as the bytes that the kernel reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct OptionValue {
    bytes: [u8; OptionValue::MOST],
    len: u8,
}

impl OptionValue {
    /// The longest are names: of a congestion control, of an interface.
    const MOST: usize = 16;

    /// One of these bytes; no option has more than the first sixteen.
    pub(crate) fn new(text: &[u8]) -> OptionValue {
        let len = text.len().min(OptionValue::MOST);
        let mut bytes = [0; OptionValue::MOST];
        bytes[..len].copy_from_slice(&text[..len]);
        OptionValue { bytes, len: len as u8 }
    }

    pub(crate) fn number(number: libc::c_int) -> OptionValue {
        OptionValue::new(&number.to_ne_bytes())
    }

    /// A C structure of two numbers, `linger` for one.
    pub(crate) fn pair(numbers: [libc::c_int; 2]) -> OptionValue {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&numbers[0].to_ne_bytes());
        bytes[4..].copy_from_slice(&numbers[1].to_ne_bytes());
        OptionValue::new(&bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub(crate) fn as_number(&self) -> libc::c_int {
        self.as_pair()[0]
    }

    pub(crate) fn as_pair(&self) -> [libc::c_int; 2] {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes;
        [[a, b, c, d], [e, f, g, h]].map(libc::c_int::from_ne_bytes)
    }
}

impl fmt::Debug for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().fmt(f)
    }
}

/// The machine, as far as it answers without waiting. What it answers about pipes, Unix sockets and the like
/// is in their files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linux;

impl Linux {
    /// A TCP socket for addresses of this family.
    pub(super) fn tcp_socket(self, family: SocketAddr) -> io::Result<RawFd> {
        socket(family, libc::SOCK_STREAM).map(IntoRawFd::into_raw_fd)
    }

    pub(super) fn bind(self, fd: RawFd, address: SocketAddr) -> io::Result<()> {
        let address = SockAddr::from(address);
        // SAFETY: a valid address of the given length.
        check(unsafe { libc::bind(fd, address.as_ptr(), address.len() as libc::socklen_t) })?;
        Ok(())
    }

    pub(super) fn listen(self, fd: RawFd, backlog: u32) -> io::Result<()> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        // SAFETY: no memory is involved.
        check(unsafe { libc::listen(fd, backlog) })?;
        Ok(())
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

    pub(super) fn option(self, fd: RawFd, of: OptionName) -> io::Result<OptionValue> {
        let OptionName { level, name } = of;
        let mut bytes = [0_u8; OptionValue::MOST];
        let mut len = bytes.len() as libc::socklen_t;
        // SAFETY: a valid place of this length, for bytes that need no alignment.
        check(unsafe { libc::getsockopt(fd, level, name, bytes.as_mut_ptr().cast(), &mut len) })?;
        Ok(OptionValue::new(&bytes[..(len as usize).min(OptionValue::MOST)]))
    }

    pub(super) fn set_option(
        self,
        fd: RawFd,
        of: OptionName,
        value: OptionValue,
    ) -> io::Result<()> {
        let OptionName { level, name } = of;
        let bytes = value.as_bytes();
        let len = bytes.len() as libc::socklen_t;
        // SAFETY: valid bytes of this length, which need no alignment.
        check(unsafe { libc::setsockopt(fd, level, name, bytes.as_ptr().cast(), len) })?;
        Ok(())
    }

    /// A second descriptor of the same. The standard numbers are not given away.
    pub(super) fn duplicate(self, fd: RawFd) -> io::Result<RawFd> {
        let least = libc::STDERR_FILENO + 1;
        // SAFETY: no memory is involved.
        check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) })
    }

    /// Closes at once. The number is free afterwards even if an error is reported, so there is nothing to
    /// tell anybody.
    pub(super) fn close(self, fd: RawFd) {
        // SAFETY: the caller gives up a descriptor that it owns.
        unsafe { libc::close(fd) };
    }
}

/// A socket for addresses of this family, of this type (`SOCK_STREAM`, `SOCK_DGRAM`).
pub(super) fn socket(family: SocketAddr, of_type: libc::c_int) -> io::Result<OwnedFd> {
    let family = if family.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::socket(family, of_type | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
