//! Paths as the kernel takes them.

use std::ffi::CString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::Result;

/// The path with a zero byte at its end.
///
/// # Errors
/// `InvalidInput` if there is one before; `ENAMETOOLONG` if it is longer than any may be.
pub(super) fn terminated(path: &Path) -> Result<CString> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= libc::PATH_MAX as usize {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG).into());
    }
    CString::new(bytes).map_err(|error| {
        let text = format!("the path {path:?} has a zero byte at {}", error.nul_position());
        io::Error::new(io::ErrorKind::InvalidInput, text).into()
    })
}

/// A name that nobody has.
pub(super) fn unique_name() -> String {
    // Each state is a new one, begun from the system's random numbers.
    format!(".{:016x}.tmp", RandomState::new().hash_one(0))
}
