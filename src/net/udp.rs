//! UDP.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::error::Result;
use crate::exec;
use crate::io::{fds_of_a_part, owns_descriptor, take};
use crate::op::{BufError, Chunk, IoBuf, IoBufMut, Message};
use crate::ring::{Descriptor, FdKind, Host, Membership};

use super::address::Address;
use super::datagram::{Datagrams, RecvMessage};
use super::option::{self, SocketOption};

/// A UDP socket.
///
/// All methods take `&self`. Several tasks may send at a time; of two that receive, the second one gets
/// [`Error::Busy`](crate::Error::Busy), and a dropped one is none. A datagram that arrives when nobody
/// waits stays with the socket (rule D7) or in the kernel's queue, which drops what it has no room for
/// ([`RECEIVE_BUFFER`](super::option::RECEIVE_BUFFER)). Dropping the socket closes it through the ring.
pub struct UdpSocket {
    socket: Datagrams,
    is_ipv4: bool,
}

impl UdpSocket {
    /// Binds to an address (`"127.0.0.1:7000"`, `"[::]:0"`, a [`SocketAddr`]) or a name (the first of its
    /// addresses that works). Port 0 lets the system choose one. An IPv6 socket takes IPv6 only.
    ///
    /// Cancel class: total. A name is looked up in a thread, which is left alone when the wait for it
    /// is cancelled.
    ///
    /// # Errors
    /// What the operating system says of the address; `Cancelled`; [`Error::NoRun`](crate::Error::NoRun).
    ///
    /// ```
    /// use trine::net::UdpSocket;
    ///
    /// trine::run(async || {
    ///     let server = UdpSocket::bind("127.0.0.1:0").await?;
    ///     let client = UdpSocket::bind("127.0.0.1:0").await?;
    ///     client.send_to("hello", server.local_addr()?).await?;
    ///     let (hello, from) = server.recv_from().await?;
    ///     assert_eq!((&*hello, from), (&b"hello"[..], client.local_addr()?));
    ///     server.send_to(hello, from).await?;
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn bind(address: impl Into<Address>) -> Result<UdpSocket> {
        let run = exec::current()?;
        let bind = |address: SocketAddr| {
            let socket = run.host().udp_socket(address)?;
            let socket = Datagrams::new(Rc::clone(&run), socket).with_segments();
            Ok(UdpSocket { socket, is_ipv4: address.is_ipv4() })
        };
        address.into().first_that_works(&run, bind).await
    }

    /// Takes a descriptor from elsewhere.
    ///
    /// # Errors
    /// `InvalidInput` for what is no UDP socket, and for a non-blocking one, with which the ring
    /// cannot wait; [`Error::NoRun`](crate::Error::NoRun).
    pub fn from_fd(fd: impl Into<Descriptor>) -> Result<UdpSocket> {
        let (run, fd) = take(fd, FdKind::UdpSocket)?;
        let is_ipv4 = run.host().local_addr(fd.as_raw_fd())?.is_ipv4();
        let socket = Datagrams::new(run, fd).with_segments();
        Ok(UdpSocket { socket, is_ipv4 })
    }

