//! The network: TCP.

mod address;
mod listener;
mod serve;
mod stream;

pub use address::Address;
pub use listener::{Accept, ListenBuilder, TcpListener};
pub use serve::{Serve, Trouble, serve};
pub use stream::TcpStream;
