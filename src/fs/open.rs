//! Opening files.

use std::ffi::CStr;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::task::Poll;

use crate::error::Result;
use crate::exec::{self, Operation, Run, Verdict, judge};
use crate::op::{Fd, Kind, Submission, Taken};
use crate::ring::OpenHow;

use super::file::File;
use super::path::terminated;

/// How a file is opened. The names are those of `std::fs::OpenOptions`.
///
/// ```
/// use trine::fs::OpenOptions;
///
/// let path = std::env::temp_dir().join(format!("trine-doc-options-{}", std::process::id()));
/// trine::run(async || {
///     let file = OpenOptions::new().append(true).create(true).open(&path).await?;
///     file.append("one line more\n").await?;
///     file.close().await
/// })?;
/// # std::fs::remove_file(path)?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `open` is called"]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    direct: bool,
    mode: u32,
    custom_flags: i32,
}

impl OpenOptions {
    /// With nothing set: at least one of [`read`](OpenOptions::read), [`write`](OpenOptions::write) and
    /// [`append`](OpenOptions::append) has to be.
    pub fn new() -> OpenOptions {
        OpenOptions {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            direct: false,
            mode: 0o666,
            custom_flags: 0,
        }
    }

    /// Whether it may be read.
    pub fn read(mut self, read: bool) -> OpenOptions {
        self.read = read;
        self
    }

    /// Whether it may be written.
    pub fn write(mut self, write: bool) -> OpenOptions {
        self.write = write;
        self
    }

    /// Whether it is written at its end only, wherever that is by then ([`File::append`]).
    pub fn append(mut self, append: bool) -> OpenOptions {
        self.append = append;
        self
    }

    /// Whether it is made empty. It has to be opened to be written.
    pub fn truncate(mut self, truncate: bool) -> OpenOptions {
        self.truncate = truncate;
        self
    }

    /// Whether it is made if there is none. It has to be opened to be written.
    pub fn create(mut self, create: bool) -> OpenOptions {
        self.create = create;
        self
    }

    /// Whether it must not be there yet, not even as a symbolic link; it is made. What
    /// [`create`](OpenOptions::create) and [`truncate`](OpenOptions::truncate) say does not matter then.
    pub fn create_new(mut self, create_new: bool) -> OpenOptions {
        self.create_new = create_new;
        self
    }

    /// Whether reads and writes bypass the page cache (`O_DIRECT`). Then the memory, the offsets and the
    /// lengths have to be multiples of what the device wants.
    pub fn direct(mut self, direct: bool) -> OpenOptions {
        self.direct = direct;
        self
    }

    /// The permissions of a new file, less what the umask takes; 0o666 unless said otherwise.
    pub fn mode(mut self, mode: u32) -> OpenOptions {
        self.mode = mode;
        self
    }

    /// More flags of open(2). Those that say how it may be used are ignored.
    pub fn custom_flags(mut self, flags: i32) -> OpenOptions {
        self.custom_flags = flags;
        self
    }

    /// Opens a file, as [`File::open`] does.
    ///
    /// Cancel class: as for [`File::open`]; with [`create`](OpenOptions::create) as for [`File::create`]. Linux
    /// 6.1.
    ///
    /// # Errors
    /// As [`File::open`], and `InvalidInput` if the options do not go together.
    pub async fn open(&self, path: impl AsRef<Path>) -> Result<File> {
        self.open_at(None, path.as_ref(), 0).await
    }

    /// Opens a path that begins in the directory `at`.
    pub(super) async fn open_at(&self, at: Option<&Fd>, path: &Path, resolve: u64) -> Result<File> {
        let run = exec::current()?;
        let (path, how) = (terminated(path)?, OpenHow { resolve, ..self.how()? });
        let fd = open(&run, at, &path, how).await?;
        Ok(File::new(run, fd, self.append))
    }

    /// As flags of open(2).
    fn how(&self) -> io::Result<OpenHow> {
        let wrong = |text| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let writes = self.write || self.append;
        let access = match (self.read, writes) {
            (true, false) => libc::O_RDONLY,
            (false, true) => libc::O_WRONLY,
            (true, true) => libc::O_RDWR,
            (false, false) => {
                return wrong(
                    "a file is opened with `read`, `write` or `append`, or several of them",
                );
            }
        };
        let creates = self.create || self.create_new;
        if creates && !writes {
            return wrong("a file is created only if it is opened with `write` or `append`");
        }
        if self.truncate && !self.create_new && !self.write {
            return wrong("a file is truncated only if it is opened with `write`");
        }
        if self.truncate && !self.create_new && self.append {
            return wrong("a file is opened with `truncate` or with `append`, not with both");
        }
        let mut flags = access | libc::O_CLOEXEC | self.custom_flags & !libc::O_ACCMODE;
        let mut set = |on: bool, flag: i32| flags |= if on { flag } else { 0 };
        set(self.append, libc::O_APPEND);
        set(creates, libc::O_CREAT);
        set(self.create_new, libc::O_EXCL);
        set(self.truncate && !self.create_new, libc::O_TRUNC);
        set(self.direct, libc::O_DIRECT);
        // The kernel wants no mode where nothing is made.
        let makes = flags & libc::O_CREAT != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE;
        let mode = if makes { self.mode & 0o7777 } else { 0 };
        Ok(OpenHow { flags: flags as u32 as u64, mode: mode.into(), resolve: 0 })
    }
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions::new()
    }
}

/// Opens a directory, for what is in it. A symbolic link at the end of the path is followed unless
/// `nofollow`.
pub(super) async fn open_dir(
    run: &Rc<Run>,
    at: Option<&Fd>,
    path: &CStr,
    nofollow: bool,
) -> Result<Fd> {
    let nofollow = if nofollow { libc::O_NOFOLLOW } else { 0 };
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY | nofollow;
    open(run, at, path, OpenHow { flags: flags as u64, ..OpenHow::default() }).await
}

/// Opens a path that begins in the directory `at`, or in the working directory. What arrives when
/// nobody waits any more is closed (rule D7).
pub(super) async fn open(run: &Rc<Run>, at: Option<&Fd>, path: &CStr, how: OpenHow) -> Result<Fd> {
    let (mut attempts, mut races) = (0, 0);
    loop {
        poll_fn(|_| run.cancel_point()).await?;
        let mut opening = None;
        let Taken { result, value, .. } = poll_fn(|cx| match &mut opening {
            Some(opening) => Operation::poll_descriptor(opening, cx),
            none => {
                *none = Some(Operation::start(run, cx, || Submission::open(at, path, how)));
                Poll::Pending
            }
        })
        .await;
        if let Some(descriptor) = value {
            run.progress();
            return Ok(run.adopt(descriptor));
        }
        if how.resolve != 0 {
            match -result {
                // Somebody has renamed something meanwhile, so that the kernel cannot be sure.
                libc::EAGAIN if races < RACES => {
                    races += 1;
                    continue;
                }
                libc::EXDEV => {
                    let text = format!("the path {path:?} leads out of the directory");
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, text).into());
                }
                _ => {}
            }
        }
        match poll_fn(|_| judge(run, &Kind::OPEN, result, &mut attempts)).await {
            Verdict::Result(Err(error)) => return Err(error),
            Verdict::Cancelled(cancelled) => return Err(cancelled.into()),
            Verdict::Again | Verdict::Result(Ok(_)) => {}
        }
    }
}

/// How often in a row it is tried again; whoever renames all the time might else hold it up.
const RACES: u32 = 100;
