//! Names: made, changed and taken away through the ring.

use std::io::ErrorKind;
use std::path::Path;

use crate::error::Result;
use crate::exec;
use crate::op::{Fd, Submission};

use super::metadata::{Metadata, stat};
use super::path::terminated;

/// Gives a file or a directory another name, in the same file system. What had that name is replaced: a
/// file by a file, an empty directory by a directory.
///
/// Cancel class: total; what has begun is waited for. Linux 6.1.
///
/// # Errors
/// What the operating system says: `NotFound`, `CrossesDevices`, `DirectoryNotEmpty`; `InvalidInput` for a
/// path with a zero byte; `Cancelled`; [`Error::NoRun`](crate::Error::NoRun).
///
/// ```
/// use trine::fs;
///
/// # let dir = std::env::temp_dir();
/// # let (old, new) = (dir.join(format!("trine-doc-old-{}", std::process::id())), dir.join(format!("trine-doc-new-{}", std::process::id())));
/// trine::run(async || {
///     fs::write(&old, "content").await?;
///     fs::rename(&old, &new).await?;
///     assert!(!fs::try_exists(&old).await?);
///     fs::remove_file(&new).await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result {
    rename_at(None, from.as_ref(), None, to.as_ref()).await
}

pub(super) async fn rename_at(
    at: Option<&Fd>,
    from: &Path,
    to_at: Option<&Fd>,
    to: &Path,
) -> Result {
    let (from, to) = (terminated(from)?, terminated(to)?);
    exec::submit_plain(|| Submission::rename(at, &from, to_at, &to)).await
}

/// Gives a file one more name, in the same file system. A symbolic link is not followed.
///
/// Cancel class: total; what has begun is waited for. Linux 6.1.
///
/// # Errors
/// As [`rename`], and `AlreadyExists`.
pub async fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> Result {
    let (original, link) = (terminated(original.as_ref())?, terminated(link.as_ref())?);
    exec::submit_plain(|| Submission::link(None, &original, None, &link, false)).await
}

/// Makes a symbolic link that says `original`, which need not be there.
///
/// Cancel class: total; what has begun is waited for. Linux 6.1.
///
/// # Errors
/// What the operating system says, `AlreadyExists` for one; `Cancelled`.
pub async fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> Result {
    let (original, link) = (terminated(original.as_ref())?, terminated(link.as_ref())?);
    exec::submit_plain(|| Submission::symlink(&original, None, &link)).await
}

/// Takes the name of a file away, or a symbolic link; the file goes with its last name and descriptor.
///
/// Cancel class: total; what has begun is waited for. Linux 6.1.
///
/// # Errors
/// What the operating system says: `NotFound`, `IsADirectory`; `Cancelled`.
pub async fn remove_file(path: impl AsRef<Path>) -> Result {
    remove_at(None, path.as_ref(), false).await
}

/// Removes an empty directory.
///
/// Cancel class: total; what has begun is waited for. Linux 6.1.
///
/// # Errors
/// What the operating system says: `NotFound`, `NotADirectory`, `DirectoryNotEmpty`; `Cancelled`.
pub async fn remove_dir(path: impl AsRef<Path>) -> Result {
    remove_at(None, path.as_ref(), true).await
}

pub(super) async fn remove_at(at: Option<&Fd>, path: &Path, directory: bool) -> Result {
    let path = terminated(path)?;
    exec::submit_plain(|| Submission::unlink(at, &path, directory)).await
}

/// Makes a directory, with the permissions 0o777 less what the umask takes.
///
/// Cancel class: total; what has begun is waited for. Linux 6.1.
///
/// # Errors
/// What the operating system says: `AlreadyExists`, `NotFound` if there is no directory for it;
/// `Cancelled`.
pub async fn create_dir(path: impl AsRef<Path>) -> Result {
    create_dir_at(None, path.as_ref(), 0o777).await
}

pub(super) async fn create_dir_at(at: Option<&Fd>, path: &Path, mode: u32) -> Result {
    let path = terminated(path)?;
    exec::submit_plain(|| Submission::make_dir(at, &path, mode)).await
}

/// Makes a directory and those above it, as far as they are not there.
///
/// Cancel class: partial: directories that were made stay. Linux 6.1.
///
/// # Errors
/// As [`create_dir`], but a directory that is there is none; `Cancelled`.
pub async fn create_dir_all(path: impl AsRef<Path>) -> Result {
    let path = path.as_ref();
    if path.as_os_str().is_empty() {
        // The working directory, which is there.
        return exec::checkpoint().await;
    }
    let mut missing = Vec::new();
    for directory in path.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        match make_unless_there(directory).await {
            Err(error) if error.io_kind() == Some(ErrorKind::NotFound) => missing.push(directory),
            made => {
                made?;
                break;
            }
        }
    }
    for directory in missing.into_iter().rev() {
        make_unless_there(directory).await?;
    }
    Ok(())
}

async fn make_unless_there(path: &Path) -> Result {
    match create_dir(path).await {
        Err(error) if error.io_kind() == Some(ErrorKind::AlreadyExists) => {
            match metadata(path).await {
                Ok(there) if there.is_dir() => Ok(()),
                Err(cancelled) if cancelled.is_cancelled() => Err(cancelled),
                _ => Err(error),
            }
        }
        made => made,
    }
}

/// What is known of a file or a directory. Symbolic links are followed.
///
/// Cancel class: total. Linux 6.1.
///
/// # Errors
/// What the operating system says, `NotFound` for one; `InvalidInput` for a path with a zero byte;
/// `Cancelled`; [`Error::NoRun`](crate::Error::NoRun).
pub async fn metadata(path: impl AsRef<Path>) -> Result<Metadata> {
    metadata_at(None, path.as_ref(), 0).await
}

/// As [`metadata`], of a symbolic link itself.
///
/// Cancel class: total. Linux 6.1.
///
/// # Errors
/// As [`metadata`].
pub async fn symlink_metadata(path: impl AsRef<Path>) -> Result<Metadata> {
    metadata_at(None, path.as_ref(), libc::AT_SYMLINK_NOFOLLOW).await
}

pub(super) async fn metadata_at(at: Option<&Fd>, path: &Path, flags: i32) -> Result<Metadata> {
    stat(at, &terminated(path)?, flags).await
}

/// Whether there is something of this name. A symbolic link that leads nowhere is nothing.
///
/// Cancel class: total. Linux 6.1.
///
/// # Errors
/// As [`metadata`], but for `NotFound`.
pub async fn try_exists(path: impl AsRef<Path>) -> Result<bool> {
    match metadata(path).await {
        Err(error) if error.io_kind() == Some(ErrorKind::NotFound) => Ok(false),
        found => found.map(|_| true),
    }
}
