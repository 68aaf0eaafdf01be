//! An open file.

use std::fs::Permissions;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::exec::{self, Run};
use crate::io::{IntoFdError, give, owns_descriptor, take};
use crate::op::{AlignedBuf, BufError, Fd, IoBuf, IoBufMut, IoBufs, IoBufsMut, Submission};
use crate::ring::{Descriptor, FdKind};
use crate::thread;

use super::metadata::{Metadata, stat};
use super::open::OpenOptions;
use super::transfer::{Reading, ReadingSeveral, Transfer, Writing, WritingSeveral};

/// An open file.
///
/// It has no position: reads and writes say where. Any number of them may be under way at a time.
/// Dropping the file closes it through the ring once the kernel has let go of its operations; the
/// enclosing scope waits for that.
///
/// It is meant for what has places to read from: regular files and block devices. A FIFO can be opened;
/// the offset means nothing to it.
///
/// ```
/// use trine::fs::File;
///
/// let path = std::env::temp_dir().join(format!("trine-doc-file-{}", std::process::id()));
/// trine::run(async || {
///     let file = File::create(&path).await?;
///     file.write_all_at("hello, world", 0).await?;
///     file.sync_all().await?;
///     file.close().await?;
///
///     let file = File::open(&path).await?;
///     assert_eq!(file.metadata().await?.len(), 12);
///     let word = file.read_exact_at(vec![0; 5], 7).await?;
///     assert_eq!(word, b"world");
///     file.close().await
/// })?;
/// # std::fs::remove_file(path)?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct File {
    pub(super) run: Rc<Run>,
    pub(super) fd: Fd,
    /// It was opened with `O_APPEND`.
    pub(super) appends: bool,
}

/// What a range of a file will be used for: [`File::advise`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// Nothing special: takes other advice back.
    Normal,
    /// It will be read from front to back: more is read ahead.
    Sequential,
    /// It will be read here and there: nothing is read ahead.
    Random,
    /// It will be read soon: reading begins.
    WillNeed,
    /// It will not be needed soon: what is written already leaves the page cache.
    DontNeed,
    /// It will be read once.
    NoReuse,
}

/// Bytes of a page of memory; what direct reads and writes want at most.
const PAGE: u32 = 4096;

impl File {
    pub(super) fn new(run: Rc<Run>, fd: Fd, appends: bool) -> File {
        File { run, fd, appends }
    }

