//! Files and directories: what `std::fs` has, through the ring.
//!
//! A [`File`] has no position: each read and write says where, so any number of them can be under way
//! at a time, and all methods take `&self`.
//!
//! # What a cancellation does
//! What has begun in the kernel mostly cannot be stopped there: a read that a disk works on is waited
//! for, and so is an fsync. What has not begun, and the opening of a FIFO, ends at once. Either way
//! the answer is true (rule D4): `Cancelled` means that nothing was done, or not more than
//! [`done`](crate::BufError::done) says; whatever took place is returned, and the next cancel point
//! raises.

mod dir;
mod file;
mod listing;
mod metadata;
mod names;
mod open;
mod path;
mod receive_from;
mod send_to;
mod temp;
mod threads;
mod transfer;
mod trees;
mod whole;

pub use crate::op::AlignedBuf;
pub use dir::Dir;
pub use file::{Advice, File};
pub use listing::{DirEntry, ReadDir, read_dir};
pub use metadata::{FileType, Metadata};
pub use names::{
    create_dir, create_dir_all, hard_link, metadata, remove_dir, remove_file, rename, symlink,
    symlink_metadata, try_exists,
};
pub use open::OpenOptions;
pub use temp::{TempDir, TempFile};
pub use threads::{canonicalize, read_link, set_permissions};
pub use trees::remove_dir_all;
pub use whole::{copy, read, read_to_string, write, write_atomic};
