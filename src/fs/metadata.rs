//! What is known of a file.

use std::ffi::CStr;
use std::fmt;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use crate::error::Result;
use crate::exec;
use crate::op::{Fd, Submission};
use crate::ring::{Stamp, Stat};

/// What is known of a file or a directory: statx(2).
#[derive(Clone, Copy)]
pub struct Metadata {
    stat: Stat,
}

impl Metadata {
    /// What it is.
    pub fn file_type(&self) -> FileType {
        FileType { mode: self.stat.mode }
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type().is_file()
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type().is_dir()
    }

    /// Whether it is a symbolic link, which only what does not follow them can find.
    pub fn is_symlink(&self) -> bool {
        self.file_type().is_symlink()
    }

    /// Its length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "as in std")]
    pub fn len(&self) -> u64 {
        self.stat.size
    }

    /// Who may do what with it.
    pub fn permissions(&self) -> Permissions {
        Permissions::from_mode(self.stat.mode)
    }

    /// The type and the permissions as one number (`st_mode`).
    pub fn mode(&self) -> u32 {
        self.stat.mode
    }

    /// When its content was last changed.
    pub fn modified(&self) -> SystemTime {
        time(self.stat.modified)
    }

    /// When it was last read, as far as the file system keeps account of that.
    pub fn accessed(&self) -> SystemTime {
        time(self.stat.accessed)
    }

    /// When its content or what is known of it was last changed (`st_ctime`).
    pub fn changed(&self) -> SystemTime {
        time(self.stat.changed)
    }

    /// When it was made, if the file system remembers that.
    pub fn created(&self) -> Option<SystemTime> {
        self.stat.created.map(time)
    }

    /// The device that it lies on.
    pub fn dev(&self) -> u64 {
        self.stat.device
    }

    /// Its number on the device.
    pub fn ino(&self) -> u64 {
        self.stat.inode
    }

    /// How many names it has.
    pub fn nlink(&self) -> u64 {
        self.stat.links.into()
    }

    /// The user whose it is.
    pub fn uid(&self) -> u32 {
        self.stat.user
    }

    /// The group whose it is.
    pub fn gid(&self) -> u32 {
        self.stat.group
    }

    /// How many blocks of 512 bytes it takes on the device; fewer than its length if it has holes.
    pub fn blocks(&self) -> u64 {
        self.stat.blocks
    }

    /// What the address of a buffer, and what offsets and lengths, have to be multiples of for direct reads and
    /// writes, if the kernel tells. 4,096 mostly suits.
    pub(super) fn direct_alignment(&self) -> Option<(u32, u32)> {
        self.stat.direct
    }

    /// The size that reads and writes are best at.
    pub fn blksize(&self) -> u64 {
        self.stat.block_size.into()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("file_type", &self.file_type())
            .field("permissions", &format_args!("{:o}", self.stat.mode & 0o7777))
            .field("len", &self.len())
            .field("modified", &self.modified())
            .finish_non_exhaustive()
    }
}

/// What a file is: regular, a directory, or something else.
#[derive(Clone, Copy)]
pub struct FileType {
    mode: u32,
}

impl FileType {
    pub(super) fn new(mode: u32) -> FileType {
        FileType { mode }
    }

    fn is(self, kind: libc::mode_t) -> bool {
        self.mode & libc::S_IFMT == kind
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.is(libc::S_IFREG)
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.is(libc::S_IFDIR)
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.is(libc::S_IFLNK)
    }

    /// Whether it is a FIFO.
    pub fn is_fifo(&self) -> bool {
        self.is(libc::S_IFIFO)
    }

    /// Whether it is a socket.
    pub fn is_socket(&self) -> bool {
        self.is(libc::S_IFSOCK)
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        self.is(libc::S_IFBLK)
    }

    /// Whether it is a character device.
    pub fn is_char_device(&self) -> bool {
        self.is(libc::S_IFCHR)
    }
}

impl PartialEq for FileType {
    fn eq(&self, other: &FileType) -> bool {
        self.is(other.mode & libc::S_IFMT)
    }
}

impl Eq for FileType {}

impl fmt::Debug for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mode & libc::S_IFMT {
            libc::S_IFREG => "regular file",
            libc::S_IFDIR => "directory",
            libc::S_IFLNK => "symbolic link",
            libc::S_IFIFO => "FIFO",
            libc::S_IFSOCK => "socket",
            libc::S_IFBLK => "block device",
            libc::S_IFCHR => "character device",
            _ => "unknown",
        })
    }
}

/// The time of a stamp. One that no `SystemTime` can say becomes 1970, as an unset clock's.
fn time(stamp: Stamp) -> SystemTime {
    let seconds = Duration::from_secs(stamp.seconds.unsigned_abs());
    let start = match stamp.seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
        _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
    };
    let nanos = Duration::from_nanos(stamp.nanos.into());
    start.and_then(|start| start.checked_add(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Asks for what is known of a path, or with `AT_EMPTY_PATH` and an empty one of `at` itself.
pub(super) async fn stat(at: Option<&Fd>, path: &CStr, flags: i32) -> Result<Metadata> {
    let (_, storage) = exec::submit(|| Submission::stat(at, path, flags)).await?;
    let storage = storage.expect("a stat has room for its answer");
    Ok(Metadata { stat: storage.into_stat() })
}