    /// Makes an address the only one that this socket sends to and receives from. What has arrived from
    /// others before is received all the same. Connected again, it has another peer.
    ///
    /// Nothing is sent, so this succeeds whether anybody is there or not. If nobody is, a later send or
    /// receive says so with `ConnectionRefused`, once for each answer of the network (RFC 1122, 4.1.3.3);
    /// the socket goes on working.
    ///
    /// Cancel class: total, as for [`bind`](UdpSocket::bind).
    ///
    /// # Errors
    /// What the operating system says of the address; `Cancelled`.
    ///
    /// ```
    /// use trine::net::UdpSocket;
    ///
    /// trine::run(async || {
    ///     let server = UdpSocket::bind("127.0.0.1:0").await?;
    ///     let client = UdpSocket::bind("127.0.0.1:0").await?;
    ///     client.connect(server.local_addr()?).await?;
    ///     client.send("hello").await?;
    ///     assert_eq!(server.recv().await?, *b"hello");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn connect(&self, address: impl Into<Address>) -> Result {
        let run = self.socket.run();
        exec::check_run(run)?;
        let connect = |address| run.host().udp_connect(self.as_raw_fd(), address);
        address.into().first_that_works(run, connect).await
    }

    /// Sends a datagram to the address that this socket is [connected](UdpSocket::connect) to, whole or
    /// not at all.
    ///
    /// Cancel class: total; a dropped send has sent its datagram or not. The buffer comes back, also with
    /// the error. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says if it is not (`EDESTADDRREQ`); `ConnectionRefused` if nobody was there
    /// for a datagram sent before; `EMSGSIZE` if it is too large; `Cancelled`.
    pub fn send<B: IoBuf>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        self.socket.send(buf, None)
    }

    /// Sends a datagram to an address, whole or not at all.
    ///
    /// Cancel class: total; a dropped send has sent its datagram or not. The buffer comes back, also with
    /// the error. Linux 6.1.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` for an address of the other family; `EMSGSIZE` if the datagram is too large (more than
    /// 65,507 bytes over IPv4); `PermissionDenied` for a broadcast that was not
    /// [allowed](super::option::BROADCAST); `Cancelled`.
    pub fn send_to<B: IoBuf>(
        &self,
        buf: B,
        address: SocketAddr,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        self.socket.send(buf, Some(address.into()))
    }

    /// Receives a datagram, and says who sent it. The kernel puts it into a buffer of a pool when it
    /// comes: a waiting socket costs none, and no datagram is too large. An empty one is an empty
    /// [`Chunk`]; there is no end.
    ///
    /// Awaited again after `Cancelled`, it starts anew. What arrives for a dropped or cancelled receive
    /// stays with the socket and is what the next one returns (rule D7), so a `select!` loses nothing.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// `ConnectionRefused` if nobody was there for a datagram sent before, by a
    /// [connected](UdpSocket::connect) socket; [`Error::Busy`](crate::Error::Busy) if another task receives;
    /// `Cancelled`.
    pub fn recv_from(&self) -> RecvFrom<'_> {
        RecvFrom { receive: self.socket.recv() }
    }

    /// As [`recv_from`](UdpSocket::recv_from), where it does not matter who has sent it, as with a
    /// [connected](UdpSocket::connect) socket.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// As [`recv_from`](UdpSocket::recv_from).
    pub fn recv(&self) -> impl Future<Output = Result<Chunk>> + use<'_> {
        let mut receive = self.socket.recv();
        poll_fn(move |cx| Pin::new(&mut receive).poll(cx).map_ok(Message::into_bytes))
    }

    /// Receives datagrams that the kernel has put together, as [`COALESCE`](super::option::COALESCE) has it do:
    /// of those that come from one sender, are of one length and come at one time it makes one receive.
    /// Others come alone.
    ///
    /// Awaited again after `Cancelled`, it starts anew. What arrives for a dropped or cancelled one stays with
    /// the socket, as with [`recv_from`](UdpSocket::recv_from).
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// As [`recv_from`](UdpSocket::recv_from).
    ///
    /// ```
    /// use trine::net::{UdpSocket, option};
    ///
    /// trine::run(async || {
    ///     let (one, two) =
    ///         (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    ///     two.set_option(option::COALESCE, true)?;
    ///     one.set_option(option::SEGMENT_SIZE, 4)?;
    ///     one.send_to("onlyfourletters.", two.local_addr()?).await?;
    ///     let mut words = Vec::new();
    ///     while words.len() < 4 {
    ///         let segments = two.recv_segments().await?;
    ///         words.extend(segments.iter().map(<[u8]>::to_vec));
    ///     }
    ///     assert_eq!(words, [b"only", b"four", b"lett", b"ers."]);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn recv_segments(&self) -> impl Future<Output = Result<Segments>> + use<'_> {
        let mut receive = self.socket.recv();
        poll_fn(move |cx| {
            let message = ready!(Pin::new(&mut receive).poll(cx))?;
            let size = message.segment.map_or(message.bytes().len(), usize::from);
            let from = message.sender().try_into()?;
            Poll::Ready(Ok(Segments { from, size, bytes: message.into_bytes() }))
        })
    }

    /// Receives a datagram into `buf`: replaces its content, at most its capacity, and says who sent it.
    ///
    /// Cancel class: total; a dropped receive leaves what came for it with the socket. The buffer comes
    /// back with the error. Linux 6.1.
    ///
    /// # Errors
    /// As [`recv_from`](UdpSocket::recv_from), `InvalidInput` for a buffer without room, and `InvalidData`
    /// for a datagram that is larger than the buffer: the error has what there was room for, and the rest
    /// of the datagram is lost.
    ///
    /// ```
    /// use trine::net::UdpSocket;
    ///
    /// trine::run(async || {
    ///     let socket = UdpSocket::bind("127.0.0.1:0").await?;
    ///     socket.send_to("hello", socket.local_addr()?).await?;
    ///     let (buf, _from) = socket.recv_into(Vec::with_capacity(1500)).await?;
    ///     assert_eq!(buf, b"hello");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn recv_into<B: IoBufMut>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<(B, SocketAddr), BufError<B>>> + use<'_, B> {
        self.socket.recv_into(buf)
    }

    /// Closes the socket and waits until that is done. What was sent goes out.
    ///
    /// Cancel class: terminal. In a cancelled scope it is closed all the same, and `Cancelled` is reported
    /// (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what the operating system says; it is closed in any case.
    pub async fn close(self) -> Result {
        self.socket.close().await
    }

    /// The address of this socket.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.host().local_addr(self.as_raw_fd())
    }

    /// The address that this socket is connected to.
    ///
    /// # Errors
    /// `NotConnected` if it is not.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.host().peer_addr(self.as_raw_fd())
    }

    fn host(&self) -> &Host {
        self.socket.run().host()
    }

    /// The one that is for the family of this socket.
    fn of<T>(&self, v4: SocketOption<T>, v6: SocketOption<T>) -> SocketOption<T> {
        if self.is_ipv4 { v4 } else { v6 }
    }

    /// The value of an [option](mod@super::option).
    ///
    /// # Errors
    /// What the operating system says.
    pub fn option<T>(&self, option: SocketOption<T>) -> io::Result<T> {
        option.get(self.host(), self.as_raw_fd())
    }

    /// Sets an [option](mod@super::option): [`BROADCAST`](super::option::BROADCAST), say, or
    /// [`RECEIVE_BUFFER`](super::option::RECEIVE_BUFFER).
    ///
    /// # Errors
    /// What the operating system says: that it does not know the option, or that the value will not do.
    pub fn set_option<T>(&self, option: SocketOption<T>, value: T) -> io::Result<()> {
        option.set(self.host(), self.as_raw_fd(), value)
    }

    fn change_membership(&self, group: IpAddr, interface: u32, joins: bool) -> io::Result<()> {
        let membership = Membership { group, interface, joins };
        self.host().change_membership(self.as_raw_fd(), membership)
    }

    /// How many hops what it sends may make (`IP_TTL`, `IPV6_UNICAST_HOPS`).
    ///
    /// # Errors
    /// What the operating system says.
    pub fn ttl(&self) -> io::Result<u32> {
        self.option(self.of(option::TTL, option::HOP_LIMIT))
    }

    /// Sets how many hops what it sends may make, at most 255.
    ///
    /// # Errors
    /// `InvalidInput` for more, and over IPv4 for 0.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.set_option(self.of(option::TTL, option::HOP_LIMIT), hops)
    }

    /// Receives what is sent to a multicast group, on the interface that the system chooses.
    /// [`join_multicast_on`](UdpSocket::join_multicast_on) takes another one.
    ///
    /// A socket that is bound to the unspecified address gets what comes to its port for any group that
    /// any socket of the machine has joined; bind to the group's address to get that group alone.
    ///
    /// # Errors
    /// `InvalidInput` for what is no multicast group, `AddrInUse` if it was joined already.
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    /// use trine::net::UdpSocket;
    ///
    /// trine::run(async || {
    ///     let group = Ipv4Addr::new(239, 255, 7, 7);
    ///     let socket = UdpSocket::bind("0.0.0.0:0").await?;
    ///     # let interface = 1; // the loopback interface
    ///     socket.join_multicast_on(group, interface)?;
    ///     socket.leave_multicast_on(group, interface)?;
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn join_multicast(&self, group: impl Into<IpAddr>) -> io::Result<()> {
        self.join_multicast_on(group, 0)
    }

    /// Receives what is sent to a multicast group on the interface with this index (`if_nametoindex`).
    ///
    /// # Errors
    /// As [`join_multicast`](UdpSocket::join_multicast), and what the operating system says of the
    /// interface.
    pub fn join_multicast_on(&self, group: impl Into<IpAddr>, interface: u32) -> io::Result<()> {
        self.change_membership(group.into(), interface, true)
    }

    /// Leaves a group that was [joined](UdpSocket::join_multicast). Closing leaves all of them.
    ///
    /// # Errors
    /// `AddrNotAvailable` if it was not joined.
    pub fn leave_multicast(&self, group: impl Into<IpAddr>) -> io::Result<()> {
        self.leave_multicast_on(group, 0)
    }

    /// Leaves a group that was joined on the interface with this index.
    ///
    /// # Errors
    /// As [`leave_multicast`](UdpSocket::leave_multicast).
    pub fn leave_multicast_on(&self, group: impl Into<IpAddr>, interface: u32) -> io::Result<()> {
        self.change_membership(group.into(), interface, false)
    }

    /// How many hops its multicasts may make (`IP_MULTICAST_TTL`, `IPV6_MULTICAST_HOPS`); one unless said
    /// otherwise.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn multicast_ttl(&self) -> io::Result<u32> {
        self.option(self.of(option::MULTICAST_TTL, option::MULTICAST_HOP_LIMIT))
    }

    /// Sets how many hops its multicasts may make, at most 255; with 0 none leaves the machine.
    ///
    /// # Errors
    /// `InvalidInput` for more.
    pub fn set_multicast_ttl(&self, hops: u32) -> io::Result<()> {
        self.set_option(self.of(option::MULTICAST_TTL, option::MULTICAST_HOP_LIMIT), hops)
    }

    /// Whether sockets of this machine get its multicasts too (`IP_MULTICAST_LOOP`); they do unless said
    /// otherwise.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn multicast_loop(&self) -> io::Result<bool> {
        self.option(self.of(option::MULTICAST_LOOP, option::MULTICAST_LOOP_V6))
    }

    /// Sets whether sockets of this machine get its multicasts too.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn set_multicast_loop(&self, on: bool) -> io::Result<()> {
        self.set_option(self.of(option::MULTICAST_LOOP, option::MULTICAST_LOOP_V6), on)
    }
}

