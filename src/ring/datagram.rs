//! The system calls on UDP sockets that answer at once.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

use super::address::SockAddr;
use super::socket::{Linux, OptionName, OptionValue, check, socket};

/// Joining a multicast group, or leaving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) group: IpAddr,
    /// The index of the interface; 0: the system chooses.
    pub(crate) interface: u32,
    pub(crate) joins: bool,
}

const V6_ONLY: OptionName = OptionName { level: libc::IPPROTO_IPV6, name: libc::IPV6_V6ONLY };

impl Linux {
    /// A UDP socket that is bound to `address`.
    pub(super) fn udp_socket(self, address: SocketAddr) -> io::Result<RawFd> {
        let socket = socket(address, libc::SOCK_DGRAM)?;
        if address.is_ipv6() {
            // As for listeners: so that 0.0.0.0 and [::] can be bound side by side.
            self.set_option(socket.as_raw_fd(), V6_ONLY, OptionValue::number(1))?;
        }
        self.bind(socket.as_raw_fd(), address)?;
        Ok(socket.into_raw_fd())
    }

    /// Says who the only peer is from now on. With UDP that needs no waiting.
    pub(super) fn udp_connect(self, fd: RawFd, peer: SocketAddr) -> io::Result<()> {
        let peer = SockAddr::from(peer);
        // SAFETY: a valid address of the given length.
        check(unsafe { libc::connect(fd, peer.as_ptr(), peer.len() as libc::socklen_t) })?;
        Ok(())
    }

    pub(super) fn change_membership(self, fd: RawFd, membership: Membership) -> io::Result<()> {
        let Membership { group, interface, joins } = membership;
        match group {
            IpAddr::V4(group) => {
                let in_order = |ip: Ipv4Addr| libc::in_addr { s_addr: u32::from(ip).to_be() };
                let name = if joins { libc::IP_ADD_MEMBERSHIP } else { libc::IP_DROP_MEMBERSHIP };
                let request = libc::ip_mreqn {
                    imr_multiaddr: in_order(group),
                    imr_address: in_order(Ipv4Addr::UNSPECIFIED),
                    imr_ifindex: interface as libc::c_int,
                };
                set(fd, libc::IPPROTO_IP, name, &request)
            }
            IpAddr::V6(group) => {
                let name =
                    if joins { libc::IPV6_ADD_MEMBERSHIP } else { libc::IPV6_DROP_MEMBERSHIP };
                let request = libc::ipv6_mreq {
                    ipv6mr_multiaddr: libc::in6_addr { s6_addr: group.octets() },
                    ipv6mr_interface: interface,
                };
                set(fd, libc::IPPROTO_IPV6, name, &request)
            }
        }
    }
}

/// Sets an option whose value is longer than an [`OptionValue`].
fn set<T: Copy>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the address of a value, and its length.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const *value).cast(), len) })?;
    Ok(())
}
