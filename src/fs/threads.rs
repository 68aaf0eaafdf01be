//! What the ring has no operation for: a thread asks.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::exec;
use crate::thread;

use super::path::terminated;

/// What a symbolic link says.
///
/// Cancel class: total until a thread has begun, which is waited for then. Linux 6.1.
///
/// # Errors
/// What the operating system says, `InvalidInput` for what is no symbolic link; `Cancelled`;
/// [`Error::NoRun`](crate::Error::NoRun).
pub async fn read_link(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref();
    terminated(path)?;
    let known = exec::current()?.host().known_link(path);
    known_or_asked(known, path, |path| std::fs::read_link(path)).await
}

/// The absolute path of what is there, without symbolic links, `.` and `..`.
///
/// Cancel class: total until a thread has begun, which is waited for then. Linux 6.1.
///
/// # Errors
/// What the operating system says, `NotFound` for one; `Cancelled`.
pub async fn canonicalize(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref();
    terminated(path)?;
    let known = exec::current()?.host().known_path(path);
    known_or_asked(known, path, |path| std::fs::canonicalize(path)).await
}

/// Sets who may do what with a file or a directory. Symbolic links are followed.
///
/// Cancel class: total until a thread has begun, which is waited for then. Linux 6.1.
///
/// # Errors
/// What the operating system says, `PermissionDenied` for one; `Cancelled`.
///
/// ```
/// use std::fs::Permissions;
/// use std::os::unix::fs::PermissionsExt;
/// use trine::fs;
///
/// # let path = std::env::temp_dir().join(format!("trine-doc-mode-{}", std::process::id()));
/// trine::run(async || {
///     fs::write(&path, "secret").await?;
///     fs::set_permissions(&path, Permissions::from_mode(0o600)).await?;
///     assert_eq!(fs::metadata(&path).await?.mode() & 0o777, 0o600);
///     fs::remove_file(&path).await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> Result {
    let path = path.as_ref();
    terminated(path)?;
    let known = exec::current()?.host().set_known_mode(path, permissions.mode());
    known_or_asked(known, path, |path| std::fs::set_permissions(path, permissions)).await
}

/// What is known at once, or what a thread finds.
async fn known_or_asked<T: Send + 'static>(
    known: Option<io::Result<T>>,
    path: &Path,
    ask: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T> {
    if let Some(known) = known {
        exec::checkpoint().await?;
        return Ok(known?);
    }
    let path = path.to_owned();
    Ok(thread::run(move || ask(&path)).await??)
}
