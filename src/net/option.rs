//! Options of sockets, for what is tuned rarely: one line each, with the type of its value.
//!
//! They are set before a connection is made or an address is listened at, with
//! [`ConnectBuilder::option`](super::ConnectBuilder::option) and
//! [`ListenBuilder::option`](super::ListenBuilder::option) (some only mean something then), or on what is
//! there, with [`TcpStream::set_option`](super::TcpStream::set_option). What a listener accepts inherits the
//! listener's.
//!
//! ```
//! use std::time::Duration;
//! use trine::net::{TcpListener, TcpStream, option};
//!
//! trine::run(async || {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let stream = TcpStream::connect(listener.local_addr()?).await?;
//!     stream.set_option(option::USER_TIMEOUT, Some(Duration::from_secs(20)))?;
//!     stream.set_option(option::TTL, 3)?;
//!     assert_eq!(stream.option(option::TTL)?, 3);
//!     Ok(())
//! })?;
//! # Ok::<(), trine::Error>(())
//! ```

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::ring::{Host, OptionName, OptionValue};

/// An option of a socket whose value is a `T`.
pub struct SocketOption<T> {
    name: OptionName,
    form: Form<T>,
}

/// Whether small segments go out at once (`TCP_NODELAY`); on for what this crate makes.
pub const NODELAY: SocketOption<bool> = tcp(libc::TCP_NODELAY, FLAG);
/// Whether only full segments go out, for as long as this is on, at most 200 ms (`TCP_CORK`).
pub const CORK: SocketOption<bool> = tcp(libc::TCP_CORK, FLAG);
/// Whether what arrives is acknowledged at once (`TCP_QUICKACK`). The kernel changes it back by and by.
pub const QUICKACK: SocketOption<bool> = tcp(libc::TCP_QUICKACK, FLAG);
/// After how long a connection breaks whose bytes nobody acknowledges, in milliseconds, rounded up; `None`:
/// when the kernel gives up (`TCP_USER_TIMEOUT`, RFC 5482).
pub const USER_TIMEOUT: SocketOption<Option<Duration>> = tcp(libc::TCP_USER_TIMEOUT, MILLISECONDS);
/// How many bytes may wait unsent before a send has to wait (`TCP_NOTSENT_LOWAT`); 0: as many as there is
/// room for, or as `net.ipv4.tcp_notsent_lowat` says.
pub const NOTSENT_LOWAT: SocketOption<u32> = tcp(libc::TCP_NOTSENT_LOWAT, NUMBER);
/// The name of the congestion control, at most fifteen bytes (`TCP_CONGESTION`). One that the kernel does not
/// know is `NotFound`.
pub const CONGESTION: SocketOption<String> = tcp(libc::TCP_CONGESTION, TEXT);
/// How many connections of a listener may have sent bytes before they are established
/// (`TCP_FASTOPEN`, RFC 7413); 0: none.
pub const FAST_OPEN: SocketOption<u32> = tcp(libc::TCP_FASTOPEN, NUMBER);
/// Whether an idle connection is probed (`SO_KEEPALIVE`).
pub const KEEPALIVE: SocketOption<bool> = socket(libc::SO_KEEPALIVE, FLAG);
/// After how long an idle connection is first probed, in whole seconds, rounded up (`TCP_KEEPIDLE`).
pub const KEEPALIVE_IDLE: SocketOption<Duration> = tcp(libc::TCP_KEEPIDLE, SECONDS);
/// How long after one probe the next one goes out, in whole seconds, rounded up (`TCP_KEEPINTVL`).
pub const KEEPALIVE_INTERVAL: SocketOption<Duration> = tcp(libc::TCP_KEEPINTVL, SECONDS);
/// After how many probes without an answer the connection breaks (`TCP_KEEPCNT`).
pub const KEEPALIVE_COUNT: SocketOption<u32> = tcp(libc::TCP_KEEPCNT, NUMBER);
/// How many bytes may wait to be received (`SO_RCVBUF`). The kernel takes twice as much, for what it needs
/// besides the bytes, at most `net.core.rmem_max`, and does not change it by itself any more. Set it before
/// connecting or listening: it limits the window that is announced then.
pub const RECEIVE_BUFFER: SocketOption<u32> = socket(libc::SO_RCVBUF, NUMBER);
/// How many bytes may wait to be sent or acknowledged (`SO_SNDBUF`). As with
/// [`RECEIVE_BUFFER`], the kernel takes twice as much.
pub const SEND_BUFFER: SocketOption<u32> = socket(libc::SO_SNDBUF, NUMBER);
/// Whether an address may be listened at while old connections linger there (`SO_REUSEADDR`); on for the
/// listeners that this crate makes.
pub const REUSE_ADDRESS: SocketOption<bool> = socket(libc::SO_REUSEADDR, FLAG);
/// Whether several listeners may share an address (`SO_REUSEPORT`).
pub const REUSE_PORT: SocketOption<bool> = socket(libc::SO_REUSEPORT, FLAG);
/// Over how many routers a packet of IPv4 may go (`IP_TTL`).
pub const TTL: SocketOption<u32> = of(libc::IPPROTO_IP, libc::IP_TTL, NUMBER);
/// Over how many routers a packet of IPv6 may go (`IPV6_UNICAST_HOPS`).
pub const HOP_LIMIT: SocketOption<u32> = of(libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, NUMBER);
/// The type of service of packets of IPv4 (`IP_TOS`); the last two bits are the kernel's (RFC 3168).
pub const TOS: SocketOption<u32> = of(libc::IPPROTO_IP, libc::IP_TOS, NUMBER);
/// The traffic class of packets of IPv6 (`IPV6_TCLASS`); the last two bits are the kernel's.
pub const TRAFFIC_CLASS: SocketOption<u32> = of(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, NUMBER);
/// Whether datagrams may go to broadcast addresses (`SO_BROADCAST`); not unless said otherwise.
pub const BROADCAST: SocketOption<bool> = socket(libc::SO_BROADCAST, FLAG);
/// Has the kernel cut what is sent into datagrams of this many bytes, the last one of what is left: one send
/// in place of up to 64; 0: nothing is cut (`UDP_SEGMENT`).
pub const SEGMENT_SIZE: SocketOption<u32> = of(libc::SOL_UDP, libc::UDP_SEGMENT, NUMBER);
/// Whether the kernel may put datagrams together that come from one sender, are of one length and come at one
/// time (`UDP_GRO`): then [`recv_segments`](super::UdpSocket::recv_segments) says where one ends, and no
/// other receive does.
pub const COALESCE: SocketOption<bool> = of(libc::SOL_UDP, libc::UDP_GRO, FLAG);

