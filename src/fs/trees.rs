//! Whole trees of directories.

use std::ffi::CString;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;

use crate::error::Result;
use crate::exec::{self, Run};
use crate::op::{Fd, Submission};
use crate::ring::Listed;

use super::listing::all_names;
use super::metadata::stat;
use super::names::{remove_dir, remove_file, symlink_metadata};
use super::open::open_dir;
use super::path::terminated;

/// Removes a directory with all that is in it. A symbolic link is removed, not what it leads to, also if there is a
/// slash behind its name, and also one that takes a directory's place in the middle of it.
///
/// What others remove meanwhile is no error. Each level of the tree takes a descriptor while it is at work.
///
/// Cancel class: partial: what was removed is gone. Linux 6.1.
///
/// # Errors
/// What the operating system says: `NotFound`, `NotADirectory`, `DirectoryNotEmpty` if somebody has put
/// something there meanwhile; `Cancelled`; [`Error::NoRun`](crate::Error::NoRun).
///
/// ```
/// use trine::fs;
///
/// # let dir = std::env::temp_dir().join(format!("trine-doc-tree-{}", std::process::id()));
/// trine::run(async || {
///     fs::create_dir_all(dir.join("a/b/c")).await?;
///     fs::write(dir.join("a/b/file"), "content").await?;
///     fs::remove_dir_all(&dir).await?;
///     assert!(!fs::try_exists(&dir).await?);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn remove_dir_all(path: impl AsRef<Path>) -> Result {
    // Without a slash or a dot at the end, for the sake of which the kernel would follow a symbolic link.
    let (run, path) = (exec::current()?, path.as_ref().components().as_path());
    if symlink_metadata(path).await?.is_symlink() {
        return remove_file(path).await;
    }
    let directory = open_dir(&run, None, &terminated(path)?, true).await?;
    empty(&run, directory).await?;
    remove_dir(path).await
}

/// One directory on the way down.
struct Level {
    directory: Fd,
    /// In the directory above.
    name: CString,
    left: Vec<Listed>,
}

/// Removes all that is in a directory.
async fn empty(run: &Rc<Run>, directory: Fd) -> Result {
    let left = all_names(run, &directory).await?;
    let mut levels = vec![Level { directory, name: CString::default(), left }];
    while let Some(level) = levels.last_mut() {
        let Some(listed) = level.left.pop() else {
            let emptied = levels.pop().map(|level| level.name);
            if let (Some(above), Some(name)) = (levels.last(), emptied) {
                unlink(&above.directory, &name, true).await?;
            }
            continue;
        };
        let name = terminated(listed.name.as_ref())?;
        if !is_directory(&level.directory, &listed, &name).await? {
            unlink(&level.directory, &name, false).await?;
            continue;
        }
        match open_dir(run, Some(&level.directory), &name, true).await {
            Ok(directory) => {
                let left = all_names(run, &directory).await?;
                levels.push(Level { directory, name, left });
            }
            gone => is_gone(gone.map(drop))?,
        }
    }
    Ok(())
}

async fn is_directory(directory: &Fd, listed: &Listed, name: &CString) -> Result<bool> {
    if let Some(kind) = listed.kind {
        return Ok(kind == libc::S_IFDIR);
    }
    match stat(Some(directory), name, libc::AT_SYMLINK_NOFOLLOW).await {
        Ok(about) => Ok(about.is_dir()),
        gone => is_gone(gone.map(drop)).map(|()| false),
    }
}

async fn unlink(directory: &Fd, name: &CString, is_directory: bool) -> Result {
    is_gone(exec::submit_plain(|| Submission::unlink(Some(directory), name, is_directory)).await)
}

/// Somebody else was faster: that is as good.
fn is_gone(outcome: Result) -> Result {
    match outcome {
        Err(error) if error.io_kind() == Some(ErrorKind::NotFound) => Ok(()),
        outcome => outcome,
    }
}
