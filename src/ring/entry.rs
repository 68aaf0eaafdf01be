//! An operation that trine does not know, as the kernel takes it.

/// An entry of the submission queue, `struct io_uring_sqe` of `linux/io_uring.h`, for
/// [`RawOperation`](crate::io::RawOperation). What has several names there has here the one that most
/// operations use; the manual page `io_uring_enter(2)` says what each operation wants.
///
/// ```
/// use trine::io::Entry;
///
/// let entry = Entry { opcode: 24, fd: 5, len: 4096, op_flags: 4, ..Entry::default() };
/// assert_eq!(size_of_val(&entry), 64);
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// `IORING_OP_…`.
    pub opcode: u8,
    /// `IOSQE_…`: `IOSQE_ASYNC` or nothing. What concerns other entries is refused.
    pub flags: u8,
    /// The priority, or flags of the operation.
    pub ioprio: u16,
    /// The descriptor it works on.
    pub fd: i32,
    /// An offset, or a second address.
    pub off: u64,
    /// The address of a buffer, or of a path.
    pub addr: u64,
    /// Bytes at the address, or what the operation takes it for.
    pub len: u32,
    /// Flags of the operation (`rw_flags`, `open_flags`, `fadvise_advice` and so on).
    pub op_flags: u32,
    /// Whose completion it will be; what stands here is written over.
    pub user_data: u64,
    /// A buffer's index or group.
    pub buf_index: u16,
    /// Credentials that were registered.
    pub personality: u16,
    /// A second descriptor (`splice_fd_in`), or a slot of the ring's own table (`file_index`).
    pub file_index: u32,
    /// A third address.
    pub addr3: u64,
    /// What newer operations have made of the last bytes.
    pub rest: u64,
}

impl Entry {
    /// Flags that would concern other entries of the ring, or its buffers, and what each is called.
    const REFUSED: [(u8, &str); 5] = [
        (1 << 1, "IOSQE_IO_DRAIN"),
        (1 << 2, "IOSQE_IO_LINK"),
        (1 << 3, "IOSQE_IO_HARDLINK"),
        (1 << 5, "IOSQE_BUFFER_SELECT"),
        (1 << 6, "IOSQE_CQE_SKIP_SUCCESS"),
    ];

    /// The first flag in it that is refused.
    pub(crate) fn refused(&self) -> Option<&'static str> {
        Self::REFUSED.iter().find(|(flag, _)| self.flags & flag != 0).map(|(_, name)| *name)
    }
}

const _: () = assert!(size_of::<Entry>() == size_of::<io_uring::squeue::Entry>());
