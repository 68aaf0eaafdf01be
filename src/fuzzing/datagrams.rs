//! Sockets for datagrams, each of which has a number.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::error::Result;
use crate::net::{UdpSocket, UnixDatagram};
use crate::op::{BufError, Chunk};
use crate::scope::move_on_after;

use super::adapters::Local;
use super::counted::bytes_from;
use super::links::Link;
use super::model::Model;

/// What a family of sockets can do, here.
pub(super) trait Socket: Sized + 'static {
    /// The network may lose what was sent, and deliver it twice.
    const LOSES: bool;
    fn send(&self, bytes: Vec<u8>) -> impl Future<Output = Result<(), BufError<Vec<u8>>>>;
    fn recv(&self) -> impl Future<Output = Result<Chunk>>;
    fn recv_into(&self) -> impl Future<Output = Result<Vec<u8>, BufError<Vec<u8>>>>;
    fn close(self) -> impl Future<Output = Result>;
}

impl Socket for UdpSocket {
    const LOSES: bool = true;

    async fn send(&self, bytes: Vec<u8>) -> Result<(), BufError<Vec<u8>>> {
        UdpSocket::send(self, bytes).await.map(drop)
    }

    async fn recv(&self) -> Result<Chunk> {
        UdpSocket::recv(self).await
    }

    async fn recv_into(&self) -> Result<Vec<u8>, BufError<Vec<u8>>> {
        UdpSocket::recv_into(self, Vec::with_capacity(LONGEST)).await.map(|(bytes, _)| bytes)
    }

    async fn close(self) -> Result {
        UdpSocket::close(self).await
    }
}

impl Socket for UnixDatagram {
    const LOSES: bool = false;

    async fn send(&self, bytes: Vec<u8>) -> Result<(), BufError<Vec<u8>>> {
        UnixDatagram::send(self, bytes).await.map(drop)
    }

    async fn recv(&self) -> Result<Chunk> {
        UnixDatagram::recv(self).await
    }

    async fn recv_into(&self) -> Result<Vec<u8>, BufError<Vec<u8>>> {
        UnixDatagram::recv_into(self, Vec::with_capacity(LONGEST)).await.map(|(bytes, _)| bytes)
    }

    async fn close(self) -> Result {
        UnixDatagram::close(self).await
    }
}

const LONGEST: usize = 1000;
/// Bytes for the number.
const HEAD: usize = 8;

/// What is known of a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Its send has not ended, and may never be heard of.
    Begun,
    Sent,
    /// Its send was cancelled: it was never sent (rule D2).
    Never,
    Received,
}

pub(super) struct Datagrams<S> {
    model: Rc<Model>,
    number: usize,
    from: S,
    to: S,
    known: RefCell<BTreeMap<u64, Known>>,
    keeps_going: Cell<bool>,
}

impl<S: Socket> Datagrams<S> {
    pub(super) fn new(model: Rc<Model>, number: usize, from: S, to: S) -> Datagrams<S> {
        let (known, keeps_going) = (RefCell::default(), Cell::new(false));
        Datagrams { model, number, from, to, known, keeps_going }
    }

    /// Rules D1, D2, D7: each comes once and whole, and none that was not sent.
    fn received(&self, bytes: &[u8]) {
        let Datagrams { model, number, .. } = self;
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
            return model.violated(format_args!("D7: a datagram of pipe{number} is cut"));
        };
        let which = u64::from_le_bytes(*head);
        let before = self.known.borrow_mut().insert(which, Known::Received);
        let may_repeat = S::LOSES && model.loses;
        let is_right = match before {
            None | Some(Known::Never) => false,
            Some(Known::Begun | Known::Sent) => true,
            Some(Known::Received) => may_repeat,
        };
        model.check(is_right, || {
            format!("D2, D7: datagram {which} of pipe{number} came, and should not have")
        });
        let size = size_of_number(which);
        model.check(*rest == bytes_from(which)[..size], || {
            format!("D7: datagram {which} of pipe{number} is not what was sent")
        });
    }

    fn is_missing(&self) -> Option<u64> {
        let known = self.known.borrow();
        known.iter().find(|(_, known)| **known == Known::Sent).map(|(which, _)| *which)
    }
}

/// How long the rest of a datagram is.
fn size_of_number(which: u64) -> usize {
    (which * 37 % (LONGEST - HEAD) as u64) as usize
}

impl<S: Socket> Link for Datagrams<S> {
    fn recv(&self) -> Local<'_, Result> {
        Box::pin(async {
            self.keeps_going.set(true);
            let bytes = self.to.recv().await?;
            self.received(&bytes);
            Ok(())
        })
    }

    fn read(&self, _: u32, _: bool) -> Local<'_, Result> {
        Box::pin(async {
            let bytes = self.to.recv_into().await?;
            self.received(&bytes);
            Ok(())
        })
    }

    fn write(&self, _: u32, _: bool) -> Local<'_, Result> {
        Box::pin(async {
            let which = self.known.borrow().len() as u64;
            self.known.borrow_mut().insert(which, Known::Begun);
            let mut bytes = which.to_le_bytes().to_vec();
            bytes.extend_from_slice(&bytes_from(which)[..size_of_number(which)]);
            let sent = self.from.send(bytes).await;
            let is_sent = sent.is_ok();
            let mut known = self.known.borrow_mut();
            let place = known.entry(which).or_insert(Known::Begun);
            match (*place, is_sent) {
                (Known::Begun, true) => *place = Known::Sent,
                (Known::Begun, false) => *place = Known::Never,
                (_, true) => {}
                (_, false) => self.model.violated(format_args!(
                    "D2: datagram {which} of pipe{} came, but was said to be cancelled",
                    self.number
                )),
            }
            Ok(sent?)
        })
    }

    fn keeps_going(&self) -> bool {
        self.keeps_going.get()
    }

    fn settle(&self) -> Local<'_, Result> {
        Box::pin(async {
            while let Some(which) = self.is_missing() {
                let next = move_on_after(Duration::from_secs(1), async |_| self.to.recv().await);
                match next.await? {
                    Some(bytes) => self.received(&bytes),
                    None => {
                        self.model.check(S::LOSES && self.model.loses, || {
                            format!("D7: datagram {which} of pipe{} never came", self.number)
                        });
                        break;
                    }
                }
            }
            Ok(())
        })
    }

    fn close(self: Box<Self>) -> Local<'static, Result> {
        Box::pin(async move {
            self.from.close().await?;
            self.to.close().await
        })
    }
}
