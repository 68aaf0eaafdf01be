//! Whole files: read, written, replaced, copied.

use std::ffi::{CString, OsStr};
use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;

use crate::error::Result;
use crate::exec::{self, Run};
use crate::op::{Fd, IoBuf, Submission};
use crate::scope::shield;

use super::file::File;
use super::metadata::{Metadata, stat};
use super::names::rename_at;
use super::open::{OpenOptions, open_dir};
use super::path::{terminated, unique_name};

/// Reads a whole file.
///
/// Cancel class: total. Linux 6.1.
///
/// # Errors
/// As [`File::open`] and [`File::read_at`]; `OutOfMemory` for a file that does not fit.
///
/// ```
/// use trine::fs;
///
/// # let path = std::env::temp_dir().join(format!("trine-doc-whole-{}", std::process::id()));
/// trine::run(async || {
///     fs::write(&path, "all of it").await?;
///     assert_eq!(fs::read(&path).await?, b"all of it");
///     assert_eq!(fs::read_to_string(&path).await?, "all of it");
///     fs::remove_file(&path).await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let file = File::open(path).await?;
    let bytes = read_all(&file).await?;
    file.close().await?;
    Ok(bytes)
}

async fn read_all(file: &File) -> Result<Vec<u8>> {
    // One byte more than there should be: then the end is seen without room for another piece.
    let expected = usize::try_from(file.metadata().await?.len()).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    let mut more = expected.saturating_add(1).max(LEAST);
    loop {
        let len = bytes.len();
        if bytes.capacity() == len {
            bytes.try_reserve(more).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
            more = len.max(LEAST);
        }
        let room = len..bytes.capacity();
        bytes = file.read_at(bytes.slice(room), len as u64).await?.into_inner();
        if bytes.len() == len {
            return Ok(bytes);
        }
    }
}

/// Files that do not tell their length, as those in `/proc`, are read in pieces of so much at least.
const LEAST: usize = 4096;

/// Reads a whole file as text.
///
/// Cancel class: total. Linux 6.1.
///
/// # Errors
/// As [`read`], and `InvalidData` for what is not UTF-8.
pub async fn read_to_string(path: impl AsRef<Path>) -> Result<String> {
    let bytes = read(path).await?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error).into())
}

/// Writes a whole file: a new one, or in place of what was in it. Who reads meanwhile, or after a crash,
/// may see an empty file or a part; [`write_atomic`] has no such moment.
///
/// Cancel class: partial: the file may be there with a part of it. Linux 6.1.
///
/// # Errors
/// As [`File::create`] and [`File::write_all_at`].
pub async fn write(path: impl AsRef<Path>, contents: impl IoBuf) -> Result {
    let file = File::create(path).await?;
    file.write_all_at(contents, 0).await?;
    file.close().await
}

/// Replaces a file as a whole: at each moment, also after a crash, it has all of the old content or all of
/// the new.
///
/// The new content is written to a file beside it, which takes its name when it is on the device; then
/// the name is. The permissions are those of the old file, the owner is this process's; a symbolic link
/// is replaced, not what it leads to.
///
/// Cancel class: total: `Cancelled` means that the old file is there, and the one beside it is removed. It
/// is removed when the future is dropped, too, but for one moment: dropped while the kernel is making that
/// file (`.….tmp`), it may be left lying. Linux 6.1.
///
/// # Errors
/// What the operating system says; `InvalidInput` for a path without a name at its end; `Cancelled`. After
/// an error of the very last step, syncing the directory, the new content is there, but a crash may
/// bring the old one back.
///
/// ```
/// use trine::fs;
///
/// # let path = std::env::temp_dir().join(format!("trine-doc-atomic-{}", std::process::id()));
/// trine::run(async || {
///     fs::write_atomic(&path, "count = 1\n").await?;
///     fs::write_atomic(&path, "count = 2\n").await?;
///     assert_eq!(fs::read(&path).await?, b"count = 2\n");
///     fs::remove_file(&path).await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn write_atomic(path: impl AsRef<Path>, contents: impl IoBuf) -> Result {
    let (run, path) = (exec::current()?, path.as_ref());
    let name = path.file_name().ok_or_else(|| {
        let text = format!("the path {path:?} has no name at its end that a file could have");
        io::Error::new(ErrorKind::InvalidInput, text)
    })?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = terminated(parent.unwrap_or(Path::new(".")))?;
    let directory = open_dir(&run, None, &parent, false).await?;
    replace(&run, &directory, name, contents).await
}