/// A datagram, or several of one length from one sender, one behind the other: [`UdpSocket::recv_segments`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Segments {
    /// Who sent them.
    pub from: SocketAddr,
    /// How long each is; the last one may be shorter.
    pub size: usize,
    /// All of them.
    pub bytes: Chunk,
}

impl Segments {
    /// One datagram after the other; an empty one is one too.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let count = self.bytes.len().div_ceil(self.size.max(1)).max(1);
        (0..count).map(|at| {
            let begin = at * self.size;
            &self.bytes[begin..self.bytes.len().min(begin + self.size)]
        })
    }
}

/// The wait for a datagram: [`UdpSocket::recv_from`].
#[must_use = "nothing is received unless it is awaited"]
pub struct RecvFrom<'a> {
    receive: RecvMessage<'a>,
}

impl Future for RecvFrom<'_> {
    type Output = Result<(Chunk, SocketAddr)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let message = ready!(Pin::new(&mut self.receive).poll(cx))?;
        let from = message.sender().try_into()?;
        Poll::Ready(Ok((message.into_bytes(), from)))
    }
}

impl fmt::Debug for RecvFrom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvFrom").finish_non_exhaustive()
    }
}

owns_descriptor!(UdpSocket, socket);
fds_of_a_part!(UdpSocket, socket, is_ipv4);
