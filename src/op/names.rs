//! Operations on files and names: their submissions, and the memory that these are about.
//!
//! A path is copied into memory of the operation. The kernel reads paths when it takes the request, or
//! later in a worker, so they stay like any other memory.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};

use crate::ring::{FileRequest, OpenHow, Request, Stat, WORKING};

use super::block::Storage;
use super::fd::Fd;
use super::kind::Kind;
use super::shelf::Shelf;
use super::submission::Submission;

/// What lies in the storage of such an operation.
pub(super) struct Names {
    bytes: Box<[u8]>,
    /// A second directory that it is about; the first one goes with the submission.
    _second: Option<Fd>,
}

impl Storage {
    fn names(parts: &[&[u8]], second: Option<&Fd>) -> Storage {
        let names = Names { bytes: parts.concat().into_boxed_slice(), _second: second.cloned() };
        Storage::of_names(names, &Shelf::default())
    }

    /// What the kernel has told of a file.
    pub(crate) fn into_stat(self) -> Stat {
        let Names { bytes, .. } = self.into_inner(&Shelf::default());
        Stat::from_bytes(&bytes)
    }
}

impl Names {
    pub(super) fn memory(&mut self) -> (*mut u8, usize) {
        (self.bytes.as_mut_ptr(), self.bytes.len())
    }
}

fn place(directory: Option<&Fd>) -> RawFd {
    directory.map_or(WORKING, AsRawFd::as_raw_fd)
}

/// A relative path begins in the directory `at`, or in the working directory.
impl Submission {
    /// Opens a file.
    pub(crate) fn open(at: Option<&Fd>, path: &CStr, how: OpenHow) -> Submission {
        let mut storage = Storage::names(&[&how.to_bytes(), path.to_bytes_with_nul()], None);
        let (at_raw, may_block) = (place(at), how.may_block());
        let how_and_path = storage.region(0);
        let request = FileRequest::Open { at: at_raw, how_and_path, may_block };
        Submission::about_names(&Kind::OPEN, request, at, storage)
    }

    /// Asks what is known of a file. The answer is [`into_stat`](Storage::into_stat) of its storage.
    pub(crate) fn stat(at: Option<&Fd>, path: &CStr, flags: i32) -> Submission {
        let mut storage = Storage::names(&[&[0; Stat::LEN], path.to_bytes_with_nul()], None);
        let room_and_path = storage.region(0);
        let request = FileRequest::Stat { at: place(at), room_and_path, flags };
        Submission::about_names(&Kind::STAT, request, at, storage)
    }

    /// Writes a file to its device; with `data` what is needed to read it again.
    pub(crate) fn sync(fd: &Fd, data: bool) -> Submission {
        let request = FileRequest::Sync { fd: fd.as_raw_fd(), data };
        Submission::without_memory(&Kind::SYNC, Request::File(request), fd)
    }

    /// Writes a range of a file's pages.
    pub(crate) fn sync_range(fd: &Fd, at: u64, len: u32) -> Submission {
        let request = FileRequest::SyncRange { fd: fd.as_raw_fd(), at, len };
        Submission::without_memory(&Kind::SYNC, Request::File(request), fd)
    }

    pub(crate) fn allocate(fd: &Fd, at: u64, len: u64, mode: i32) -> Submission {
        let request = FileRequest::Allocate { fd: fd.as_raw_fd(), at, len, mode };
        Submission::without_memory(&Kind::ALLOCATE, Request::File(request), fd)
    }

    pub(crate) fn set_len(fd: &Fd, len: u64) -> Submission {
        let request = FileRequest::SetLen { fd: fd.as_raw_fd(), len };
        Submission::without_memory(&Kind::SET_LEN, Request::File(request), fd)
    }

    pub(crate) fn advise(fd: &Fd, at: u64, len: u64, advice: i32) -> Submission {
        let request = FileRequest::Advise { fd: fd.as_raw_fd(), at, len, advice };
        Submission::without_memory(&Kind::ADVISE, Request::File(request), fd)
    }

    pub(crate) fn rename(
        at: Option<&Fd>,
        from: &CStr,
        to_at: Option<&Fd>,
        to: &CStr,
    ) -> Submission {
        let (mut storage, second) = two(from, to, to_at);
        let (raw, to_raw, names) = (place(at), place(to_at), storage.region(0));
        let request = FileRequest::Rename { at: raw, to_at: to_raw, names, second };
        Submission::about_names(&Kind::RENAME, request, at, storage)
    }

    /// With `follow` the new name is of what a symbolic link leads to.
    pub(crate) fn link(
        at: Option<&Fd>,
        from: &CStr,
        to_at: Option<&Fd>,
        to: &CStr,
        follow: bool,
    ) -> Submission {
        let (mut storage, second) = two(from, to, to_at);
        let (raw, to_raw, names) = (place(at), place(to_at), storage.region(0));
        let request = FileRequest::Link { at: raw, to_at: to_raw, names, second, follow };
        Submission::about_names(&Kind::LINK, request, at, storage)
    }

    /// Gives an open file a name, which has none: `this` is what leads to its descriptor, so the number
    /// must not become another file's until that was followed.
    pub(crate) fn link_open(fd: &Fd, this: &CStr, to: &CStr) -> Submission {
        Submission { fd: Some(fd.clone()), ..Submission::link(None, this, None, to, true) }
    }

    pub(crate) fn symlink(target: &CStr, at: Option<&Fd>, path: &CStr) -> Submission {
        let (mut storage, second) = two(target, path, None);
        let request = FileRequest::Symlink { at: place(at), names: storage.region(0), second };
        Submission::about_names(&Kind::SYMLINK, request, at, storage)
    }

    pub(crate) fn unlink(at: Option<&Fd>, path: &CStr, directory: bool) -> Submission {
        let mut storage = Storage::names(&[path.to_bytes_with_nul()], None);
        let request = FileRequest::Unlink { at: place(at), path: storage.region(0), directory };
        Submission::about_names(&Kind::UNLINK, request, at, storage)
    }

    /// The same, whatever is cancelled.
    pub(crate) fn tidy(at: Option<&Fd>, path: &CStr, directory: bool) -> Submission {
        Submission { kind: &Kind::TIDY, ..Submission::unlink(at, path, directory) }
    }

    pub(crate) fn make_dir(at: Option<&Fd>, path: &CStr, mode: u32) -> Submission {
        let mut storage = Storage::names(&[path.to_bytes_with_nul()], None);
        let request = FileRequest::MakeDir { at: place(at), path: storage.region(0), mode };
        Submission::about_names(&Kind::MAKE_DIR, request, at, storage)
    }

    fn about_names(
        kind: &'static Kind,
        request: FileRequest,
        at: Option<&Fd>,
        storage: Storage,
    ) -> Submission {
        let (request, storage) = (Request::File(request), Some(storage));
        Submission { kind, request, fd: at.cloned(), storage }
    }
}

/// Two names, and where the second one begins.
fn two(first: &CStr, second: &CStr, directory: Option<&Fd>) -> (Storage, u32) {
    let (first, second) = (first.to_bytes_with_nul(), second.to_bytes_with_nul());
    // Whoever makes a path for the kernel sees to it that it is not longer than one can be.
    (Storage::names(&[first, second], directory), first.len() as u32)
}
