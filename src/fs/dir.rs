//! A directory that paths cannot lead out of.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::rc::Rc;

use crate::error::Result;
use crate::exec::{self, Run};
use crate::io::owns_descriptor;
use crate::op::Fd;
use crate::ring::OpenHow;

use super::file::File;
use super::listing::ReadDir;
use super::metadata::{Metadata, stat};
use super::names::{create_dir_at, remove_at, rename_at};
use super::open::{OpenOptions, open, open_dir};
use super::path::terminated;

/// An open directory. Its paths begin in it and cannot lead out of it: not by `..`, not as absolute ones,
/// not through symbolic links, however others change the tree meanwhile (`RESOLVE_BENEATH`, openat2(2)).
/// Links and `..` that stay within are followed.
///
/// So a path that came from somebody else can be used as it is. Where the directory lies does not matter
/// any more: it may be renamed, or removed.
///
/// Dropping it closes it through the ring; the enclosing scope waits for that.
///
/// ```
/// use std::io::ErrorKind;
/// use trine::fs::{self, Dir, OpenOptions};
///
/// # let path = std::env::temp_dir().join(format!("trine-doc-dir-{}", std::process::id()));
/// trine::run(async || {
///     fs::create_dir(&path).await?;
///     let dir = Dir::open(&path).await?;
///     dir.create_dir("uploads").await?;
///     let new = OpenOptions::new().write(true).create_new(true);
///     let file = dir.open_file_with("uploads/file", &new).await?;
///     file.write_all_at("content", 0).await?;
///
///     let refused = dir.open_file("uploads/../../secret").await.unwrap_err();
///     assert_eq!(refused.io_kind(), Some(ErrorKind::PermissionDenied));
/// #   fs::remove_dir_all(&path).await?;
///     dir.close().await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Dir {
    run: Rc<Run>,
    fd: Fd,
}

/// So that nothing leads out. What the links in `/proc` lead to is always outside.
const BENEATH: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;

impl Dir {
    /// Opens a directory. This path may lead anywhere.
    ///
    /// Cancel class: total: a descriptor that comes too late is closed (rule D7). Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says: `NotFound`, `NotADirectory`; `InvalidInput` for a path with a zero
    /// byte; `Cancelled`; [`Error::NoRun`](crate::Error::NoRun).
    pub async fn open(path: impl AsRef<Path>) -> Result<Dir> {
        let run = exec::current()?;
        let fd = open_dir(&run, None, &terminated(path.as_ref())?, false).await?;
        Ok(Dir { run, fd })
    }

    /// Opens a file in it to read it, as [`File::open`] does.
    ///
    /// Cancel class: total: a descriptor that comes too late is closed (rule D7). Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says; `PermissionDenied` for a path that leads out of the directory;
    /// `InvalidInput` for one with a zero byte; `Cancelled`.
    pub async fn open_file(&self, path: impl AsRef<Path>) -> Result<File> {
        self.open_file_with(path, &OpenOptions::new().read(true)).await
    }

    /// Opens a file in it as the options say.
    ///
    /// Cancel class: as for [`open_file`](Dir::open_file). Linux 6.1.
    ///
    /// # Errors
    /// As [`open_file`](Dir::open_file) and [`OpenOptions::open`].
    pub async fn open_file_with(
        &self,
        path: impl AsRef<Path>,
        options: &OpenOptions,
    ) -> Result<File> {
        exec::check_run(&self.run)?;
        options.open_at(Some(&self.fd), path.as_ref(), BENEATH).await
    }

