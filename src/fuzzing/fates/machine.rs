//! What has to do with no device, and what only a real machine has.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Result;
use crate::fs::File;
use crate::io::{RawOperation, submit};
use crate::pipe::{PipeReader, pipe};
use crate::process::{Child, Command, Stdio};
use crate::runtime::nop;
use crate::time::sleep;

use super::subject::{Law, Place, Row, Subject, nothing, subject, unseen};

pub(super) fn rows() -> Vec<Row> {
    let row = |name, law, place, open| Row { name, law, whole: || 1, place, open };
    vec![
        row("nop", Law::Asks, Place::Anywhere, |_| {
            let nop = async |()| Ok(nop().await.map(|()| 1)?);
            Box::pin(async move { subject((), async move |_| nop(()).await, nothing, unseen) })
        }),
        row("raw operation", Law::Asks, Place::Linux, |_| Box::pin(raw())),
        row("open: a FIFO", Law::Asks, Place::Linux, |dir| Box::pin(fifo(dir))),
        row("process: wait", Law::Asks, Place::Linux, |_| Box::pin(wait())),
        row("process: drop", Law::Always, Place::Linux, |_| Box::pin(drop_child())),
    ]
}

async fn raw() -> Result<Box<dyn Subject>> {
    let (reader, writer) = pipe()?;
    let readable = |reader: &PipeReader| RawOperation::readable(reader);
    subject(
        (reader, writer),
        async move |(reader, _)| Ok(submit(readable(reader)).await.map(|_| 1)?),
        async |(_, writer)| Ok(writer.write_all("hello").await.map(drop)?),
        unseen,
    )
}

/// It is opened when somebody opens its other end.
async fn fifo(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let path = dir.join("fifo");
    let made = Command::new("mkfifo").arg(&path).run().await?;
    debug_assert!(made.status.success());
    let other_end = |path: &Path| std::fs::File::options().read(true).write(true).open(path);
    subject(
        (path, Cell::new(None)),
        async |(path, _)| Ok(File::open(path).await.map(|_| 1)?),
        async move |(path, other)| {
            other.set(Some(other_end(path)?));
            Ok(())
        },
        unseen,
    )
}

/// A child that ends with its standard input.
async fn cat() -> Result<Child> {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().await
}

async fn wait() -> Result<Box<dyn Subject>> {
    let mut child = cat().await?;
    let stdin = child.stdin.take();
    subject(
        (child, Cell::new(stdin)),
        async |(child, _)| Ok(child.wait().await.map(|_| 1)?),
        async |(_, stdin)| {
            drop(stdin.take());
            Ok(())
        },
        unseen,
    )
}

/// It is killed, and nothing is left of it.
async fn drop_child() -> Result<Box<dyn Subject>> {
    let child = cat().await?;
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    subject(
        (Cell::new(Some(child)), process),
        async |(child, _)| {
            drop(child.take());
            Ok(1)
        },
        nothing,
        async |(_, process)| {
            for _ in 0..1000 {
                if !process.exists() {
                    return Ok(1);
                }
                sleep(Duration::from_millis(1)).await?;
            }
            Ok(0)
        },
    )
}
