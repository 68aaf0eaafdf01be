//! Unix sockets: within one machine, by a path, by an abstract name, or without a name.

mod datagram;
mod listener;
mod stream;

pub use datagram::{UnixDatagram, UnixRecvFrom};
pub use listener::{UnixAccept, UnixListenBuilder, UnixListener};
pub use stream::{Credentials, UnixStream};
