//! What programs work on: connections that carry counted bytes, and a listener.

use std::cell::{Cell, RefCell};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::exec::{checkpoint, checkpoint_if_cancelled, yield_shielded};
use crate::net::{TcpListener, TcpStream};
use crate::runtime::nop;
use crate::scope::move_on_after;
use crate::time::{Instant, sleep};

use super::losses;
use super::model::Model;
use super::program::Action;

pub(super) struct Objects {
    model: Rc<Model>,
    pipes: Vec<Pipe>,
    listener: TcpListener,
    /// Connections that were made, and that were accepted with where they come from.
    joined: RefCell<Vec<TcpStream>>,
    accepted: RefCell<Vec<(TcpStream, SocketAddr)>>,
    came: RefCell<Vec<SocketAddr>>,
    /// Connects that were begun.
    begun: Cell<usize>,
}

/// One connection: `writer` counts upwards, and what `reader` gets has to count upwards too.
struct Pipe {
    writer: TcpStream,
    reader: TcpStream,
    /// Bytes that certainly went out.
    sent: Cell<u64>,
    /// Bytes that may have besides: those of a dropped write.
    doubtful: Cell<u64>,
    received: Cell<u64>,
    /// The kernel may be receiving for it though nobody waits.
    keeps_going: Cell<bool>,
    /// A receive has told that the connection is no more.
    reset: Cell<bool>,
}

/// What connections carry: 0 to 250, again and again, long enough for the largest buffer.
static PATTERN: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..=250).cycle().take(251 + LONGEST).collect());

const LONGEST: usize = 1 << 18;

/// The bytes of a connection from the `n`-th on.
fn bytes_from(n: u64) -> &'static [u8] {
    &PATTERN[(n % 251) as usize..]
}

