//! Files and names.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::fs::{self, Advice, Dir, File, OpenOptions, TempDir, TempFile};
use crate::net::UnixStream;
use crate::op::{AlignedBuf, IoBuf, Slice};

use super::streams::received;
use super::subject::{Done, Law, Opening, Place, Row, Subject, Whole, nothing, subject, unseen};

pub(super) fn rows() -> Vec<Row> {
    let row = |name, law, whole: Whole, open: fn(PathBuf) -> Opening| Row {
        name,
        law,
        whole,
        place: Place::Disk,
        open,
    };
    vec![
        row(
            "open",
            Law::Asks,
            || 1,
            |dir| asks(dir, async |_, path| File::open(path).await.map(drop)),
        ),
        row(
            "open: what is new",
            Law::Does,
            || 1,
            |dir| {
                on_name(dir, async |new| {
                    OpenOptions::new().write(true).create_new(true).open(new).await
                })
            },
        ),
        row(
            "dir: open",
            Law::Asks,
            || 1,
            |dir| {
                asks(dir, async |_, path| Dir::open(path.parent().unwrap_or(path)).await.map(drop))
            },
        ),
        row(
            "metadata",
            Law::Asks,
            || 1,
            |dir| asks(dir, async |_, path| fs::metadata(path).await.map(drop)),
        ),
        row(
            "file: metadata",
            Law::Asks,
            || 1,
            |dir| asks(dir, async |file, _| file.metadata().await.map(drop)),
        ),
        row(
            "file: sync_all",
            Law::Asks,
            || 1,
            |dir| asks(dir, async |file, _| file.sync_all().await),
        ),
        row(
            "file: sync_data",
            Law::Asks,
            || 1,
            |dir| asks(dir, async |file, _| file.sync_data().await),
        ),
        row(
            "file: sync_range",
            Law::Asks,
            || 1,
            |dir| asks(dir, async |file, _| file.sync_range(0..3).await),
        ),
        row(
            "file: advise",
            Law::Asks,
            || 1,
            |dir| asks(dir, async |file, _| file.advise(0..3, Advice::WillNeed).await),
        ),
        row("file: close", Law::Always, || 0, |dir| Box::pin(close(dir))),
        row(
            "file: read_at",
            Law::Asks,
            || 1,
            |dir| {
                asks(dir, async |file, _| {
                    let read = file.read_at(Vec::with_capacity(9), 1).await?;
                    assert!(b"ontent".starts_with(&read), "a read brings what is there");
                    Ok(())
                })
            },
        ),
        row(
            "file: read_at, into registered memory",
            Law::Asks,
            || 1,
            |dir| Box::pin(read_registered(dir)),
        ),
        row(
            "file: write_at",
            Law::Does,
            || 3,
            |dir| writes(dir, 0, async |file| Ok(file.write_at("new", 0).await?.0 as u64)),
        ),
        row(
            "file: write_all_at",
            Law::Does,
            || 3,
            |dir| writes(dir, 0, async |file| Ok(file.write_all_at("new", 0).await?.len() as u64)),
        ),
        row(
            "file: write_at, from registered memory",
            Law::Does,
            || 3,
            |dir| Box::pin(write_registered(dir)),
        ),
        row(
            "file: append",
            Law::Does,
            || 3,
            |dir| writes(dir, 7, async |file| Ok(file.append("new").await?.len() as u64)),
        ),
        row(
            "file: set_len",
            Law::Does,
            || 1,
            |dir| lengthens(dir, async |file| file.set_len(9).await),
        ),
        row(
            "file: allocate",
            Law::Does,
            || 1,
            |dir| lengthens(dir, async |file| file.allocate(0..9).await),
        ),
        row("file: send_to", Law::DoesLast, || LONG, |dir| Box::pin(send_to(dir))),
        row("file: receive_from", Law::DoesLast, || WAITING, |dir| Box::pin(receive_from(dir))),
        row(
            "file: read_vectored_at",
            Law::Asks,
            || 1,
            |dir| {
                asks(dir, async |file, _| {
                    let bufs = [Vec::with_capacity(2), Vec::with_capacity(9)];
                    let (_, read) = file.read_vectored_at(bufs, 1).await?;
                    assert!(b"ontent".starts_with(&read.concat()), "a read brings what is there");
                    Ok(())
                })
            },
        ),
        row(
            "file: write_vectored_at",
            Law::Does,
            || 3,
            |dir| {
                writes(dir, 0, async |file| {
                    Ok(file.write_vectored_at(["n", "ew"], 0).await?.0 as u64)
                })
            },
        ),
        row(
            "rename",
            Law::Does,
            || 1,
            |dir| on_name(dir, async |new| fs::rename(new.with_file_name("file"), new).await),
        ),
        row(
            "hard_link",
            Law::Does,
            || 1,
            |dir| on_name(dir, async |new| fs::hard_link(new.with_file_name("file"), new).await),
        ),
        row(
            "symlink",
            Law::Does,
            || 1,
            |dir| on_name(dir, async |new| fs::symlink("file", new).await),
        ),
        row(
            "create_dir",
            Law::Does,
            || 1,
            |dir| on_name(dir, async |new| fs::create_dir(new).await),
        ),
        row(
            "write: the whole file at once",
            Law::DoesLast,
            || 1,
            |dir| Box::pin(write_atomic(dir)),
        ),
        row("persist", Law::Does, || 1, |dir| Box::pin(persist(dir))),
        row("remove_file", Law::Does, || 1, |dir| Box::pin(remove_file(dir))),
        row("remove_dir", Law::Does, || 1, |dir| Box::pin(remove_dir(dir))),
        row("temporary directory: drop", Law::Always, || 1, |dir| Box::pin(tidy(dir))),
    ]
}