/// Replaces the file `name` in a directory.
async fn replace(run: &Rc<Run>, directory: &Fd, name: &OsStr, contents: impl IoBuf) -> Result {
    let old = stat(Some(directory), &terminated(name.as_ref())?, 0).await;
    let mode = match old {
        Ok(old) if old.is_file() => Some(old.mode() & 0o7777),
        Ok(_) => None,
        Err(error) if error.io_kind() == Some(ErrorKind::NotFound) => None,
        Err(error) => return Err(error),
    };
    let beside = unique_name();
    let options = OpenOptions::new().write(true).create_new(true).mode(mode.unwrap_or(0o666));
    let mut leftover = Leftover { run, directory, name: Some(terminated(beside.as_ref())?) };
    let file = options.open_at(Some(directory), beside.as_ref(), 0).await?;
    file.write_all_at(contents, 0).await?;
    if let Some(mode) = mode {
        ensure_mode(&file, mode).await?;
    }
    file.sync_all().await?;
    file.close().await?;
    rename_at(Some(directory), beside.as_ref(), Some(directory), name.as_ref()).await?;
    leftover.name = None;
    // It has happened, whatever is cancelled.
    match shield(exec::submit_plain(|| Submission::sync(directory, false))).await {
        // Some file systems keep directories in order without being asked.
        Err(error) if error.io_kind() == Some(ErrorKind::InvalidInput) => Ok(()),
        synced => synced,
    }
}

/// A file that is removed unless it has got another name. It may not be there.
struct Leftover<'a> {
    run: &'a Rc<Run>,
    directory: &'a Fd,
    name: Option<CString>,
}

impl Drop for Leftover<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.run.submit_orphan(Submission::tidy(Some(self.directory), &name, false));
        }
    }
}

/// Sets the permissions, if the umask has taken some of them.
async fn ensure_mode(file: &File, mode: u32) -> Result {
    if file.metadata().await?.mode() & 0o7777 == mode {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(mode)).await
}

/// Copies the content and the permissions of a file, in place of what `to` had, and says how many bytes
/// that was.
///
/// Cancel class: partial: `to` may be there with a part of it. Linux 6.1.
///
/// # Errors
/// What the operating system says; `InvalidInput` if `from` is no regular file, or both are the same one;
/// `Cancelled`.
///
/// ```
/// use trine::fs;
///
/// # let dir = std::env::temp_dir();
/// # let (from, to) = (dir.join(format!("trine-doc-from-{}", std::process::id())), dir.join(format!("trine-doc-to-{}", std::process::id())));
/// trine::run(async || {
///     fs::write(&from, "content").await?;
///     assert_eq!(fs::copy(&from, &to).await?, 7);
///     fs::remove_file(&from).await?;
///     fs::remove_file(&to).await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<u64> {
    let source = File::open(from).await?;
    let about = source.metadata().await?;
    if !about.is_file() {
        return Err(wrong("only regular files are copied").into());
    }
    let mode = about.mode() & 0o7777;
    let options = OpenOptions::new().write(true).create(true).mode(mode);
    let target = options.open(to).await?;
    let there = target.metadata().await?;
    if is_same(&about, &there) {
        return Err(wrong("a file is not copied onto itself").into());
    }
    if there.is_file() && there.len() > 0 {
        target.set_len(0).await?;
    }
    let copied = copy_content(&source, &target).await?;
    if there.is_file() {
        ensure_mode(&target, mode).await?;
    }
    source.close().await?;
    target.close().await?;
    Ok(copied)
}

async fn copy_content(source: &File, target: &File) -> Result<u64> {
    let (mut buf, mut at) = (Vec::with_capacity(PIECE), 0);
    loop {
        buf = source.read_at(buf, at).await?;
        if buf.is_empty() {
            return Ok(at);
        }
        buf = target.write_all_at(buf, at).await?;
        at += buf.len() as u64;
    }
}

/// Larger pieces do not make copying faster.
const PIECE: usize = 256 << 10;

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn wrong(text: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}
