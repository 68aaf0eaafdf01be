//! Temporary files and directories.

use std::ffi::CString;
use std::fmt;
use std::io::ErrorKind;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::Result;
use crate::exec::{self, Run};
use crate::io::Close;
use crate::op::Submission;
use crate::scope::shield;

use super::file::File;
use super::names::create_dir_at;
use super::open::OpenOptions;
use super::path::{terminated, unique_name};
use super::trees::remove_dir_all;

/// A file without a name, opened to be read and written (`O_TMPFILE`, open(2)). When it is closed it is
/// gone, also after a crash, unless it was given a name.
///
/// ```
/// use trine::fs::TempFile;
///
/// # let path = std::env::temp_dir().join(format!("trine-doc-temp-{}", std::process::id()));
/// trine::run(async || {
///     let file = TempFile::new_in(path.parent().unwrap()).await?;
///     file.write_all_at("content", 0).await?;
///     let file = file.persist(&path).await?;
///     assert_eq!(file.metadata().await?.len(), 7);
///     Ok(())
/// })?;
/// # std::fs::remove_file(path)?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Debug)]
pub struct TempFile {
    file: File,
}

impl TempFile {
    /// Makes a file in the directory for temporary files (`TMPDIR`).
    ///
    /// Cancel class: total: a descriptor that comes too late is closed (rule D7). Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says, `Unsupported` where the file system has no such files; `Cancelled`;
    /// [`Error::NoRun`](crate::Error::NoRun).
    pub async fn new() -> Result<TempFile> {
        TempFile::new_in(exec::current()?.host().temp_dir()).await
    }

    /// Makes a file in the file system of this directory, where it may get a name.
    ///
    /// Cancel class: as for [`new`](TempFile::new). Linux 6.1.
    ///
    /// # Errors
    /// As [`new`](TempFile::new).
    pub async fn new_in(directory: impl AsRef<Path>) -> Result<TempFile> {
        let options = OpenOptions::new().read(true).write(true).mode(0o600);
        let file = options.custom_flags(libc::O_TMPFILE).open(directory).await?;
        Ok(TempFile { file })
    }

    /// Gives the file a name, in the same file system, at which there is nothing yet.
    ///
    /// Cancel class: total; what has begun is waited for. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says: `AlreadyExists`, `CrossesDevices`; `Cancelled`. The file is closed
    /// then, and gone.
    pub async fn persist(self, path: impl AsRef<Path>) -> Result<File> {
        let TempFile { file } = self;
        exec::check_run(&file.run)?;
        let path = terminated(path.as_ref())?;
        let this = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let this = this.expect("no number has a zero byte in it");
        exec::submit_plain(|| Submission::link_open(&file.fd, &this, &path)).await?;
        Ok(file)
    }
}

impl Deref for TempFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

/// A directory of one's own, which [`close`](TempDir::close) removes with all that is in it.
///
/// Dropping it removes it only if it is empty: for the rest one has to wait.
///
/// ```
/// use trine::fs::{self, TempDir};
///
/// trine::run(async || {
///     let dir = TempDir::new().await?;
///     fs::write(dir.path().join("file"), "content").await?;
///     dir.close().await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct TempDir {
    run: Rc<Run>,
    path: PathBuf,
    is_kept: bool,
}

impl TempDir {
    /// Makes a directory in the one for temporary files (`TMPDIR`), for this user alone.
    ///
    /// Cancel class: total; what has begun is waited for. Dropped meanwhile, it may leave an empty directory
    /// behind. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says; `Cancelled`; [`Error::NoRun`](crate::Error::NoRun).
    pub async fn new() -> Result<TempDir> {
        TempDir::new_in(exec::current()?.host().temp_dir()).await
    }

    /// Makes a directory in this one, for this user alone.
    ///
    /// Cancel class: as for [`new`](TempDir::new). Linux 6.1.
    ///
    /// # Errors
    /// As [`new`](TempDir::new).
    pub async fn new_in(directory: impl AsRef<Path>) -> Result<TempDir> {
        let (run, directory) = (exec::current()?, directory.as_ref());
        loop {
            let path = directory.join(unique_name());
            match create_dir_at(None, &path, 0o700).await {
                Err(error) if error.io_kind() == Some(ErrorKind::AlreadyExists) => {}
                made => return made.map(|()| TempDir { run, path, is_kept: false }),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it where it is, for good.
    pub fn keep(mut self) -> PathBuf {
        self.is_kept = true;
        self.path.clone()
    }

    /// Removes it with all that is in it.
    ///
    /// Cancel class: terminal. In a cancelled scope it is removed all the same, and `Cancelled` is reported
    /// (rule M2).
    ///
    /// # Errors
    /// As [`remove_dir_all`]; `Cancelled`.
    pub async fn close(mut self) -> Result {
        exec::check_run(&self.run)?;
        self.is_kept = true;
        let removed = shield(remove_dir_all(&self.path)).await;
        self.run.closing_point()?;
        removed
    }
}

impl Close for TempDir {
    async fn close(self) -> Result {
        TempDir::close(self).await
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let (false, Ok(path)) = (self.is_kept, terminated(&self.path)) {
            self.run.submit_orphan(Submission::tidy(None, &path, true));
        }
    }
}

impl fmt::Debug for TempDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TempDir").field(&self.path).finish()
    }
}