async fn content(path: &Path) -> Result<File> {
    let options = OpenOptions::new().read(true).write(true).create_new(true);
    let file = options.open(path).await?;
    file.write_all_at("content", 0).await?;
    Ok(file)
}

async fn is_there(path: &Path) -> Result<u64> {
    Ok(fs::symlink_metadata(path).await.is_ok().into())
}

/// Something that changes nothing, with a file and its path.
fn asks(dir: PathBuf, asks: impl AsyncFn(&File, &Path) -> Result + 'static) -> Opening {
    Box::pin(async move {
        let path = dir.join("file");
        let file = content(&path).await?;
        let start = async move |(file, path): &(File, PathBuf)| {
            asks(file, path).await?;
            Ok(1)
        };
        subject((file, path), start, nothing, unseen)
    })
}

/// Whether it is closed is seen by its descriptor.
async fn close(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let file = content(&dir.join("file")).await?;
    let close = async |file: &Cell<Option<File>>| {
        let closed = file.take().map(File::close);
        Ok(if let Some(closed) = closed { closed.await.map(|()| 0)? } else { 0 })
    };
    subject(Cell::new(Some(file)), close, nothing, unseen)
}

/// Something that makes a name, beside a file.
fn on_name<T>(dir: PathBuf, makes: impl AsyncFn(&Path) -> Result<T> + 'static) -> Opening {
    Box::pin(async move {
        content(&dir.join("file")).await?.close().await?;
        let start = async move |new: &PathBuf| {
            makes(new).await?;
            Ok(1)
        };
        subject(dir.join("new"), start, nothing, async |new| is_there(new).await)
    })
}

/// Something that writes "new" to this place of a file.
fn writes(dir: PathBuf, at: usize, writes: impl AsyncFn(&File) -> Done + 'static) -> Opening {
    Box::pin(async move {
        let path = dir.join("file");
        content(&path).await?.close().await?;
        let options = OpenOptions::new().read(true).write(true).append(at > 0);
        let file = options.open(&path).await?;
        let start = async move |(file, _): &(File, PathBuf)| writes(file).await;
        subject((file, path), start, nothing, async move |(_, path)| {
            let there = fs::read(path).await?;
            let there = there.iter().skip(at).zip(b"new");
            Ok(there.take_while(|(there, new)| there == new).count() as u64)
        })
    })
}

/// A registered buffer, or a part of it. It is made before, which is more than one operation.
type Lent = Cell<Option<Slice<AlignedBuf>>>;

async fn read_registered(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let file = content(&dir.join("file")).await?;
    let buf = file.direct_buf(1).await?.slice(1..9);
    let read = async |(file, buf): &(File, Lent)| match buf.take() {
        Some(buf) => {
            let read = file.read_at(buf, 1).await?;
            assert!(b"ontent".starts_with(&read), "a read brings what is there");
            Ok(1)
        }
        None => Ok(0),
    };
    subject((file, Cell::new(Some(buf))), read, nothing, unseen)
}

