//! The network: TCP.

mod address;
mod connect;
mod listener;
pub mod option;
mod resolve;
mod serve;
mod stream;

pub use address::Address;
pub use connect::ConnectBuilder;
pub use listener::{Accept, ListenBuilder, TcpListener};
pub use resolve::{look_up, set_resolver};
pub use serve::{Serve, Trouble, serve};
pub use stream::TcpStream;
