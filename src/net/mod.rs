//! The network: TCP, UDP, and Unix sockets.

mod accept;
mod address;
mod connect;
mod datagram;
mod listener;
pub mod option;
mod resolve;
mod serve;
mod stream;
mod udp;
mod unix;

pub use address::Address;
pub use connect::ConnectBuilder;
pub use listener::{Accept, ListenBuilder, TcpListener};
pub use resolve::{look_up, set_resolver};
pub use serve::{Listen, Peer, Serve, Trouble, serve};
pub use stream::TcpStream;
pub use udp::{RecvFrom, Segments, UdpSocket};
pub use unix::{
    Credentials, UnixAccept, UnixDatagram, UnixListenBuilder, UnixListener, UnixRecvFrom,
    UnixStream,
};
