//! Files asked for without the ring, which has no operation for it: what is in a directory, where a link
//! leads, permissions. On Linux that may wait for a disk, so a thread does it; a simulated world knows.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::host::Host;

/// A name in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) name: OsString,
    pub(crate) inode: u64,
    /// The type, as in a mode, where the file system tells.
    pub(crate) kind: Option<u32>,
}

/// Reads the next names of a directory, as many as fit into the buffer, without `.` and `..`. `false`: there
/// were none left.
pub(crate) fn list_some(
    directory: &OwnedFd,
    buffer: &mut Vec<u8>,
    into: &mut impl Extend<Listed>,
) -> io::Result<bool> {
    buffer.resize(BATCH, 0);
    let (fd, place, len) = (directory.as_raw_fd(), buffer.as_mut_ptr(), buffer.len());
    // SAFETY: room for `len` bytes.
    let filled = unsafe { libc::syscall(libc::SYS_getdents64, fd, place, len) };
    let Ok(filled) = usize::try_from(filled) else {
        let error = io::Error::last_os_error();
        // It was removed: then there is nothing in it.
        return if error.kind() == io::ErrorKind::NotFound { Ok(false) } else { Err(error) };
    };
    let mut rest = &buffer[..filled];
    while let Some((listed, after)) = parse(rest) {
        let is_itself = listed.name == "." || listed.name == "..";
        into.extend((!is_itself).then_some(listed));
        rest = after;
    }
    Ok(filled > 0)
}

/// Some hundreds of names.
const BATCH: usize = 32 << 10;

/// The first `struct linux_dirent64`: two words, a length, a type, and a name that ends with a zero byte.
fn parse(bytes: &[u8]) -> Option<(Listed, &[u8])> {
    const NAME: usize = 19;
    let len = u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?).into();
    let (entry, rest) = bytes.split_at_checked(len)?;
    let name = entry.get(NAME..)?.split(|byte| *byte == 0).next()?;
    let inode = u64::from_ne_bytes(entry[..8].try_into().ok()?);
    // A `DT_` constant is the type of a mode, shifted.
    let kind = Some(u32::from(entry[NAME - 1]) << 12).filter(|kind| *kind != 0);
    Some((Listed { name: OsString::from_vec(name.to_vec()), inode, kind }, rest))
}

/// `None`: a thread has to ask.
impl Host {
    /// Where temporary files are made.
    pub(crate) fn temp_dir(&self) -> PathBuf {
        match self {
            Host::Linux(_) => std::env::temp_dir(),
            #[cfg(feature = "testing")]
            Host::Twin(_) => PathBuf::from("/tmp"),
        }
    }

    /// All names in a directory.
    pub(crate) fn known_names(&self, _directory: RawFd) -> Option<io::Result<Vec<Listed>>> {
        match self {
            Host::Linux(_) => None,
            #[cfg(feature = "testing")]
            Host::Twin(world) => Some(world.list(_directory)),
        }
    }

    /// What a symbolic link says.
    pub(crate) fn known_link(&self, _path: &Path) -> Option<io::Result<PathBuf>> {
        match self {
            Host::Linux(_) => None,
            #[cfg(feature = "testing")]
            Host::Twin(world) => Some(world.read_link(_path)),
        }
    }

    /// The path without links, `.` and `..`.
    pub(crate) fn known_path(&self, _path: &Path) -> Option<io::Result<PathBuf>> {
        match self {
            Host::Linux(_) => None,
            #[cfg(feature = "testing")]
            Host::Twin(world) => Some(world.canonical(_path)),
        }
    }

    /// Sets the permissions of a path.
    pub(crate) fn set_known_mode(&self, _path: &Path, _mode: u32) -> Option<io::Result<()>> {
        match self {
            Host::Linux(_) => None,
            #[cfg(feature = "testing")]
            Host::Twin(world) => Some(world.set_mode(_path, _mode)),
        }
    }

    /// Sets the permissions of an open file.
    pub(crate) fn set_known_mode_of(&self, _fd: RawFd, _mode: u32) -> Option<io::Result<()>> {
        match self {
            Host::Linux(_) => None,
            #[cfg(feature = "testing")]
            Host::Twin(world) => Some(world.set_mode_of(_fd, _mode)),
        }
    }
}
