//! What programs work on: their pipes, and a listener.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::exec::{checkpoint, checkpoint_if_cancelled, yield_shielded};
use crate::net::{TcpListener, TcpStream};
use crate::runtime::nop;
use crate::scope::move_on_after;
use crate::time::{Instant, sleep};

use super::links::{self, Link, persist};
use super::model::Model;
use super::program::{Action, Carrier};

pub(super) struct Objects {
    model: Rc<Model>,
    pipes: Vec<Box<dyn Link>>,
    listener: TcpListener,
    /// Connections that were made, and that were accepted with where they come from.
    joined: RefCell<Vec<TcpStream>>,
    accepted: RefCell<Vec<(TcpStream, SocketAddr)>>,
    came: RefCell<Vec<SocketAddr>>,
    /// Connects that were begun.
    begun: Cell<usize>,
}

impl Objects {
    pub(super) async fn open(model: &Rc<Model>, pipes: &[Carrier]) -> Result<Objects> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut opened = Vec::new();
        for (number, carrier) in pipes.iter().enumerate() {
            opened.push(links::open(model, &listener, number, *carrier).await?);
        }
        Ok(Objects {
            model: Rc::clone(model),
            pipes: opened,
            listener,
            joined: RefCell::default(),
            accepted: RefCell::default(),
            came: RefCell::default(),
            begun: Cell::new(0),
        })
    }

    /// Operations that these keep going when nobody waits: one for each half that received so, and
    /// that of the listener, which has accepted before.
    pub(super) fn keep_going(&self) -> usize {
        1 + self.pipes.iter().filter(|pipe| pipe.keeps_going()).count()
    }

    pub(super) async fn act(self: Rc<Self>, action: Action) -> Result {
        match action {
            Action::Nop => nop().await,
            Action::Checkpoint => checkpoint().await,
            Action::CheckpointIfCancelled => checkpoint_if_cancelled().await,
            Action::YieldShielded => {
                yield_shielded().await;
                Ok(())
            }
            Action::Sleep(time) => self.sleep(Duration::from_millis(time.into())).await,
            Action::Recv(pipe) => self.pipe(pipe).recv().await,
            Action::Read(pipe, size) => self.pipe(pipe).read(size, false).await,
            Action::ReadExact(pipe, size) => self.pipe(pipe).read(size, true).await,
            Action::Write(pipe, size) => self.pipe(pipe).write(size, false).await,
            Action::WriteAll(pipe, size) => self.pipe(pipe).write(size, true).await,
            Action::Shutdown(pipe) => self.pipe(pipe).shutdown().await,
            Action::Accept => self.accept().await,
            Action::Connect => {
                self.begun.set(self.begun.get() + 1);
                let stream = TcpStream::connect_addr(self.listener.local_addr()?).await?;
                self.joined.borrow_mut().push(stream);
                Ok(())
            }
            Action::Close => self.close_one().await,
        }
    }

    fn pipe(&self, pipe: u8) -> &dyn Link {
        &*self.pipes[usize::from(pipe) % self.pipes.len()]
    }

    async fn sleep(&self, time: Duration) -> Result {
        let until = Instant::now() + time;
        sleep(time).await?;
        self.model.check(Instant::now() >= until, || "H3: a sleep has ended early".to_owned());
        Ok(())
    }

    async fn accept(&self) -> Result {
        let (stream, peer) = self.listener.accept().await?;
        self.arrived(peer);
        self.accepted.borrow_mut().push((stream, peer));
        Ok(())
    }

    /// Rule D7: every connection comes once. One that was closed may have left its address to another.
    fn arrived(&self, peer: SocketAddr) {
        let mut came = self.came.borrow_mut();
        came.push(peer);
        let is_open = self.accepted.borrow().iter().any(|(_, other)| *other == peer);
        self.model.check(!is_open, || format!("D7: {peer} was accepted twice"));
        let (count, begun) = (came.len(), self.begun.get());
        self.model.check(count <= begun, || {
            format!("D7: {count} connections were accepted, but only {begun} begun")
        });
    }

    async fn close_one(&self) -> Result {
        let accepted = self.accepted.borrow_mut().pop().map(|(stream, _)| stream);
        let stream = accepted.or_else(|| self.joined.borrow_mut().pop());
        match stream {
            Some(stream) => stream.close().await,
            None => Ok(()),
        }
    }

    /// At the end: all that was sent has come, and all who connected. What was forgotten stays in use; then
    /// nothing can be said.
    pub(super) async fn settle(&self) -> Result {
        for pipe in &self.pipes {
            match pipe.settle().await {
                Err(Error::Busy(_)) => {}
                other => other?,
            }
        }
        self.settle_connections().await
    }

    async fn settle_connections(&self) -> Result {
        let mut joined = Vec::new();
        for stream in &*self.joined.borrow() {
            joined.push(stream.local_addr()?);
        }
        let missing = || {
            let came = self.came.borrow();
            joined.iter().find(|joined| !came.contains(joined)).copied()
        };
        while let Some(client) = missing() {
            let accept = async || self.accept().await;
            let accepted =
                move_on_after(Duration::from_secs(1), async |_| persist(&self.model, accept).await);
            match accepted.await {
                Err(Error::Busy(_)) => break,
                accepted => match accepted? {
                    Some(()) => {}
                    None => {
                        self.model.violated(format_args!("D7: {client} was never accepted"));
                        break;
                    }
                },
            }
        }
        Ok(())
    }

    pub(super) async fn close(self) -> Result {
        let Objects { pipes, listener, joined, accepted, .. } = self;
        for pipe in pipes {
            pipe.close().await?;
        }
        for stream in joined.into_inner() {
            stream.close().await?;
        }
        for (stream, _) in accepted.into_inner() {
            stream.close().await?;
        }
        listener.close().await
    }
}
