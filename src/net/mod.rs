//! The network: TCP.

mod address;
mod close;
mod half;
mod listener;
mod receive;
mod send;
mod serve;
mod stream;

pub use address::Address;
pub use listener::{Accept, ListenBuilder, TcpListener};
pub use serve::{Serve, Trouble, serve};
pub use stream::{Recv, TcpStream};
