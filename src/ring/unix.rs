//! The system calls on Unix sockets that answer at once, and their addresses in the kernel's form.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use super::address::SockAddr;
use super::socket::{Linux, OptionName, check};

/// What a Unix socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnixKind {
    Stream,
    Datagram,
}

/// Who has made the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerIds {
    pub(crate) process: i32,
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(pub(super) u64, pub(super) u64);

impl UnixKind {
    fn socket_type(self) -> libc::c_int {
        let kind = match self {
            UnixKind::Stream => libc::SOCK_STREAM,
            UnixKind::Datagram => libc::SOCK_DGRAM,
        };
        kind | libc::SOCK_CLOEXEC
    }
}

impl Linux {
    pub(super) fn unix_socket(self, kind: UnixKind) -> io::Result<RawFd> {
        unix_socket(kind).map(IntoRawFd::into_raw_fd)
    }

    /// Two sockets that are connected to each other.
    pub(super) fn unix_pair(self, kind: UnixKind) -> io::Result<(RawFd, RawFd)> {
        let mut pair = [-1; 2];
        // SAFETY: there is room for two descriptors.
        check(unsafe {
            libc::socketpair(libc::AF_UNIX, kind.socket_type(), 0, pair.as_mut_ptr())
        })?;
        Ok((pair[0], pair[1]))
    }

    /// A socket that listens under this name.
    pub(super) fn unix_listen(self, name: &SockAddr, backlog: u32) -> io::Result<RawFd> {
        let socket = unix_socket(UnixKind::Stream)?;
        bind(&socket, name)?;
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        // SAFETY: no memory is involved.
        check(unsafe { libc::listen(socket.as_raw_fd(), backlog) })?;
        Ok(socket.into_raw_fd())
    }

    /// A socket for datagrams that has this name.
    pub(super) fn unix_bound(self, name: &SockAddr) -> io::Result<RawFd> {
        let socket = unix_socket(UnixKind::Datagram)?;
        bind(&socket, name)?;
        Ok(socket.into_raw_fd())
    }

    /// Says who the only peer of a socket for datagrams is from now on.
    pub(super) fn unix_connect(self, fd: RawFd, name: &SockAddr) -> io::Result<()> {
        // SAFETY: a valid address of the given length.
        check(unsafe { libc::connect(fd, name.as_ptr(), name.len() as libc::socklen_t) })?;
        Ok(())
    }

    pub(super) fn local_name(self, fd: RawFd) -> io::Result<SockAddr> {
        // SAFETY: `filled` gives a valid place and its length.
        SockAddr::filled(|place, len| unsafe { libc::getsockname(fd, place, len) })
    }

    pub(super) fn peer_name(self, fd: RawFd) -> io::Result<SockAddr> {
        // SAFETY: as above.
        SockAddr::filled(|place, len| unsafe { libc::getpeername(fd, place, len) })
    }

    pub(super) fn peer_ids(self, fd: RawFd) -> io::Result<PeerIds> {
        let credentials = OptionName { level: libc::SOL_SOCKET, name: libc::SO_PEERCRED };
        let value = self.option(fd, credentials)?;
        // `struct ucred`: three numbers.
        let number = |at: usize| value.as_bytes().get(at..).and_then(<[u8]>::first_chunk::<4>);
        let [Some(&process), Some(&user), Some(&group)] = [0, 4, 8].map(number) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(PeerIds {
            process: i32::from_ne_bytes(process),
            user: u32::from_ne_bytes(user),
            group: u32::from_ne_bytes(group),
        })
    }

    pub(super) fn file_id(self, path: &Path) -> io::Result<FileId> {
        fs::symlink_metadata(path).map(|file| FileId(file.dev(), file.ino()))
    }

    pub(super) fn unlink(self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

fn unix_socket(kind: UnixKind) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind.socket_type(), 0) })?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(socket: &OwnedFd, name: &SockAddr) -> io::Result<()> {
    // SAFETY: a valid address of the given length.
    check(unsafe { libc::bind(socket.as_raw_fd(), name.as_ptr(), name.len() as libc::socklen_t) })?;
    Ok(())
}

/// Where a name begins in an address.
const NAME: usize = offset_of!(libc::sockaddr_un, sun_path);

impl SockAddr {
    /// A Unix address with this name, as the kernel reads it: a path with a zero at its end, or a zero and
    /// an abstract name, or nothing.
    pub(super) fn unix(name: &[u8]) -> SockAddr {
        let mut bytes = (libc::AF_UNIX as libc::sa_family_t).to_ne_bytes().to_vec();
        debug_assert_eq!(bytes.len(), NAME);
        bytes.extend_from_slice(name);
        SockAddr::from_bytes(&bytes)
    }

    #[cfg(feature = "testing")]
    pub(super) fn is_unix(&self) -> bool {
        self.bytes().starts_with(&(libc::AF_UNIX as libc::sa_family_t).to_ne_bytes())
    }

    /// The name in a Unix address.
    pub(super) fn unix_name(&self) -> &[u8] {
        self.bytes().get(NAME..).unwrap_or_default()
    }
}

impl From<&SocketAddr> for SockAddr {
    fn from(address: &SocketAddr) -> SockAddr {
        match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => SockAddr::unix(&[path.as_os_str().as_bytes(), &[0]].concat()),
            (None, Some(name)) => SockAddr::unix(&[&[0], name].concat()),
            (None, None) => SockAddr::unix(&[]),
        }
    }
}

impl TryFrom<SockAddr> for SocketAddr {
    type Error = io::Error;

    fn try_from(address: SockAddr) -> io::Result<SocketAddr> {
        match address.unix_name() {
            [0, name @ ..] => SocketAddr::from_abstract_name(name),
            name => {
                let path = name.split(|&byte| byte == 0).next().unwrap_or_default();
                // An empty one is the address of a socket without a name. One of 108 bytes the kernel
                // takes, and the standard library has no value for it: to us it has no name.
                SocketAddr::from_pathname(OsStr::from_bytes(path))
                    .or_else(|_| SocketAddr::from_pathname(""))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_way_to_the_kernels_form_and_back() {
        let path = SocketAddr::from_pathname("/run/some.sock").unwrap();
        let raw = SockAddr::from(&path);
        assert_eq!(raw.unix_name(), b"/run/some.sock\0");
        assert_eq!(SocketAddr::try_from(raw).unwrap().as_pathname(), path.as_pathname());
        let hidden = SocketAddr::from_abstract_name(b"a\0b").unwrap();
        let raw = SockAddr::from(&hidden);
        assert_eq!(raw.unix_name(), b"\0a\0b");
        assert_eq!(SocketAddr::try_from(raw).unwrap().as_abstract_name(), Some(&b"a\0b"[..]));
        for unnamed in [SockAddr::unix(&[]), SockAddr::NONE] {
            assert!(SocketAddr::try_from(unnamed).unwrap().is_unnamed());
        }
    }
}