async fn write_registered(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let file = content(&dir.join("file")).await?;
    let mut buf = file.direct_buf(1).await?;
    buf[..3].copy_from_slice(b"new");
    let write = async |(file, buf): &(File, Lent)| match buf.take() {
        Some(buf) => Ok(file.write_at(buf, 0).await?.0 as u64),
        None => Ok(0),
    };
    subject((file, Cell::new(Some(buf.slice(..3)))), write, nothing, async |(file, _)| {
        let there = file.read_exact_at(vec![0; 3], 0).await?;
        Ok(there.iter().zip(b"new").take_while(|(there, new)| there == new).count() as u64)
    })
}

/// Something that makes a file longer.
fn lengthens(dir: PathBuf, lengthens: impl AsyncFn(&File) -> Result + 'static) -> Opening {
    Box::pin(async move {
        let file = content(&dir.join("file")).await?;
        let start = async move |file: &File| {
            lengthens(file).await?;
            Ok(1)
        };
        subject(file, start, nothing, async |file| Ok(u64::from(file.metadata().await?.len() == 9)))
    })
}

/// So long that the kernel moves it.
const LONG: u64 = 300_000;

/// Something that is moved to a stream, which says how much of it was.
async fn send_to(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let file = content(&dir.join("file")).await?;
    file.set_len(LONG).await?;
    let (to, from) = UnixStream::pair()?;
    subject(
        (file, to, from, Cell::new(0)),
        async |(file, to, ..)| Ok(file.send_to(to, 0..LONG).await?),
        async |(_, _, from, came)| {
            came.set(came.get() + received(from).await?);
            Ok(())
        },
        async |(_, _, from, came)| Ok(came.get() + received(from).await?),
    )
}

/// What a stream holds, and so much that it is moved on the simulated kernel.
const WAITING: u64 = if cfg!(miri) { 3_000 } else { 60_000 };

/// Something that waits in a stream and is moved into a file, whose length says how much of it was.
async fn receive_from(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let (to, from) = UnixStream::pair()?;
    to.write_all(vec![7; WAITING as usize]).await?;
    to.close().await?;
    let file = File::create(dir.join("file")).await?;
    subject(
        (file, from),
        async |(file, from)| Ok(file.receive_from(from, 0..u64::MAX).await?),
        nothing,
        async |(file, _)| Ok(file.metadata().await?.len()),
    )
}

/// Either the old content is there or the new one, and nothing beside it.
async fn write_atomic(dir: PathBuf) -> Result<Box<dyn Subject>> {
    content(&dir.join("file")).await?.close().await?;
    subject(
        dir.join("file"),
        async |path| {
            fs::write_atomic(path, "new").await?;
            Ok(1)
        },
        nothing,
        async |path| {
            let mut listing = fs::read_dir(path.parent().unwrap_or(path)).await?;
            let mut names = 0;
            while listing.next().await?.is_some() {
                names += 1;
            }
            let is = fs::read(path).await?;
            assert!(is == b"new" || is == b"content", "it is whole");
            Ok(u64::from(is == b"new") + 10 * (names - 1))
        },
    )
}

async fn persist(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let file = TempFile::new_in(&dir).await?;
    subject(
        (Cell::new(Some(file)), dir.join("file")),
        async |(file, path)| match file.take() {
            Some(file) => Ok(file.persist(path).await.map(|_| 1)?),
            None => Ok(0),
        },
        nothing,
        async |(_, path)| is_there(path).await,
    )
}

async fn remove_file(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let path = dir.join("file");
    content(&path).await?.close().await?;
    let start = async |path: &PathBuf| Ok(fs::remove_file(path).await.map(|()| 1)?);
    subject(path, start, nothing, async |path| Ok(1 - is_there(path).await?))
}

async fn remove_dir(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let path = dir.join("dir");
    fs::create_dir(&path).await?;
    let start = async |path: &PathBuf| Ok(fs::remove_dir(path).await.map(|()| 1)?);
    subject(path, start, nothing, async |path| Ok(1 - is_there(path).await?))
}

async fn tidy(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let temporary = TempDir::new_in(&dir).await?;
    let path = temporary.path().to_owned();
    subject(
        (Cell::new(Some(temporary)), path),
        async |(temporary, _)| {
            drop(temporary.take());
            Ok(1)
        },
        nothing,
        async |(_, path)| Ok(1 - is_there(path).await?),
    )
}