    /// Opens a file to read it.
    ///
    /// Opening never holds up the run: the kernel does it in a thread of its own. Opening a FIFO waits for
    /// somebody to open its other end, and can be cancelled. While as many FIFOs are waited for as there are
    /// such [threads](crate::Builder::kernel_threads), other opens, syncs and changes of names wait too. Where
    /// there are many, allow more, or open them with `O_NONBLOCK` ([`custom_flags`](OpenOptions::custom_flags)).
    /// Linux 6.1 loses such a cancel now and then on a busy machine (6.18 was not seen to, in 60,000 of them): it
    /// is asked for again every ten milliseconds.
    ///
    /// Cancel class: total: a descriptor that comes after the cancel, or for a dropped future, is closed
    /// (rule D7). Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says, `NotFound` for one; `InvalidInput` for a path with a zero byte;
    /// `Cancelled`; [`Error::NoRun`].
    pub async fn open(path: impl AsRef<Path>) -> Result<File> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Opens a file to write it: a new one, or what is there without its content.
    ///
    /// Cancel class: as for [`open`](File::open); but a file may have been made. Linux 6.1.
    ///
    /// # Errors
    /// As [`open`](File::open).
    pub async fn create(path: impl AsRef<Path>) -> Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path).await
    }

    /// For more options than [`open`](File::open) and [`create`](File::create) have.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Reads from byte `offset` on: replaces the content of `buf` with what is there, at most its capacity.
    /// It may be less than there is; no bytes are the end of the file. To add to a buffer, pass a
    /// [`slice`](IoBuf::slice) of it.
    ///
    /// Cancel class: total; but a read that a device works on is waited for, and returned. The buffer
    /// comes back, also with the error; that of a dropped read stays with the kernel until it is done.
    /// Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says; `InvalidInput` for a buffer without room, or for places that no file
    /// has; `Cancelled`.
    pub fn read_at<B: IoBufMut>(
        &self,
        buf: B,
        offset: u64,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        Reading::new(self, buf, offset, false)
    }

    /// Reads from byte `offset` on until `buf` is filled to its capacity; to read exactly `n` bytes pass
    /// `buf.slice(..n)`.
    ///
    /// Cancel class: partial: the error has the buffer with what was read, and
    /// [`done`](BufError::done) says how much. Linux 6.1.
    ///
    /// # Errors
    /// As [`read_at`](File::read_at), and `UnexpectedEof` if the file ends before.
    pub fn read_exact_at<B: IoBufMut>(
        &self,
        buf: B,
        offset: u64,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        Reading::new(self, buf, offset, true)
    }

    /// Writes from `buf` to byte `offset` on, in one operation, and says how much that was. A gap between
    /// the end of the file and the offset is filled with zeros.
    ///
    /// Cancel class: total; but a write that has begun is waited for, and returned. The buffer comes back,
    /// also with the error. A dropped write may take place or not. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says, `StorageFull` for one; `InvalidInput` if the file is opened to
    /// [`append`](File::append), or for places that no file has; `Cancelled`.
    pub fn write_at<B: IoBuf>(
        &self,
        buf: B,
        offset: u64,
    ) -> impl Future<Output = Result<(usize, B), BufError<B>>> + use<'_, B> {
        Writing::new(self, Transfer::Write { at: offset }, buf, false)
    }

    /// Writes all of `buf` to byte `offset` on.
    ///
    /// Cancel class: partial: [`done`](BufError::done) says how much was written. The buffer comes back, also with
    /// the error. Of a dropped one any part may have been written. Linux 6.1.
    ///
    /// # Errors
    /// As [`write_at`](File::write_at).
    pub fn write_all_at<B: IoBuf>(
        &self,
        buf: B,
        offset: u64,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        let mut writing = Writing::new(self, Transfer::Write { at: offset }, buf, true);
        poll_fn(move |cx| Pin::new(&mut writing).poll(cx).map_ok(|(_, buf)| buf))
    }

    /// Reads from byte `offset` on into several buffers, one behind the other, and says how much that was: a
    /// `Vec` or an array of buffers, or a tuple of different ones. Their content is replaced; those that nothing
    /// came for are empty. One operation takes up to 1024 of them (`IOV_MAX`).
    ///
    /// Cancel class: as for [`read_at`](File::read_at). Linux 6.1.
    ///
    /// # Errors
    /// As [`read_at`](File::read_at), and `InvalidInput` if all of them together have no room.
    ///
    /// ```
    /// use trine::fs::File;
    ///
    /// # let path = std::env::temp_dir().join(format!("trine-doc-vectored-{}", std::process::id()));
    /// trine::run(async || {
    ///     let file = File::options().read(true).write(true).create(true).open(&path).await?;
    ///     file.write_all_vectored_at(("head", vec![1, 2, 3]), 0).await?;
    ///     let rooms = [Vec::with_capacity(4), Vec::with_capacity(100)];
    ///     let (count, [head, rest]) = file.read_vectored_at(rooms, 0).await?;
    ///     assert_eq!((count, &head[..], &rest[..]), (7, &b"head"[..], &[1, 2, 3][..]));
    ///     file.close().await
    /// })?;
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn read_vectored_at<L: IoBufsMut>(
        &self,
        bufs: L,
        offset: u64,
    ) -> impl Future<Output = Result<(usize, L), BufError<L>>> + use<'_, L> {
        ReadingSeveral::new(self, bufs, offset, false)
    }

    /// Reads from byte `offset` on until several buffers are filled to their capacity.
    ///
    /// Cancel class: partial: the error has the buffers with what was read, and
    /// [`done`](BufError::done) says how much. Linux 6.1.
    ///
    /// # Errors
    /// As [`read_vectored_at`](File::read_vectored_at), and `UnexpectedEof` if the file ends before.
    pub fn read_exact_vectored_at<L: IoBufsMut>(
        &self,
        bufs: L,
        offset: u64,
    ) -> impl Future<Output = Result<L, BufError<L>>> + use<'_, L> {
        let mut reading = ReadingSeveral::new(self, bufs, offset, true);
        poll_fn(move |cx| Pin::new(&mut reading).poll(cx).map_ok(|(_, bufs)| bufs))
    }

    /// Writes from several buffers, one behind the other, to byte `offset` on, in one operation of up to 1024 of
    /// them (`IOV_MAX`), and says how much that was.
    ///
    /// Cancel class: as for [`write_at`](File::write_at). Linux 6.1.
    ///
    /// # Errors
    /// As [`write_at`](File::write_at).
    pub fn write_vectored_at<L: IoBufs>(
        &self,
        bufs: L,
        offset: u64,
    ) -> impl Future<Output = Result<(usize, L), BufError<L>>> + use<'_, L> {
        WritingSeveral::new(self, bufs, offset, false)
    }

    /// Writes all of several buffers, one behind the other, to byte `offset` on, in as many operations as it
    /// takes.
    ///
    /// Cancel class: partial: [`done`](BufError::done) says how much was written. The buffers come back, also
    /// with the error. Of a dropped one any part may have been written. Linux 6.1.
    ///
    /// # Errors
    /// As [`write_at`](File::write_at).
    pub fn write_all_vectored_at<L: IoBufs>(
        &self,
        bufs: L,
        offset: u64,
    ) -> impl Future<Output = Result<L, BufError<L>>> + use<'_, L> {
        let mut writing = WritingSeveral::new(self, bufs, offset, true);
        poll_fn(move |cx| Pin::new(&mut writing).poll(cx).map_ok(|(_, bufs)| bufs))
    }

    /// Writes all of `buf` to the end of the file, wherever that is by then. The file was opened with
    /// [`OpenOptions::append`].
    ///
    /// What one operation writes lies together, whoever else appends; mostly that is all.
    ///
    /// Cancel class: partial: [`done`](BufError::done) says how much was written. The buffer comes back, also with
    /// the error. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says, `StorageFull` for one; `InvalidInput` if the file was opened in
    /// another way; `Cancelled`.
    pub fn append<B: IoBuf>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        let mut writing = Writing::new(self, Transfer::Append, buf, true);
        poll_fn(move |cx| Pin::new(&mut writing).poll(cx).map_ok(|(_, buf)| buf))
    }

    /// Waits until the device has all that was written to the file and what is known of it (fsync(2)).
    ///
    /// Of several writes that failed after they had been taken, one sync hears, the next one not: after an
    /// error nobody knows what is on the device.
    ///
    /// Cancel class: total; but a sync that has begun cannot be stopped: it is waited for, and its result
    /// returned. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says, of writes that failed later for instance; `Cancelled`.
    pub async fn sync_all(&self) -> Result {
        self.simple(|fd| Submission::sync(fd, false)).await
    }

    /// As [`sync_all`](File::sync_all), without what is not needed to read the content again, as the
    /// time of the last change (fdatasync(2)).
    ///
    /// Cancel class: as for [`sync_all`](File::sync_all). Linux 6.1.
    ///
    /// # Errors
    /// As [`sync_all`](File::sync_all).
    pub async fn sync_data(&self) -> Result {
        self.simple(|fd| Submission::sync(fd, true)).await
    }

    /// Has the pages of a range written out, and waits for that (sync_file_range(2)). It says nothing of
    /// the device's own cache nor of the file's length, so it makes nothing durable; it bounds how much
    /// there is left for [`sync_data`](File::sync_data) to do. A range of more than 4 GiB reaches to the
    /// end of the file.
    ///
    /// Cancel class: as for [`sync_all`](File::sync_all). Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says; `Cancelled`.
    pub async fn sync_range(&self, range: Range<u64>) -> Result {
        let Some(len) = range.end.checked_sub(range.start).filter(|len| *len > 0) else {
            // To the kernel no length is all there is.
            return exec::checkpoint().await;
        };
        let len = u32::try_from(len).unwrap_or(0);
        self.simple(|fd| Submission::sync_range(fd, range.start, len)).await
    }

    /// Gives a range its place on the device, so that writing there cannot fail for lack of room
    /// (fallocate(2)). The file grows if the range reaches beyond its end; what is new is zeros.
    ///
    /// Cancel class: total; what has begun is waited for. Linux 6.1; not every file system can do it.
    ///
    /// # Errors
    /// What the operating system says: `StorageFull`, `Unsupported`, `InvalidInput` for an empty range;
    /// `Cancelled`.
    pub async fn allocate(&self, range: Range<u64>) -> Result {
        let len = range.end.saturating_sub(range.start);
        self.simple(|fd| Submission::allocate(fd, range.start, len, 0)).await
    }

    /// Gives back the place that a range takes on the device; it is zeros then. The file's length stays.
    ///
    /// Cancel class: as for [`allocate`](File::allocate). Linux 6.1; not every file system can do it.
    ///
    /// # Errors
    /// As [`allocate`](File::allocate).
    pub async fn punch_hole(&self, range: Range<u64>) -> Result {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let len = range.end.saturating_sub(range.start);
        self.simple(|fd| Submission::allocate(fd, range.start, len, mode)).await
    }

    /// Cuts the file to this length, or adds zeros up to it.
    ///
    /// Cancel class: total; what has begun is waited for. Linux 6.9 through the ring, before that in a
    /// thread.
    ///
    /// # Errors
    /// What the operating system says: `InvalidInput` if the file is not opened to be written, or is none
    /// that has a length; `FileTooLarge`; `Cancelled`.
    pub async fn set_len(&self, len: u64) -> Result {
        if !self.run.capabilities().set_len {
            return self.set_len_in_thread(len).await;
        }
        match self.simple(|fd| Submission::set_len(fd, len)).await {
            // Either the operation is not known, or the file has no length to set: the thread can tell.
            Err(Error::Io(refused)) if refused.raw_os_error() == Some(libc::EINVAL) => {
                match self.set_len_in_thread(len).await {
                    // A simulated kernel knows it, and has no threads.
                    Err(error) if error.io_kind() == Some(ErrorKind::Unsupported) => {
                        return Err(refused.into());
                    }
                    outcome => outcome?,
                }
                self.run.lacks(|capabilities| capabilities.set_len = false);
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn set_len_in_thread(&self, len: u64) -> Result {
        // A descriptor of its own: this one may be closed while a thread that nobody waits for is at it.
        let same =
            std::fs::File::from(self.run.host().duplicate(self.as_raw_fd())?.into_owned_fd()?);
        Ok(thread::run(move || same.set_len(len)).await??)
    }

    /// What is known of the file (statx(2)).
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says; `Cancelled`.
    pub async fn metadata(&self) -> Result<Metadata> {
        exec::check_run(&self.run)?;
        stat(Some(&self.fd), c"", libc::AT_EMPTY_PATH).await
    }

    /// Makes a buffer that suits direct reads and writes of this file
    /// ([`OpenOptions::direct`]): at least so long, a multiple of what offsets and lengths have to be
    /// multiples of, at an address that the device takes. Where the kernel does not tell, that is 4,096.
    /// It begins with a page if it is as long as that, so that the device has as few pieces as can be.
    /// It is full of zeros.
    ///
    /// The kernel holds its pages, so that it need not look them up for each read and write, up to a limit
    /// ([`Builder::registered_memory`](crate::Builder::registered_memory)); a buffer beyond it is as good, only
    /// slower. Making one takes system calls: keep it, and read into it again.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// As [`metadata`](File::metadata).
    ///
    /// # Panics
    /// If the memory is more than there can be.
    pub async fn direct_buf(&self, len: usize) -> Result<AlignedBuf> {
        let (memory, offset) = self.metadata().await?.direct_alignment().unwrap_or((PAGE, PAGE));
        let len = len.max(1).checked_next_multiple_of(offset as usize);
        let len = len.expect("a buffer of so many bytes is more than there can be");
        // What lies across two pages is two pieces to a device, which may take longer.
        let alignment = (memory as usize).max(len.min(PAGE as usize)).next_power_of_two();
        Ok(self.run.direct_buf(len, alignment))
    }

    /// Sets who may do what with the file (fchmod(2)), in a thread: the ring has no operation for it.
    ///
    /// Cancel class: total until a thread has begun, which is waited for then. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says, `PermissionDenied` for one; `Cancelled`.
    pub async fn set_permissions(&self, permissions: Permissions) -> Result {
        exec::check_run(&self.run)?;
        let host = self.run.host();
        if let Some(known) = host.set_known_mode_of(self.as_raw_fd(), permissions.mode()) {
            exec::checkpoint().await?;
            return Ok(known?);
        }
        let same = std::fs::File::from(host.duplicate(self.as_raw_fd())?.into_owned_fd()?);
        Ok(thread::run(move || same.set_permissions(permissions)).await??)
    }

    /// Says what a range will be used for, which may make it faster (posix_fadvise(2)). An empty range
    /// that does not begin at 0 is to the end of the file.
    ///
    /// A range of 4 GiB and more counts as one to the end of the file.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says; `Cancelled`.
    pub async fn advise(&self, range: Range<u64>, advice: Advice) -> Result {
        let len = range.end.saturating_sub(range.start);
        let advice = match advice {
            Advice::Normal => libc::POSIX_FADV_NORMAL,
            Advice::Sequential => libc::POSIX_FADV_SEQUENTIAL,
            Advice::Random => libc::POSIX_FADV_RANDOM,
            Advice::WillNeed => libc::POSIX_FADV_WILLNEED,
            Advice::DontNeed => libc::POSIX_FADV_DONTNEED,
            Advice::NoReuse => libc::POSIX_FADV_NOREUSE,
        };
        self.simple(|fd| Submission::advise(fd, range.start, len, advice)).await
    }

    /// An operation on the descriptor, without memory.
    async fn simple(&self, make: impl Fn(&Fd) -> Submission) -> Result {
        exec::check_run(&self.run)?;
        exec::submit_plain(|| make(&self.fd)).await
    }

    /// Takes a descriptor from elsewhere: one that was sent, or inherited. The place where it stands means
    /// nothing here.
    ///
    /// # Errors
    /// `InvalidInput` for what is no file, directory, device or FIFO; [`Error::NoRun`].
    pub fn from_fd(fd: impl Into<Descriptor>) -> Result<File> {
        let (run, fd) = take(fd, FdKind::File)?;
        let appends = run.host().appends(&fd)?;
        let fd = run.adopt(fd);
        Ok(File { run, fd, appends })
    }

    /// Makes a second descriptor of the same open file, to be sent or handed to somebody.
    ///
    /// # Errors
    /// `EMFILE` where there are too many descriptors.
    pub fn duplicate(&self) -> std::io::Result<Descriptor> {
        self.run.host().duplicate(self.as_raw_fd())
    }

    /// Gives the descriptor away. That of a FIFO can become an end of a pipe.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// With each of them the file comes back as it was. [`Error::Busy`] if an operation of a dropped future has
    /// not ended; `Cancelled`.
    ///
    /// ```
    /// use trine::fs::OpenOptions;
    /// use trine::pipe::{PipeReader, PipeWriter};
    ///
    /// # let path = std::env::temp_dir().join(format!("trine-doc-fifo-{}", std::process::id()));
    /// # std::process::Command::new("mkfifo").arg(&path).status()?;
    /// trine::run(async || {
    ///     // Opened for both, it does not wait for somebody else.
    ///     let fifo = OpenOptions::new().read(true).write(true).open(&path).await?;
    ///     let writer = PipeWriter::from_fd(fifo.duplicate()?)?;
    ///     let reader = PipeReader::from_fd(fifo.into_fd().await?)?;
    ///     writer.write_all("through").await?;
    ///     assert_eq!(reader.recv().await?.expect("not the end"), *b"through");
    ///     Ok(())
    /// })?;
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn into_fd(self) -> Result<Descriptor, IntoFdError<File>> {
        let begun = match exec::check_run(&self.run) {
            Ok(()) => self.run.answer_at_once().await.map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            return Err(IntoFdError::new(error, self));
        }
        let File { run, fd, appends } = self;
        give(fd).map_err(|kept| kept.of(|fd| File { run, fd, appends }))
    }

    /// Closes the file and waits until that is done. It is no [`sync_all`](File::sync_all).
    ///
    /// Cancel class: terminal. In a cancelled scope it is closed all the same, and `Cancelled` is reported
    /// (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what the operating system says; it is closed in any case.
    pub async fn close(self) -> Result {
        crate::io::close(&self.run, self.fd, Vec::new()).await
    }
}

owns_descriptor!(File, fd);

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the kernel is older than Linux 6.9.
    #[test]
    #[cfg_attr(miri, ignore = "it is a real file")]
    fn a_thread_sets_the_length_where_the_ring_cannot() {
        let path = std::env::temp_dir().join(format!("trine-set-len-{}", std::process::id()));
        crate::run(async || {
            let file = File::create(&path).await?;
            file.run.lacks(|capabilities| capabilities.set_len = false);
            file.set_len(7).await?;
            assert_eq!(file.metadata().await?.len(), 7);
            file.close().await
        })
        .unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
