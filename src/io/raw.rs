//! Doing what trine has no function for.

use std::future::poll_fn;
use std::io;

use crate::error::Result;
use crate::exec::{self, OneShot, Run};
use crate::op::{BufError, RawOperation, Submission};

/// Has the kernel carry an operation out that trine has no function for, and gives back what it ended with
/// (not negative) and what was kept for it.
///
/// It is cancelled by scopes like any other. Of a zero-copy send it gives the number of bytes, when the
/// kernel has let go of the buffer. A dropped one keeps what it needs until the kernel has let go.
///
/// Cancel class: total, as far as the operation itself is: what had its effect is returned (rule D4).
/// Linux as the operation says; not on a simulated kernel.
///
/// # Errors
/// What the operating system says (`EINVAL`: it does not know the operation); `InvalidInput` for a flag
/// that concerns other entries; `Unsupported` on a simulated kernel; `Cancelled`. What was kept comes back
/// with the error.
///
/// ```
/// use std::ffi::CString;
/// use std::fs::File;
/// use std::io::Write;
/// use std::os::fd::{FromRawFd, OwnedFd};
/// use trine::io::{Entry, RawOperation, submit};
///
/// trine::run(async || {
///     const OPENAT: u8 = 18;
///     let open = |path: &mut CString| Entry {
///         opcode: OPENAT,
///         fd: libc::AT_FDCWD,
///         addr: path.as_ptr() as u64,
///         op_flags: (libc::O_WRONLY | libc::O_CLOEXEC) as u32,
///         ..Entry::default()
///     };
///     // SAFETY: the path is kept, and the operation completes once.
///     let open = unsafe { RawOperation::new(CString::from(c"/dev/null"), open) };
///     let (fd, _path) = submit(open.makes_descriptor()).await?;
///     // SAFETY: it was just made, for us.
///     let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd as i32) });
///     file.write_all(b"nothing")?;
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn submit<K: 'static>(operation: RawOperation<K>) -> Result<(u32, K), BufError<K>> {
    let (kind, refused) = (operation.kind(), operation.refused());
    let mut once = OneShot::new(Some(operation.into_storage()));
    let make = |storage: Option<_>| Submission::raw(kind, storage.expect("nothing is in flight"));
    let outcome = match exec::current().and_then(|run| check(&run, refused)) {
        Ok(()) => poll_fn(|cx| once.poll(cx, make)).await,
        Err(error) => Err(error),
    };
    let kept = once.take_storage().expect("what it had comes back with its end").into_kept();
    match outcome {
        Ok(result) => Ok((result, kept)),
        Err(error) => Err(BufError::new(error, 0, kept)),
    }
}

fn check(run: &Run, refused: Option<&'static str>) -> Result {
    run.host().check_linux("an operation that trine does not know")?;
    if let Some(flag) = refused {
        let text = format!("{flag} concerns other entries of the ring: trine refuses it");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
    }
    Ok(())
}