    /// Opens a directory in it, which its own paths cannot lead out of either.
    ///
    /// Cancel class: as for [`open_file`](Dir::open_file). Linux 6.1.
    ///
    /// # Errors
    /// As [`open_file`](Dir::open_file), and `NotADirectory`.
    pub async fn open_dir(&self, path: impl AsRef<Path>) -> Result<Dir> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let fd = self.open_beneath(path.as_ref(), flags).await?;
        Ok(Dir { run: Rc::clone(&self.run), fd })
    }

    /// Makes a directory, with the permissions 0o777 less what the umask takes.
    ///
    /// Cancel class: total; what has begun is waited for. Linux 6.1.
    ///
    /// # Errors
    /// As [`create_dir`](super::create_dir); `PermissionDenied` for a path that leads out; `InvalidInput` for one
    /// that does not end with a name.
    pub async fn create_dir(&self, path: impl AsRef<Path>) -> Result {
        let (at, name) = self.place(path.as_ref()).await?;
        create_dir_at(Some(&at), name.as_ref(), 0o777).await
    }

    /// Takes the name of a file away, or a symbolic link.
    ///
    /// Cancel class: total; what has begun is waited for. Linux 6.1.
    ///
    /// # Errors
    /// As [`remove_file`](super::remove_file) and [`create_dir`](Dir::create_dir).
    pub async fn remove_file(&self, path: impl AsRef<Path>) -> Result {
        let (at, name) = self.place(path.as_ref()).await?;
        remove_at(Some(&at), name.as_ref(), false).await
    }

    /// Removes an empty directory.
    ///
    /// Cancel class: total; what has begun is waited for. Linux 6.1.
    ///
    /// # Errors
    /// As [`remove_dir`](super::remove_dir) and [`create_dir`](Dir::create_dir).
    pub async fn remove_dir(&self, path: impl AsRef<Path>) -> Result {
        let (at, name) = self.place(path.as_ref()).await?;
        remove_at(Some(&at), name.as_ref(), true).await
    }

    /// Gives a file or a directory in it another name in `to_dir`, which may be this one too. What had that
    /// name is replaced.
    ///
    /// Cancel class: total; what has begun is waited for. Linux 6.1.
    ///
    /// # Errors
    /// As [`rename`](super::rename()) and [`create_dir`](Dir::create_dir).
    pub async fn rename(
        &self,
        from: impl AsRef<Path>,
        to_dir: &Dir,
        to: impl AsRef<Path>,
    ) -> Result {
        let (at, from) = self.place(from.as_ref()).await?;
        let (to_at, to) = to_dir.place(to.as_ref()).await?;
        rename_at(Some(&at), from.as_ref(), Some(&to_at), to.as_ref()).await
    }

    /// What is known of something in it. Symbolic links are followed, as far as they stay within.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says, `NotFound` for one; `PermissionDenied` for a path that leads out;
    /// `Cancelled`.
    pub async fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.stat(path.as_ref(), 0).await
    }

    /// As [`metadata`](Dir::metadata), of a symbolic link itself.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// As [`metadata`](Dir::metadata).
    pub async fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.stat(path.as_ref(), libc::O_NOFOLLOW).await
    }

    async fn stat(&self, path: &Path, nofollow: i32) -> Result<Metadata> {
        let found = self.open_beneath(path, libc::O_PATH | nofollow).await?;
        stat(Some(&found), c"", libc::AT_EMPTY_PATH).await
    }

    /// Opens a directory in it to see what is in that; `"."` is this one. The paths of the entries begin with
    /// `path`.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// As [`open_dir`](Dir::open_dir).
    pub async fn read_dir(&self, path: impl AsRef<Path>) -> Result<ReadDir> {
        let path = path.as_ref();
        let fd = self.open_beneath(path, libc::O_RDONLY | libc::O_DIRECTORY).await?;
        ReadDir::new(Rc::clone(&self.run), fd, path.to_owned())
    }

    /// Closes the directory and waits until that is done.
    ///
    /// Cancel class: terminal. In a cancelled scope it is closed all the same, and `Cancelled` is reported
    /// (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what the operating system says; it is closed in any case.
    pub async fn close(self) -> Result {
        crate::io::close(&self.run, self.fd, Vec::new()).await
    }

    async fn open_beneath(&self, path: &Path, flags: i32) -> Result<Fd> {
        exec::check_run(&self.run)?;
        let flags = (flags | libc::O_CLOEXEC) as u64;
        let how = OpenHow { flags, mode: 0, resolve: BENEATH };
        open(&self.run, Some(&self.fd), &terminated(path)?, how).await
    }

    /// The directory of a name that is to be made, changed or taken away, and the name. The kernel looks such
    /// names up without asking whether the path leads out; a single name cannot.
    async fn place<'a>(&self, path: &'a Path) -> Result<(Fd, &'a OsStr)> {
        let name = path.file_name().ok_or_else(|| {
            io::Error::new(ErrorKind::InvalidInput, format!("the path {path:?} ends with no name"))
        })?;
        let at = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                self.open_beneath(parent, libc::O_PATH | libc::O_DIRECTORY).await?
            }
            _ => {
                exec::check_run(&self.run)?;
                self.fd.clone()
            }
        };
        Ok((at, name))
    }
}

owns_descriptor!(Dir, fd);
