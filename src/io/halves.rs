//! What every stream on a descriptor is made of.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;

use crate::error::Result;
use crate::exec::{self, Run};
use crate::op::{BufError, Fd, IoBuf, IoBufMut, IoBufs, Submission};
use crate::ring::Descriptor;

use super::close::close_sole;
use super::descriptors::{IntoFdError, give};
use super::half::Half;
use super::receive::{Read, ReadFds, Receiving, Recv};
use super::send::{Sending, Write, WriteFds, WriteSeveral, Writer};

/// A descriptor with a half that is read and one that is written, each by one task at a time.
///
/// Streams are made of it, and forward to it; what its methods do is told in the traits
/// [`Read`](super::Read) and [`Write`](super::Write).
pub(crate) struct Halves {
    pub(super) run: Rc<Run>,
    pub(super) fd: Fd,
    pub(super) receiving: Half<Receiving>,
    pub(super) sending: Half<Sending>,
}

impl Halves {
    pub(crate) fn new(run: Rc<Run>, fd: Fd) -> Halves {
        Halves { run, fd, receiving: Half::default(), sending: Half::default() }
    }

    pub(crate) fn run(&self) -> &Rc<Run> {
        &self.run
    }

    pub(crate) fn fd(&self) -> &Fd {
        &self.fd
    }

    pub(crate) fn recv(&self) -> Recv<'_> {
        Recv::new(self)
    }

    pub(crate) fn read<B: IoBufMut>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        Read::new(self, buf, false)
    }

    pub(crate) fn read_exact<B: IoBufMut>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        Read::new(self, buf, true)
    }

    pub(crate) fn write<B: IoBuf>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<(usize, B), BufError<B>>> + use<'_, B> {
        Write::new(self, buf, false)
    }

    pub(crate) fn write_all<B: IoBuf>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        let mut write = Write::new(self, buf, true);
        poll_fn(move |cx| Pin::new(&mut write).poll(cx).map_ok(|(_, buf)| buf))
    }

    /// Sends all of the bytes, and these descriptors with the first of them.
    pub(crate) fn send_fds<B: IoBuf>(
        &self,
        buf: B,
        fds: Vec<Descriptor>,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        WriteFds::new(self, buf, fds)
    }

    /// Receives once, and the descriptors that come with the bytes.
    pub(crate) fn recv_fds<B: IoBufMut>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<(B, Vec<Descriptor>), BufError<B>>> + use<'_, B> {
        ReadFds::new(self, buf)
    }

    pub(crate) fn write_all_vectored<L: IoBufs>(
        &self,
        bufs: L,
    ) -> impl Future<Output = Result<L, BufError<L>>> + use<'_, L> {
        WriteSeveral::new(self, bufs)
    }

    /// From how many bytes on a socket sends without a copy; `None`: never.
    pub(crate) fn set_zero_copy(&self, least: Option<usize>) {
        self.sending.with(|half| half.set_zero_copy(least));
    }

    /// What was to be written is lost.
    pub(crate) fn lose(&self) {
        self.sending.with(Sending::lose);
    }

    /// Shuts halves of a socket.
    pub(crate) async fn shutdown(&self, how: Shutdown) -> Result {
        exec::check_run(&self.run)?;
        let (read, write) = (how != Shutdown::Write, how != Shutdown::Read);
        let mut writing = write.then(|| Writer::new(self, None));
        if let Some(writing) = &mut writing {
            writing.enter()?;
        }
        poll_fn(|cx| match &writing {
            Some(writing) => writing.poll_former(cx),
            None => self.run.cancel_point().map_err(Into::into),
        })
        .await?;
        let read = read && !self.receiving.with(|half| half.is_shut());
        let write = write && !self.sending.with(|half| half.is_shut());
        let how = match (read, write) {
            (true, true) => Shutdown::Both,
            (true, false) => Shutdown::Read,
            (false, true) => Shutdown::Write,
            (false, false) => {
                self.run.schedule_point().await;
                return Ok(());
            }
        };
        match &mut writing {
            Some(writing) if write => poll_fn(|cx| writing.poll_shut(how, cx)).await?,
            _ => exec::submit_plain(|| Submission::shutdown(&self.fd, how)).await?,
        }
        if read {
            self.receiving.with(Receiving::shut);
        }
        Ok(())
    }

    /// Closes the descriptor, which is how the other end of a pipe sees the end of the stream. Twice is
    /// once.
    pub(crate) async fn finish(&self) -> Result {
        let mut writing = Writer::new(self, None);
        writing.enter()?;
        poll_fn(|cx| writing.poll_former(cx)).await?;
        match self.fd.take_sole() {
            Some(sole) => {
                self.sending.with(Sending::shut);
                close_sole(&self.run, sole).await
            }
            None => {
                self.run.schedule_point().await;
                Ok(())
            }
        }
    }

    /// Gives the descriptor away, if nothing is in flight and nothing would be lost.
    pub(crate) async fn into_fd(self) -> Result<Descriptor, IntoFdError<Halves>> {
        match self.settle().await {
            Ok(()) => {}
            Err(error) => return Err(IntoFdError::new(error, self)),
        }
        let Halves { run, fd, receiving, sending } = self;
        give(fd).map_err(|kept| kept.of(|fd| Halves { run, fd, receiving, sending }))
    }

    async fn settle(&self) -> Result {
        exec::check_run(&self.run)?;
        self.run.answer_at_once().await?;
        let mut writing = Writer::new(self, None);
        writing.enter()?;
        poll_fn(|cx| writing.poll_former(cx)).await?;
        self.sending.with(|half| half.check_whole())?;
        poll_fn(|cx| self.receiving.with(|half| half.poll_nothing(self, cx))).await
    }

    /// Closes it in any case, also in a cancelled scope (rule M2).
    pub(crate) async fn close(self) -> Result {
        let Halves { run, fd, receiving, sending, .. } = self;
        let left = [receiving.into_inner().into_operation(), sending.into_inner().into_operation()];
        super::close::close(&run, fd, left.into_iter().flatten().collect()).await
    }
}

impl AsRawFd for Halves {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl fmt::Debug for Halves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fd.fmt(f)
    }
}