/// Of IPv4: over how many routers a multicast may go.
pub(super) const MULTICAST_TTL: SocketOption<u32> =
    of(libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, NUMBER);
/// Of IPv6.
pub(super) const MULTICAST_HOP_LIMIT: SocketOption<u32> =
    of(libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, NUMBER);
/// Of IPv4: whether this machine gets its own multicasts.
pub(super) const MULTICAST_LOOP: SocketOption<bool> =
    of(libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP, FLAG);
/// Of IPv6.
pub(super) const MULTICAST_LOOP_V6: SocketOption<bool> =
    of(libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP, FLAG);
/// A socket of IPv6 takes IPv6 only.
pub(super) const V6_ONLY: SocketOption<bool> = of(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, FLAG);
/// The port of a socket that is bound without one is chosen when it connects, and needs to differ only
/// from those of connections to the same address.
pub(super) const BIND_WITHOUT_PORT: SocketOption<bool> =
    of(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, FLAG);
/// Whoever sets it has to tell the descriptor.
pub(super) const LINGER: SocketOption<Option<Duration>> = socket(libc::SO_LINGER, LINGERING);
/// Reading it takes it.
pub(super) const ERROR: SocketOption<Option<io::Error>> = socket(libc::SO_ERROR, FAILURE);

/// Whether closing waits for the peer.
pub(super) fn waits(linger: Option<Duration>) -> bool {
    linger.is_some_and(|time| !time.is_zero())
}

