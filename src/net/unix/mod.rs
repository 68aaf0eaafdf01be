//! Unix sockets: within one machine, by a path, by an abstract name, or without a name.

mod datagram;
mod listener;
mod stream;

use std::future::poll_fn;
use std::rc::Rc;

use crate::error::Result;
use crate::exec::Run;

pub use datagram::{UnixDatagram, UnixRecvFrom};
pub use listener::{UnixAccept, UnixListenBuilder, UnixListener};
pub use stream::{Credentials, UnixStream};

/// What an operation does that the kernel answers at once (rules A8, A2).
async fn answer_at_once(run: &Rc<Run>) -> Result {
    poll_fn(|_| run.cancel_point()).await?;
    let mut pause = None;
    poll_fn(|cx| run.poll_budget(&mut pause, cx)).await;
    Ok(())
}
