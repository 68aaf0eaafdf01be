//! What the kernel is asked about files and names, and what it tells of them.

use std::os::fd::RawFd;
use std::ptr;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::request::Region;

/// What is asked about files and names. `at` is the directory that relative paths begin in, or
/// [`WORKING`]. Paths end with a zero byte.
///
/// One region each, so that the largest request is no larger than the usual one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FileRequest {
    /// Open a file. In the region lie [`OpenHow::LEN`] bytes that say how, and the path. With
    /// `may_block` where that holds nobody else up.
    Open { at: RawFd, how_and_path: Region, may_block: bool },
    /// What is known of a file. In the region lie room for [`Stat::LEN`] bytes, and the path.
    Stat { at: RawFd, room_and_path: Region, flags: i32 },
    /// Write to the device what is only in memory; with `data` not what is of no use to read it again.
    Sync { fd: RawFd, data: bool },
    /// Have the pages of a range written (`len` of 0: to the end), and wait for that.
    SyncRange { fd: RawFd, at: u64, len: u32 },
    /// Give a range of the file its place on the device (`fallocate`).
    Allocate { fd: RawFd, at: u64, len: u64, mode: i32 },
    /// Make the file so long. Since Linux 6.9.
    SetLen { fd: RawFd, len: u64 },
    /// Say what a range will be used for (`posix_fadvise`).
    Advise { fd: RawFd, at: u64, len: u64, advice: i32 },
    /// Give a file another name. In the region lie both, the second one `second` bytes behind.
    Rename { at: RawFd, to_at: RawFd, names: Region, second: u32 },
    /// Give a file one more name; with `follow` what a symbolic link leads to.
    Link { at: RawFd, to_at: RawFd, names: Region, second: u32, follow: bool },
    /// Make a symbolic link. In the region lie what it says, and its name `second` bytes behind.
    Symlink { at: RawFd, names: Region, second: u32 },
    /// Take a name away, of a directory or of what is none.
    Unlink { at: RawFd, path: Region, directory: bool },
    /// Make a directory.
    MakeDir { at: RawFd, path: Region, mode: u32 },
}

/// The working directory of the process.
pub(crate) const WORKING: RawFd = libc::AT_FDCWD;

/// How a file is opened: openat2(2).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct OpenHow {
    pub(crate) flags: u64,
    pub(crate) mode: u64,
    pub(crate) resolve: u64,
}

impl OpenHow {
    pub(crate) const LEN: usize = 24;

    /// As the kernel takes it: three words.
    pub(crate) fn to_bytes(self) -> [u8; OpenHow::LEN] {
        let mut bytes = [0; OpenHow::LEN];
        let words = [self.flags, self.mode, self.resolve];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    #[cfg(feature = "testing")]
    pub(super) fn from_bytes(bytes: &[u8]) -> OpenHow {
        let word = |at| bytes[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
        OpenHow { flags: word(0), mode: word(8), resolve: word(16) }
    }

    /// Whether opening may wait for somebody else, as for the other end of a FIFO.
    pub(crate) fn may_block(self) -> bool {
        const NEVER: i32 = libc::O_NONBLOCK | libc::O_DIRECTORY | libc::O_PATH;
        self.flags & NEVER as u64 == 0
    }
}

/// What the kernel tells of a file: statx(2).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Stat {
    /// The type and the permissions.
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) links: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// Of 512 bytes.
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    pub(crate) accessed: Stamp,
    pub(crate) modified: Stamp,
    pub(crate) changed: Stamp,
    /// Not every file system remembers it.
    pub(crate) created: Option<Stamp>,
    /// What memory and offsets have to be multiples of to bypass the page cache, if that is known.
    /// Linux 6.1.
    pub(crate) direct: Option<(u32, u32)>,
}

/// A time: seconds since 1970, and nanoseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// What is asked for: all that stat(2) knows, the birth, and the alignment.
const WANTED: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_DIOALIGN;

impl Stat {
    pub(crate) const LEN: usize = size_of::<libc::statx>();

    /// Reads what the kernel has written.
    ///
    /// # Panics
    /// If there are fewer than [`LEN`](Stat::LEN) bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Stat {
        assert!(bytes.len() >= Stat::LEN, "{} bytes are no statx", bytes.len());
        // SAFETY: enough initialised bytes, wherever they lie; all bits are valid for a `statx`.
        let raw = unsafe { ptr::read_unaligned(bytes.as_ptr().cast::<libc::statx>()) };
        let stamp =
            |time: libc::statx_timestamp| Stamp { seconds: time.tv_sec, nanos: time.tv_nsec };
        let knows = |what| raw.stx_mask & what != 0;
        let direct = (raw.stx_dio_mem_align, raw.stx_dio_offset_align);
        Stat {
            mode: raw.stx_mode.into(),
            size: raw.stx_size,
            device: libc::makedev(raw.stx_dev_major, raw.stx_dev_minor),
            inode: raw.stx_ino,
            links: raw.stx_nlink,
            user: raw.stx_uid,
            group: raw.stx_gid,
            blocks: raw.stx_blocks,
            block_size: raw.stx_blksize,
            accessed: stamp(raw.stx_atime),
            modified: stamp(raw.stx_mtime),
            changed: stamp(raw.stx_ctime),
            created: knows(libc::STATX_BTIME).then(|| stamp(raw.stx_btime)),
            // Zeros mean that the file cannot be used without the page cache.
            direct: Some(direct).filter(|&both| knows(libc::STATX_DIOALIGN) && both != (0, 0)),
        }
    }

    /// As a simulated kernel writes it.
    #[cfg(feature = "testing")]
    pub(super) fn to_bytes(self) -> Vec<u8> {
        // SAFETY: all zeros is valid for a `statx`.
        let mut raw: libc::statx = unsafe { std::mem::zeroed() };
        let stamp = |place: &mut libc::statx_timestamp, time: Stamp| {
            (place.tv_sec, place.tv_nsec) = (time.seconds, time.nanos);
        };
        raw.stx_mask = libc::STATX_BASIC_STATS;
        raw.stx_mode = self.mode as u16;
        raw.stx_size = self.size;
        raw.stx_ino = self.inode;
        raw.stx_nlink = self.links;
        (raw.stx_uid, raw.stx_gid) = (self.user, self.group);
        (raw.stx_dev_major, raw.stx_dev_minor) =
            (libc::major(self.device), libc::minor(self.device));
        (raw.stx_blocks, raw.stx_blksize) = (self.blocks, self.block_size);
        stamp(&mut raw.stx_atime, self.accessed);
        stamp(&mut raw.stx_mtime, self.modified);
        stamp(&mut raw.stx_ctime, self.changed);
        if let Some(created) = self.created {
            raw.stx_mask |= libc::STATX_BTIME;
            stamp(&mut raw.stx_btime, created);
        }
        let start = (&raw const raw).cast::<u8>();
        // SAFETY: the bytes of a value without padding, which was zeroed besides.
        unsafe { std::slice::from_raw_parts(start, Stat::LEN) }.to_vec()
    }
}

