//! A stream whose bytes are counted.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::LazyLock;

use crate::error::{Error, Result};
use crate::io::{Close, Read, Write};

use super::adapters::Local;
use super::links::Link;
use super::losses;
use super::model::Model;
use super::program::Action;

/// `writer` counts upwards, and what `reader` gets has to count upwards too.
pub(super) struct Counted<W, R> {
    model: Rc<Model>,
    number: usize,
    writer: W,
    reader: R,
    /// Bytes that certainly went out.
    sent: Cell<u64>,
    /// Bytes that may have besides: those of a dropped write.
    doubtful: Cell<u64>,
    received: Cell<u64>,
    keeps_going: Cell<bool>,
    /// A receive has told that the connection is no more.
    reset: Cell<bool>,
}

/// What is carried: 0 to 250, again and again, long enough for the largest buffer.
static PATTERN: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..=250).cycle().take(251 + LONGEST).collect());

const LONGEST: usize = 1 << 18;

/// The bytes from the `n`-th on.
pub(super) fn bytes_from(n: u64) -> &'static [u8] {
    &PATTERN[(n % 251) as usize..]
}

impl<W: Write, R: Read> Counted<W, R> {
    pub(super) fn new(model: Rc<Model>, number: usize, writer: W, reader: R) -> Counted<W, R> {
        let (sent, doubtful, received) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let (keeps_going, reset) = (Cell::new(false), Cell::new(false));
        Counted { model, number, writer, reader, sent, doubtful, received, keeps_going, reset }
    }

    /// Rules D1, D7: every byte comes once, and in order.
    fn received(&self, bytes: &[u8]) {
        let Counted { number, received: counted, reset, .. } = self;
        self.model.check(bytes.is_empty() || !reset.get(), || {
            format!("D7: bytes came out of pipe{number} after it was said to be reset")
        });
        let from = counted.replace(counted.get() + bytes.len() as u64);
        let expected = &bytes_from(from)[..bytes.len()];
        self.model.check(bytes == expected, || {
            let at = bytes.iter().zip(expected).position(|(got, expected)| got != expected);
            let at = from + at.unwrap_or(0) as u64;
            format!("D7: pipe{number} is not what was sent from byte {at} on")
        });
    }

    /// A receive has failed. What may have come before was received before.
    fn failed(&self, error: &Error) {
        self.reset.set(self.reset.get() || losses::is_reset(error));
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
}

impl<W: Write + Close + 'static, R: Read + Close + 'static> Link for Counted<W, R> {
    fn recv(&self) -> Local<'_, Result> {
        Box::pin(async {
            self.keeps_going.set(true);
            let received = self.reader.recv().await;
            if let Some(chunk) = received.inspect_err(|error| self.failed(error))? {
                self.received(&chunk);
            }
            Ok(())
        })
    }

    fn read(&self, size: u32, exact: bool) -> Local<'_, Result> {
        Box::pin(async move {
            let (reader, buffer) = (&self.reader, Vec::with_capacity(size as usize));
            let read =
                if exact { reader.read_exact(buffer).await } else { reader.read(buffer).await };
            match read {
                Ok(bytes) => self.received(&bytes),
                Err(failed) => {
                    self.model.check(failed.done == failed.buf.len(), || {
                        let (came, said) = (failed.buf.len(), failed.done);
                        format!("D2: {came} bytes came, {said} are said to")
                    });
                    self.received(&failed.buf);
                    self.failed(&failed.error);
                    return Err(failed.error);
                }
            }
            Ok(())
        })
    }

    fn write(&self, size: u32, all: bool) -> Local<'_, Result> {
        Box::pin(async move {
            let Counted { number, writer, sent, doubtful, .. } = self;
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
                    format!("D7: pipe{number} is broken, but no write was dropped")
                });
            }
            error.map_or(Ok(()), Err)
        })
    }

    fn shutdown(&self) -> Local<'_, Result> {
        Box::pin(self.writer.finish())
    }

    fn keeps_going(&self) -> bool {
        self.keeps_going.get()
    }

    /// All that was sent has come; of a connection that is said to be reset only the beginning.
    fn settle(&self) -> Local<'_, Result> {
        Box::pin(async {
            let Counted { number, writer, reader, sent, doubtful, received, reset, .. } = self;
            let pipe = *number as u8;
            let shut = writer.finish().await;
            shut.or_else(|error| self.unless_lost(Action::Shutdown(pipe), error))?;
            loop {
                match reader.recv().await {
                    Ok(Some(chunk)) => self.received(&chunk),
                    Ok(None) => break,
                    // It is said once; the end of the stream comes after it.
                    Err(error) if !reset.get() => {
                        self.failed(&error);
                        self.unless_lost(Action::Recv(pipe), error)?;
                    }
                    Err(error) => return Err(error),
                }
            }
            let (least, came) = (sent.get(), received.get());
            let most = least + doubtful.get();
            self.model.check((reset.get() || least <= came) && came <= most, || {
                format!("D7: {least} to {most} bytes went into pipe{number}, {came} came out of it")
            });
            Ok(())
        })
    }

    fn close(self: Box<Self>) -> Local<'static, Result> {
        Box::pin(async move {
            self.writer.close().await?;
            self.reader.close().await
        })
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
