//! What the pipes of a program are: connections that carry counted bytes, sockets for datagrams, a file.

use std::rc::Rc;

use crate::error::{Error, Result};
use crate::exec::checkpoint_if_cancelled;
use crate::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixStream};
use crate::pipe::pipe;

use super::adapters::Local;
use super::counted::Counted;
use super::datagrams::Datagrams;
use super::model::Model;
use super::paper::Paper;
use super::program::Carrier;

/// One of them. What it gets is checked to be what was given to it.
pub(super) trait Link {
    fn recv(&self) -> Local<'_, Result>;
    fn read(&self, size: u32, exact: bool) -> Local<'_, Result>;
    fn write(&self, size: u32, all: bool) -> Local<'_, Result>;

    /// Ends what goes out.
    fn shutdown(&self) -> Local<'_, Result> {
        Box::pin(checkpoint_if_cancelled())
    }

    /// The kernel may be receiving for it though nobody waits.
    fn keeps_going(&self) -> bool;

    /// At the end: all that has to have come has come.
    fn settle(&self) -> Local<'_, Result>;
    fn close(self: Box<Self>) -> Local<'static, Result>;
}

/// Opens one.
pub(super) async fn open(
    model: &Rc<Model>,
    listener: &TcpListener,
    number: usize,
    carrier: Carrier,
) -> Result<Box<dyn Link>> {
    let model = || Rc::clone(model);
    Ok(match carrier {
        Carrier::Tcp => {
            let address = listener.local_addr()?;
            let connect = async || TcpStream::connect_addr(address).await;
            let writer = persist(&model(), connect).await?;
            let (reader, _) = persist(&model(), async || listener.accept().await).await?;
            Box::new(Counted::new(model(), number, writer, reader))
        }
        Carrier::Unix => {
            let (writer, reader) = UnixStream::pair()?;
            Box::new(Counted::new(model(), number, writer, reader))
        }
        Carrier::Pipe => {
            let (reader, writer) = pipe()?;
            Box::new(Counted::new(model(), number, writer, reader))
        }
        Carrier::Udp => {
            let to = UdpSocket::bind("127.0.0.1:0").await?;
            let from = UdpSocket::bind("127.0.0.1:0").await?;
            from.connect(to.local_addr()?).await?;
            Box::new(Datagrams::new(model(), number, from, to))
        }
        Carrier::UnixDatagrams => {
            let (from, to) = UnixDatagram::pair()?;
            Box::new(Datagrams::new(model(), number, from, to))
        }
        Carrier::File => Box::new(Paper::open(model(), number).await?),
    })
}

/// Tries again for as long as nothing but losses come: a tape has only so many of them.
pub(super) async fn persist<T>(model: &Model, attempt: impl AsyncFn() -> Result<T>) -> Result<T> {
    loop {
        match attempt().await {
            Err(Error::Io(_)) if model.loses => {}
            other => return other,
        }
    }
}
