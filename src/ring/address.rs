//! Addresses in the form that the kernel reads; those of Unix sockets are in `unix`.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address as `sockaddr`, at a place of its own.
#[derive(Clone, Copy)]
pub(crate) struct SockAddr {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl SockAddr {
    /// No address at all.
    pub(crate) const NONE: SockAddr = SockAddr::with_room(0);

    /// Room for an address of at most so many bytes, which somebody fills in.
    pub(super) const fn with_room(len: usize) -> SockAddr {
        assert!(len <= size_of::<libc::sockaddr_storage>());
        // SAFETY: all zeros is a valid sockaddr_storage, of no family.
        let storage = unsafe { MaybeUninit::zeroed().assume_init() };
        SockAddr { storage, len: len as libc::socklen_t }
    }

    /// The address that these bytes are in the kernel's form; what is too long for one is cut.
    pub(super) fn from_bytes(bytes: &[u8]) -> SockAddr {
        let len = bytes.len().min(size_of::<libc::sockaddr_storage>());
        let mut address = SockAddr::with_room(len);
        // SAFETY: not more than the storage has, which is another place, and any bytes are valid there.
        unsafe { address.as_mut_ptr().copy_from_nonoverlapping(bytes.as_ptr(), len) };
        address
    }

    /// The bytes that it has.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: all bytes of the storage are initialised, and it has not fewer than `len`.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), self.len()) }
    }

    /// The same with another length: the kernel tells how much of the room it has filled.
    pub(super) fn cut(&self, len: usize) -> SockAddr {
        let len = len.min(size_of::<libc::sockaddr_storage>()) as libc::socklen_t;
        SockAddr { len, ..*self }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        (&raw mut self.storage).cast()
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    /// Lets a system call fill an address in.
    pub(super) fn filled(
        call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int,
    ) -> io::Result<SockAddr> {
        let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        if call(storage.as_mut_ptr().cast(), &mut len) != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all zeros is a valid sockaddr_storage, and the kernel wrote a valid one over it.
        Ok(SockAddr { storage: unsafe { storage.assume_init() }, len })
    }
}

impl From<SocketAddr> for SockAddr {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => pack(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => pack(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            }),
        }
    }
}

impl TryFrom<SockAddr> for SocketAddr {
    type Error = io::Error;

    fn try_from(address: SockAddr) -> io::Result<SocketAddr> {
        match libc::c_int::from(address.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says that this is a sockaddr_in, and the storage is larger.
                let v4: libc::sockaddr_in = unsafe { mem::transmute_copy(&address.storage) };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above, a sockaddr_in6.
                let v6: libc::sockaddr_in6 = unsafe { mem::transmute_copy(&address.storage) };
                let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
                Ok(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            family => {
                let text = format!("an address of family {family}, which is not an internet one");
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        }
    }
}

/// Lays a `sockaddr_in` or `sockaddr_in6` into a storage.
fn pack<A>(address: A) -> SockAddr {
    const { assert!(size_of::<A>() <= size_of::<libc::sockaddr_storage>()) };
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    // SAFETY: the storage is larger than and aligned for every sockaddr, and all zeros is valid.
    let storage = unsafe {
        storage.as_mut_ptr().cast::<A>().write(address);
        storage.assume_init()
    };
    SockAddr { storage, len: size_of::<A>() as libc::socklen_t }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_the_kernels_form_and_back() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::try_from(SockAddr::from(address)).unwrap(), address);
        }
    }

    #[test]
    fn an_address_of_another_family_is_refused() {
        let mut address = SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 80)));
        address.storage.ss_family = libc::AF_UNIX as libc::sa_family_t;
        assert!(SocketAddr::try_from(address).is_err());
    }
}