impl<T> SocketOption<T> {
    pub(super) fn get(self, host: &Host, fd: RawFd) -> io::Result<T> {
        Ok((self.form.decode)(host.option(fd, self.name)?))
    }

    pub(super) fn set(self, host: &Host, fd: RawFd, value: T) -> io::Result<()> {
        host.set_option(fd, self.name, (self.form.encode)(value))
    }
}

/// What is set on a socket before it is used.
#[derive(Clone, Default, Debug)]
pub(super) struct Settings(Vec<(OptionName, OptionValue)>);

impl Settings {
    pub(super) fn add<T>(&mut self, option: SocketOption<T>, value: T) {
        self.0.push((option.name, (option.form.encode)(value)));
    }

    pub(super) fn apply(&self, host: &Host, fd: RawFd) -> io::Result<()> {
        self.0.iter().try_for_each(|&(name, value)| host.set_option(fd, name, value))
    }
}

/// How a type of Rust is one of C.
struct Form<T> {
    encode: fn(T) -> OptionValue,
    decode: fn(OptionValue) -> T,
}

const FLAG: Form<bool> =
    Form { encode: |on| OptionValue::number(on.into()), decode: |value| value.as_number() != 0 };

const NUMBER: Form<u32> = Form {
    encode: |number| OptionValue::number(number.try_into().unwrap_or(libc::c_int::MAX)),
    decode: |value| value.as_number().unsigned_abs(),
};

const SECONDS: Form<Duration> = Form {
    encode: |time| OptionValue::number(whole_seconds(time)),
    decode: |value| Duration::from_secs(value.as_number().unsigned_abs().into()),
};

const MILLISECONDS: Form<Option<Duration>> = Form {
    encode: |time| {
        OptionValue::number(time.map_or(0, |time| rounded_up(time.as_nanos(), 1_000_000)))
    },
    decode: |value| {
        let time = Duration::from_millis(value.as_number().unsigned_abs().into());
        (!time.is_zero()).then_some(time)
    },
};

const TEXT: Form<String> = Form {
    encode: |text| OptionValue::new(text.as_bytes()),
    decode: |value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.trim_end_matches('\0').to_owned()
    },
};

const LINGERING: Form<Option<Duration>> = Form {
    // Zero is a meaning of its own here: reset the connection.
    encode: |time| match time {
        None => OptionValue::pair([0, 0]),
        Some(Duration::ZERO) => OptionValue::pair([1, 0]),
        Some(time) => OptionValue::pair([1, whole_seconds(time)]),
    },
    decode: |value| {
        let [on, seconds] = value.as_pair();
        (on != 0).then_some(Duration::from_secs(seconds.unsigned_abs().into()))
    },
};

const FAILURE: Form<Option<io::Error>> = Form {
    encode: |_| OptionValue::number(0),
    decode: |value| match value.as_number() {
        0 => None,
        errno => Some(io::Error::from_raw_os_error(errno)),
    },
};

/// A part of a second is rounded up, never down to "at once".
fn whole_seconds(time: Duration) -> libc::c_int {
    rounded_up(time.as_nanos(), 1_000_000_000)
}

fn rounded_up(nanoseconds: u128, unit: u128) -> libc::c_int {
    libc::c_int::try_from(nanoseconds.div_ceil(unit)).unwrap_or(libc::c_int::MAX).max(1)
}

const fn tcp<T>(name: libc::c_int, form: Form<T>) -> SocketOption<T> {
    of(libc::IPPROTO_TCP, name, form)
}

const fn socket<T>(name: libc::c_int, form: Form<T>) -> SocketOption<T> {
    of(libc::SOL_SOCKET, name, form)
}

const fn of<T>(level: libc::c_int, name: libc::c_int, form: Form<T>) -> SocketOption<T> {
    SocketOption { name: OptionName { level, name }, form }
}

impl<T> fmt::Debug for SocketOption<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OptionName { level, name } = self.name;
        f.debug_struct("SocketOption").field("level", &level).field("name", &name).finish()
    }
}
