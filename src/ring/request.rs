//! One kernel operation as plain data.

use std::os::fd::RawFd;

use super::file::FileRequest;

/// Memory lent to the kernel. Packed, because each operation in flight has a request in its slot, also
/// the receive of each idle connection.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(crate) struct Region {
    address: *mut u8,
    len: u32,
}

impl Region {
    /// # Safety
    /// From the moment a request with this region is pushed until its terminal completion:
    /// - the `len` bytes at `address` stay allocated and are not moved;
    /// - nobody else writes them, and nobody reads them if the operation writes them;
    /// - `address` may be written if the operation writes.
    pub(crate) unsafe fn new(address: *mut u8, len: usize) -> Region {
        // More than the kernel takes in one operation is cut; the result tells how much was done.
        Region { address, len: len.min(MAX_LEN) as u32 }
    }

    pub(crate) fn address(self) -> *mut u8 {
        self.address
    }

    pub(crate) fn len(self) -> u32 {
        self.len
    }

    /// What is left behind the first `count` bytes.
    pub(super) fn after(self, count: u32) -> Region {
        assert!(count <= self.len, "{count} of {} bytes", self.len);
        Region { address: self.address.wrapping_add(count as usize), len: self.len - count }
    }

    /// Whether another one lies in it.
    #[cfg(feature = "testing")]
    pub(super) fn has(self, other: Region) -> bool {
        let (address, len) = (self.address, self.len);
        let before = other.address().addr().checked_sub(address.addr());
        before.is_some_and(|before| before + other.len as usize <= len as usize)
    }

    /// The first `count` bytes.
    #[cfg(feature = "testing")]
    pub(super) fn first(self, count: u32) -> Region {
        assert!(count <= self.len, "{count} of {} bytes", self.len);
        Region { len: count, ..self }
    }
}

/// A byte of a file, and the place where the memory for it is registered. Packed as a region is.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(crate) struct Spot {
    pub(crate) at: u64,
    pub(crate) place: u16,
}

/// Which way bytes are moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Course {
    /// Into a pipe.
    In,
    /// Into a pipe. A Unix socket and a pipe of which nothing can be moved now are refused with `EAGAIN`; TCP
    /// waits.
    InAtOnce,
    /// Out of a pipe.
    Out,
}

/// The largest transfer of one operation: Linux cuts at 2 GiB less a page anyway.
const MAX_LEN: usize = 0x7fff_f000;

/// Where the descriptor stands; for what has no places, as a pipe, the only place.
pub(crate) const HERE: u64 = u64::MAX;

/// What the kernel is asked to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// Nothing, and say when it is done.
    Nop,
    /// Take a connection from a listener's backlog; with `multishot` one after another.
    Accept { fd: RawFd, multishot: bool },
    /// Connect a socket; the address lies in the region.
    Connect { fd: RawFd, to: Region },
    /// Receive into memory.
    Recv { fd: RawFd, into: Region },
    /// Receive into a buffer that the kernel picks from a group; with `multishot` again and again.
    RecvPool { fd: RawFd, group: u16, multishot: bool },
    /// Read into memory, from byte `at` of a file on ([`HERE`]: from where the descriptor stands).
    Read { fd: RawFd, into: Region, at: u64 },
    /// The same into a part of the memory that is registered in this place.
    ReadRegistered { fd: RawFd, into: Region, spot: Spot },
    /// Read into a buffer that the kernel picks from a group; with `multishot` again and again.
    ReadPool { fd: RawFd, group: u16, multishot: bool },
    /// Write from memory, to byte `at` of a file on (or [`HERE`]).
    Write { fd: RawFd, from: Region, at: u64 },
    /// The same from a part of the memory that is registered in this place.
    WriteRegistered { fd: RawFd, from: Region, spot: Spot },
    /// Write what lies in several places, as [`Write`](Request::Write); the region is a list of them.
    WritePieces { fd: RawFd, list: Region, at: u64 },
    /// Read into several places, as [`Read`](Request::Read).
    ReadPieces { fd: RawFd, list: Region, at: u64 },
    /// Send all that lies in several places; the region is the header that points to their list.
    SendPieces { fd: RawFd, header: Region },
    /// Send from memory; with `all` the kernel goes on until everything is sent or an error.
    Send { fd: RawFd, from: Region, all: bool },
    /// Send all of the memory from where it is. The first completion says what was sent, with more to
    /// follow: the one that says that the memory is not used any more.
    SendZeroCopy { fd: RawFd, from: Region },
    /// Move at most so many bytes between a pipe and something else, without copying them: `at` is where
    /// in a file, on either end (or [`HERE`]).
    Splice { from: RawFd, to: RawFd, at: u64, len: u32, course: Course },
    /// Wait until one of these events is there (`POLLIN`, `POLLOUT`), or an error or a hang-up.
    Poll { fd: RawFd, events: u32 },
    /// Send a message, all of it; its `msghdr` lies in the region.
    SendMsg { fd: RawFd, message: Region },
    /// Receive a message; its `msghdr` lies in the region.
    RecvMsg { fd: RawFd, message: Region },
    /// Receive messages again and again, each into a buffer that the kernel picks from a group; the
    /// `msghdr` in the region says how much room for a name is before the bytes.
    RecvMsgPool { fd: RawFd, group: u16, message: Region },
    /// Shut a half of a connection (`SHUT_RD`, `SHUT_WR`, `SHUT_RDWR`).
    Shutdown { fd: RawFd, how: i32 },
    /// Something about a file or a name.
    File(FileRequest),
    /// What the entry in the region says.
    Raw { entry: Region },
    /// Close a descriptor; with `may_block` where that holds nobody else up.
    Close { fd: RawFd, may_block: bool },
}

impl Request {
    /// Whether it tells what it did before it lets go of the memory.
    pub(crate) fn answers_early(&self) -> bool {
        // Of what is raw, only a zero-copy send completes twice.
        matches!(self, Request::SendZeroCopy { .. } | Request::Raw { .. })
    }

    /// Whether it completes again and again.
    pub(crate) fn is_multishot(&self) -> bool {
        matches!(
            self,
            Request::Accept { multishot: true, .. }
                | Request::RecvPool { multishot: true, .. }
                | Request::ReadPool { multishot: true, .. }
                | Request::RecvMsgPool { .. }
        )
    }
}