impl Objects {
    pub(super) async fn open(model: &Rc<Model>, pipes: u8) -> Result<Objects> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut opened = Vec::new();
        for _ in 0..pipes {
            let address = listener.local_addr()?;
            let writer = persist(model, async || TcpStream::connect_addr(address).await).await?;
            let (reader, _) = persist(model, async || listener.accept().await).await?;
            let (sent, doubtful, received) = (Cell::new(0), Cell::new(0), Cell::new(0));
            let (keeps_going, reset) = (Cell::new(false), Cell::new(false));
            opened.push(Pipe { writer, reader, sent, doubtful, received, keeps_going, reset });
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
        1 + self.pipes.iter().filter(|pipe| pipe.keeps_going.get()).count()
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
            Action::Recv(pipe) => self.recv(pipe).await,
            Action::Read(pipe, size) => self.read(pipe, size, false).await,
            Action::ReadExact(pipe, size) => self.read(pipe, size, true).await,
            Action::Write(pipe, size) => self.write(pipe, size, false).await,
            Action::WriteAll(pipe, size) => self.write(pipe, size, true).await,
            Action::Shutdown(pipe) => self.pipe(pipe).writer.shutdown(Shutdown::Write).await,
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

    fn pipe(&self, pipe: u8) -> &Pipe {
        &self.pipes[usize::from(pipe) % self.pipes.len()]
    }

    async fn sleep(&self, time: Duration) -> Result {
        let until = Instant::now() + time;
        sleep(time).await?;
        self.model.check(Instant::now() >= until, || "H3: a sleep has ended early".to_owned());
        Ok(())
    }

    async fn recv(&self, pipe: u8) -> Result {
        self.pipe(pipe).keeps_going.set(true);
        let received = self.pipe(pipe).reader.recv().await;
        if let Some(chunk) = received.inspect_err(|error| self.failed(pipe, error))? {
            self.received(pipe, &chunk);
        }
        Ok(())
    }

    async fn read(&self, pipe: u8, size: u32, exact: bool) -> Result {
        let reader = &self.pipe(pipe).reader;
        let buffer = Vec::with_capacity(size as usize);
        let read = if exact { reader.read_exact(buffer).await } else { reader.read(buffer).await };
        match read {
            Ok(bytes) => self.received(pipe, &bytes),
            Err(failed) => {
                self.model.check(failed.done == failed.buf.len(), || {
                    format!("D2: {} bytes came, {} are said to", failed.buf.len(), failed.done)
                });
                self.received(pipe, &failed.buf);
                self.failed(pipe, &failed.error);
                return Err(failed.error);
            }
        }
        Ok(())
    }

    /// Rules D1, D7: every byte comes once, and in order.
    fn received(&self, pipe: u8, bytes: &[u8]) {
        let Pipe { received: counted, reset, .. } = self.pipe(pipe);
        self.model.check(bytes.is_empty() || !reset.get(), || {
            format!("D7: bytes came out of pipe{pipe} after it was said to be reset")
        });
        let from = counted.replace(counted.get() + bytes.len() as u64);
        let expected = &bytes_from(from)[..bytes.len()];
        self.model.check(bytes == expected, || {
            let at = bytes.iter().zip(expected).position(|(got, expected)| got != expected);
            format!(
                "D7: pipe{pipe} is not what was sent from byte {} on",
                from + at.unwrap_or(0) as u64
            )
        });
    }

    /// A receive has failed. What may have come before was received before.
    fn failed(&self, pipe: u8, error: &Error) {
        let reset = &self.pipe(pipe).reset;
        reset.set(reset.get() || losses::is_reset(error));
    }

    async fn write(&self, pipe: u8, size: u32, all: bool) -> Result {
        let Pipe { writer, sent, doubtful, .. } = self.pipe(pipe);
        let from = sent.get();
        let bytes = bytes_from(from)[..size as usize].to_vec();
        let doubt = Doubt { doubtful, size: size.into() };
        let done = if all {
            writer.write_all(bytes).await.map(|bytes| bytes.len())
        } else {
            writer.write(bytes).await.map(|(count, _)| count)
        };
        doubt.settle();
        let (done, error) = match done {
            Ok(done) => (done, None),
            Err(failed) => (failed.done, Some(failed.error)),
        };
        if done > 0 {
            // Then nothing of a dropped one can have gone out: the half would be broken.
            sent.set(from + done as u64);
            doubtful.set(0);
        }
        if let Some(Error::Broken(_)) = error {
            self.model.check(doubtful.get() > 0, || {
                format!("D7: pipe{pipe} is broken, but no write was dropped")
            });
        }
        error.map_or(Ok(()), Err)
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

    /// At the end: all that was sent has come, and all who connected; of a connection that is said to
    /// be reset only the beginning. What was forgotten stays in
    /// use; then nothing can be said.
    pub(super) async fn settle(&self) -> Result {
        for pipe in 0..self.pipes.len() as u8 {
            match self.settle_pipe(pipe).await {
                Err(Error::Busy(_)) => {}
                other => other?,
            }
        }
        self.settle_connections().await
    }

    async fn settle_pipe(&self, pipe: u8) -> Result {
        let Pipe { writer, reader, sent, doubtful, received, reset, .. } = self.pipe(pipe);
        let shut = writer.shutdown(Shutdown::Write).await;
        shut.or_else(|error| self.unless_lost(Action::Shutdown(pipe), error))?;
        loop {
            match reader.recv().await {
                Ok(Some(chunk)) => self.received(pipe, &chunk),
                Ok(None) => break,
                // It is said once; the end of the stream comes after it.
                Err(error) if !reset.get() => {
                    self.failed(pipe, &error);
                    self.unless_lost(Action::Recv(pipe), error)?;
                }
                Err(error) => return Err(error),
            }
        }
        let (least, came) = (sent.get(), received.get());
        let most = least + doubtful.get();
        self.model.check((reset.get() || least <= came) && came <= most, || {
            format!("D7: {least} to {most} bytes went into pipe{pipe}, {came} came out of it")
        });
        Ok(())
    }

    /// Passes an error on that is not one of a lost connection.
    fn unless_lost(&self, action: Action, error: Error) -> Result {
        let is_loss = matches!(error, Error::Io(_));
        if is_loss && losses::may_come(action, &error, self.model.loses) {
            Ok(())
        } else {
            Err(error)
        }
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
        for Pipe { writer, reader, .. } in pipes {
            writer.close().await?;
            reader.close().await?;
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

/// Tries again for as long as nothing but losses come: a tape has only so many of them.
async fn persist<T>(model: &Model, attempt: impl AsyncFn() -> Result<T>) -> Result<T> {
    loop {
        match attempt().await {
            Err(Error::Io(_)) if model.loses => {}
            other => return other,
        }
    }
}

/// A write whose end has not been heard of: if it is dropped, nobody knows how much went out.
struct Doubt<'a> {
    doubtful: &'a Cell<u64>,
    size: u64,
}

impl Doubt<'_> {
    fn settle(mut self) {
        self.size = 0;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.doubtful.set(self.doubtful.get().max(self.size));
    }
}