/// The entry of the submission queue.
pub(super) fn entry_for(request: &FileRequest) -> squeue::Entry {
    match *request {
        FileRequest::Open { at, how_and_path, may_block } => {
            let (how, path) = (how_and_path, how_and_path.after(OpenHow::LEN as u32));
            let open = opcode::OpenAt2::new(Fd(at), path.address().cast(), how.address().cast());
            // Else the kernel tries it with O_NONBLOCK first, which means something else to a FIFO:
            // without a writer there is nothing to read, and without a reader it fails.
            let how = if may_block { squeue::Flags::ASYNC } else { squeue::Flags::empty() };
            open.build().flags(how)
        }
        FileRequest::Stat { at, room_and_path, flags } => {
            let (room, path) = (room_and_path, room_and_path.after(Stat::LEN as u32));
            opcode::Statx::new(Fd(at), path.address().cast(), room.address().cast())
                .flags(flags)
                .mask(WANTED)
                .build()
        }
        FileRequest::Sync { fd, data } => {
            let all = io_uring::types::FsyncFlags::empty();
            let flags = if data { io_uring::types::FsyncFlags::DATASYNC } else { all };
            opcode::Fsync::new(Fd(fd)).flags(flags).build()
        }
        FileRequest::SyncRange { fd, at, len } => {
            let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
                | libc::SYNC_FILE_RANGE_WRITE
                | libc::SYNC_FILE_RANGE_WAIT_AFTER;
            opcode::SyncFileRange::new(Fd(fd), len).offset(at).flags(flags).build()
        }
        FileRequest::Allocate { fd, at, len, mode } => {
            opcode::Fallocate::new(Fd(fd), len).offset(at).mode(mode).build()
        }
        FileRequest::SetLen { fd, len } => opcode::Ftruncate::new(Fd(fd), len).build(),
        FileRequest::Advise { fd, at, len, advice } => {
            // The entry has 32 bits for it; more than that is to the end of the file.
            let len = u32::try_from(len).unwrap_or(0);
            opcode::Fadvise::new(Fd(fd), len.into(), advice).offset(at).build()
        }
        FileRequest::Rename { at, to_at, names, second } => {
            let (from, to) = (names.address().cast(), names.after(second).address().cast());
            opcode::RenameAt::new(Fd(at), from, Fd(to_at), to).build()
        }
        FileRequest::Link { at, to_at, names, second, follow } => {
            let (from, to) = (names.address().cast(), names.after(second).address().cast());
            let flags = if follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
            opcode::LinkAt::new(Fd(at), from, Fd(to_at), to).flags(flags).build()
        }
        FileRequest::Symlink { at, names, second } => {
            let (target, path) = (names.address().cast(), names.after(second).address().cast());
            opcode::SymlinkAt::new(Fd(at), target, path).build()
        }
        FileRequest::Unlink { at, path, directory } => {
            let flags = if directory { libc::AT_REMOVEDIR } else { 0 };
            opcode::UnlinkAt::new(Fd(at), path.address().cast()).flags(flags).build()
        }
        FileRequest::MakeDir { at, path, mode } => {
            opcode::MkDirAt::new(Fd(at), path.address().cast()).mode(mode).build()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length and the offset in an entry, where the kernel looks for them.
    fn range(request: FileRequest) -> (u32, u64) {
        // SAFETY: an entry is the kernel's own struct: eight words, without padding.
        let words: [u64; 8] = unsafe { std::mem::transmute(entry_for(&request)) };
        (words[3] as u32, words[1])
    }

    #[test]
    fn advice_on_more_than_the_entry_can_say_is_to_the_end_and_an_offset_is_never_cut() {
        let most = u64::from(u32::MAX);
        for (at, len, told) in [
            (0, 3, 3),
            (5 << 32, most, u32::MAX),
            (5 << 32 | 7, most + 1, 0),
            (u64::MAX >> 1, 5 << 32 | 7, 0),
        ] {
            let advice = libc::POSIX_FADV_DONTNEED;
            let request = FileRequest::Advise { fd: 1, at, len, advice };
            assert_eq!(range(request), (told, at), "{len} bytes from {at} on");
        }
    }
}
