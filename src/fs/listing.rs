//! What is in a directory.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::exec::{self, Run};
use crate::op::Fd;
use crate::ring::{Listed, list_some};
use crate::thread;

use super::metadata::{FileType, Metadata, stat};
use super::open::open_dir;
use super::path::terminated;

/// Opens a directory to see what is in it.
///
/// The ring has no operation that reads directories: a thread does it, some hundreds of names at a time.
///
/// Cancel class: total. Linux 6.1.
///
/// # Errors
/// What the operating system says: `NotFound`, `NotADirectory`; `InvalidInput` for a path with a zero byte;
/// `Cancelled`; [`Error::NoRun`](crate::Error::NoRun).
///
/// ```
/// use trine::fs;
///
/// trine::run(async || {
///     let mut entries = fs::read_dir(".").await?;
///     while let Some(entry) = entries.next().await? {
///         println!("{} is a {:?}", entry.path().display(), entry.file_type().await?);
///     }
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn read_dir(path: impl AsRef<Path>) -> Result<ReadDir> {
    let (run, path) = (exec::current()?, path.as_ref());
    let fd = open_dir(&run, None, &terminated(path)?, false).await?;
    ReadDir::new(run, fd, path.to_owned())
}

/// The names in a directory, in no particular order, without `.` and `..`: [`read_dir`].
///
/// What is made or removed meanwhile may be seen or not.
pub struct ReadDir {
    run: Rc<Run>,
    directory: Rc<Directory>,
    source: Source,
}

/// What the entries have in common.
struct Directory {
    fd: Fd,
    path: PathBuf,
}

enum Source {
    /// The names are read by threads, one batch after another.
    Threads(Arc<Mutex<Batch>>),
    Known(VecDeque<Listed>),
}

/// The names that were read and that nobody has taken. It belongs to the object: a batch that comes when
/// the future was dropped is there for the next one (rule D7).
struct Batch {
    directory: OwnedFd,
    names: VecDeque<Listed>,
    buffer: Vec<u8>,
    over: bool,
}

impl Batch {
    /// Reads on, unless somebody has done that meanwhile.
    fn fill(&mut self) -> io::Result<()> {
        while self.names.is_empty() && !self.over {
            self.over = !list_some(&self.directory, &mut self.buffer, &mut self.names)?;
        }
        Ok(())
    }
}

impl ReadDir {
    pub(super) fn new(run: Rc<Run>, fd: Fd, path: PathBuf) -> Result<ReadDir> {
        let host = run.host();
        let source = match host.known_names(fd.as_raw_fd()) {
            Some(known) => Source::Known(known?.into()),
            None => {
                let directory = host.duplicate(fd.as_raw_fd())?.into_owned_fd()?;
                let (names, buffer) = (VecDeque::new(), Vec::new());
                let batch = Batch { directory, names, buffer, over: false };
                Source::Threads(Arc::new(Mutex::new(batch)))
            }
        };
        Ok(ReadDir { run, directory: Rc::new(Directory { fd, path }), source })
    }

    /// The next name; `None` is the end.
    ///
    /// Cancel class: total: what was read for a dropped one is there for the next. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says; `Cancelled`.
    pub async fn next(&mut self) -> Result<Option<DirEntry>> {
        exec::check_run(&self.run)?;
        // Before, not after: a name that was taken must not be lost to one who is dropped while waiting.
        self.run.answer_at_once().await?;
        loop {
            if let Some(listed) = self.source.pop() {
                let directory = Rc::clone(&self.directory);
                let entry = |listed| DirEntry { run: Rc::clone(&self.run), directory, listed };
                return Ok(listed.map(entry));
            }
            if let Source::Threads(batch) = &self.source {
                let batch = Arc::clone(batch);
                thread::run(move || lock(&batch).fill()).await??;
            }
        }
    }
}

impl Source {
    /// The next name, or the end; `None`: more have to be read.
    fn pop(&mut self) -> Option<Option<Listed>> {
        match self {
            Source::Known(names) => Some(names.pop_front()),
            // A thread whose future was dropped may be at it: then the next one queues behind it.
            Source::Threads(batch) => {
                let batch = &mut *batch.try_lock().ok()?;
                let listed = batch.names.pop_front();
                (listed.is_some() || batch.over).then_some(listed)
            }
        }
    }
}

fn lock(batch: &Mutex<Batch>) -> MutexGuard<'_, Batch> {
    batch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All names in a directory.
pub(super) async fn all_names(run: &Rc<Run>, directory: &Fd) -> Result<Vec<Listed>> {
    let host = run.host();
    if let Some(known) = host.known_names(directory.as_raw_fd()) {
        exec::checkpoint().await?;
        return Ok(known?);
    }
    let directory = host.duplicate(directory.as_raw_fd())?.into_owned_fd()?;
    let all = move || {
        let (mut names, mut buffer) = (Vec::new(), Vec::new());
        while list_some(&directory, &mut buffer, &mut names)? {}
        Ok::<_, io::Error>(names)
    };
    Ok(thread::run(all).await??)
}

/// A name in a directory: [`ReadDir::next`].
pub struct DirEntry {
    run: Rc<Run>,
    directory: Rc<Directory>,
    listed: Listed,
}

impl DirEntry {
    /// The name alone.
    pub fn file_name(&self) -> &OsStr {
        &self.listed.name
    }

    /// The name behind the path of the directory.
    pub fn path(&self) -> PathBuf {
        self.directory.path.join(&self.listed.name)
    }

    /// The number of the file on its device.
    pub fn ino(&self) -> u64 {
        self.listed.inode
    }

    /// What it is; a symbolic link is not followed. Most file systems have told that with the name.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says; `Cancelled`.
    pub async fn file_type(&self) -> Result<FileType> {
        if let Some(kind) = self.listed.kind {
            self.run.answer_at_once().await?;
            return Ok(FileType::new(kind));
        }
        Ok(self.metadata().await?.file_type())
    }

    /// What is known of it; a symbolic link is not followed. The name is looked up in the directory that
    /// was read, wherever that is by then.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says, `NotFound` if it was removed meanwhile; `Cancelled`.
    pub async fn metadata(&self) -> Result<Metadata> {
        exec::check_run(&self.run)?;
        let name = terminated(self.listed.name.as_ref())?;
        stat(Some(&self.directory.fd), &name, libc::AT_SYMLINK_NOFOLLOW).await
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadDir").field(&self.directory.path).finish()
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry").field(&self.path()).finish()
    }
}
