//! Streams of bytes: connections, pipes, and what makes and ends connections.

use std::cell::Cell;
use std::net::Shutdown;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::io::{self, Close, Read, Readiness, Write};
use crate::net::{TcpListener, TcpStream, UnixListener, UnixStream, option};
use crate::nursery::nursery;
use crate::pipe::{PipeReader, PipeWriter, pipe};
use crate::scope::move_on_after;
use crate::testing::World;

use super::subject::{Law, Place, Row, Subject, Whole, nothing, subject, unseen, until_quiet};

const HELLO: &str = "hello";

/// More than there is room for between the two ends.
fn much() -> usize {
    if World::try_current().is_some() { 70_000 } else { 700_000 }
}

pub(super) fn rows() -> Vec<Row> {
    let row = |name, law, whole, open| Row { name, law, whole, place: Place::Anywhere, open };
    let (few, lots, one): (Whole, Whole, Whole) = (|| HELLO.len() as u64, || much() as u64, || 1);
    let most: Whole = || 5 * much() as u64;
    vec![
        row("tcp: recv", Law::Takes, few, |_| Box::pin(async { recv(tcp().await?) })),
        row("unix: recv", Law::Takes, few, |_| Box::pin(async { recv(UnixStream::pair()?) })),
        row("pipe: recv", Law::Takes, few, |_| Box::pin(async { recv(turned(pipe()?)) })),
        row("tcp: read", Law::Takes, few, |_| Box::pin(async { read(tcp().await?) })),
        row("unix: read", Law::Takes, few, |_| Box::pin(async { read(UnixStream::pair()?) })),
        row("pipe: read", Law::Takes, few, |_| Box::pin(async { read(turned(pipe()?)) })),
        row("tcp: read_exact", Law::Takes, few, |_| Box::pin(async { read_exact(tcp().await?) })),
        row("pipe: read_exact", Law::Takes, few, |_| {
            Box::pin(async { read_exact(turned(pipe()?)) })
        }),
        row("tcp: write", Law::Does, few, |_| Box::pin(async { write(tcp().await?) })),
        row("unix: write", Law::Does, few, |_| Box::pin(async { write(UnixStream::pair()?) })),
        row("pipe: write", Law::Does, few, |_| Box::pin(async { write(turned(pipe()?)) })),
        row("tcp: write_all", Law::Does, lots, |_| Box::pin(async { write_all(tcp().await?) })),
        row("unix: write_all", Law::Does, lots, |_| {
            Box::pin(async { write_all(UnixStream::pair()?) })
        }),
        row("pipe: write_all", Law::Does, lots, |_| Box::pin(async { write_all(turned(pipe()?)) })),
        row("tcp: write_all_vectored", Law::Does, few, |_| {
            Box::pin(async {
                let (one, other) = tcp().await?;
                writing((one, other), async |writer: &TcpStream| {
                    writer.write_all_vectored(["he", "llo"]).await?;
                    Ok(HELLO.len() as u64)
                })
            })
        }),
        row("tcp: copy", Law::DoesLast, most, |_| {
            Box::pin(async { copy(tcp().await?, tcp().await?) })
        }),
        row("unix: copy", Law::DoesLast, most, |_| {
            Box::pin(async { copy(UnixStream::pair()?, UnixStream::pair()?) })
        }),
        row("tcp: write without a copy", Law::Lends, few, |_| {
            Box::pin(async { write(lending().await?) })
        }),
        row("tcp: write_all without a copy", Law::Lends, lots, |_| {
            Box::pin(async { write_all(lending().await?) })
        }),
        row("tcp: shutdown", Law::Does, one, |_| {
            let ends = async |(ends, _): &(TcpStream, TcpStream)| {
                ends.shutdown(Shutdown::Write).await?;
                Ok(1)
            };
            Box::pin(async move {
                subject(tcp().await?, ends, nothing, async |(_, peer)| has_ended(peer).await)
            })
        }),
        row("pipe: finish", Law::Does, one, |_| {
            Box::pin(async {
                let finish = async |(writer, _): &(PipeWriter, PipeReader)| {
                    writer.finish().await?;
                    Ok(1)
                };
                subject(turned(pipe()?), finish, nothing, async |(_, reader)| {
                    has_ended(reader).await
                })
            })
        }),
        row("tcp: close", Law::Always, one, |_| Box::pin(async { close(tcp().await?) })),
        row("unix: close", Law::Always, one, |_| Box::pin(async { close(UnixStream::pair()?) })),
        row("pipe: close", Law::Always, one, |_| Box::pin(async { close(turned(pipe()?)) })),
        row("tcp: accept", Law::Takes, one, |_| Box::pin(accept())),
        row("unix: accept", Law::Takes, one, |dir| Box::pin(unix_accept(dir))),
        row("tcp: connect", Law::Does, one, |_| Box::pin(connect())),
        row("unix: connect", Law::Does, one, |dir| Box::pin(unix_connect(dir))),
        row("unix: recv_fds", Law::Takes, one, |_| Box::pin(async { recv_fds() })),
        row("unix: send_fds", Law::Does, one, |_| Box::pin(async { send_fds() })),
        row("readable", Law::Asks, one, |_| Box::pin(async { readable().await })),
        row("writable", Law::Asks, one, |_| Box::pin(async { writable().await })),
    ]
}

/// Two ends of a connection.
async fn tcp() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let one = TcpStream::connect_addr(listener.local_addr()?).await?;
    let (other, _) = listener.accept().await?;
    one.set_option(option::SEND_BUFFER, 100_000)?;
    other.set_option(option::RECEIVE_BUFFER, 100_000)?;
    listener.close().await?;
    Ok((one, other))
}

/// The first of which sends without a copy.
async fn lending() -> Result<(TcpStream, TcpStream)> {
    let (one, other) = tcp().await?;
    one.set_zero_copy(Some(1))?;
    Ok((one, other))
}

/// What is written to comes first.
fn turned((reader, writer): (PipeReader, PipeWriter)) -> (PipeWriter, PipeReader) {
    (writer, reader)
}

/// How much comes, until nothing comes for a while.
pub(super) async fn received(reader: &impl Read) -> Result<u64> {
    until_quiet(async || match reader.recv().await {
        Ok(chunk) => Ok(chunk.map_or(0, |chunk| chunk.len() as u64)),
        // So a connection ends whose bytes were lent and are not any more.
        Err(Error::Io(error)) if error.raw_os_error() == Some(libc::ECONNRESET) => Ok(0),
        Err(error) => Err(error),
    })
    .await
}

/// Whether the end of the stream comes.
async fn has_ended(reader: &impl Read) -> Result<u64> {
    let end = move_on_after(Duration::from_millis(50), async |_| reader.recv().await).await?;
    Ok(u64::from(matches!(end, Some(None))))
}

fn recv<W: Write + 'static, R: Read + 'static>(ends: (W, R)) -> Result<Box<dyn Subject>> {
    subject(
        ends,
        async |(_, reader)| Ok(reader.recv().await?.map_or(0, |chunk| chunk.len() as u64)),
        async |(writer, _)| Ok(writer.write_all(HELLO).await.map(drop)?),
        async |(_, reader)| received(reader).await,
    )
}

fn read<W: Write + 'static, R: Read + 'static>(ends: (W, R)) -> Result<Box<dyn Subject>> {
    subject(
        ends,
        async |(_, reader)| Ok(reader.read(Vec::with_capacity(3)).await?.len() as u64),
        async |(writer, _)| Ok(writer.write_all(HELLO).await.map(drop)?),
        async |(_, reader)| received(reader).await,
    )
}

fn read_exact<W: Write + 'static, R: Read + 'static>(ends: (W, R)) -> Result<Box<dyn Subject>> {
    subject(
        ends,
        async |(_, reader)| Ok(reader.read_exact(Vec::with_capacity(4)).await?.len() as u64),
        async |(writer, _)| Ok(writer.write_all(HELLO).await.map(drop)?),
        async |(_, reader)| received(reader).await,
    )
}

fn write<W: Write + 'static, R: Read + 'static>(ends: (W, R)) -> Result<Box<dyn Subject>> {
    writing(ends, async |writer: &W| Ok(writer.write(HELLO).await?.0 as u64))
}

fn write_all<W: Write + 'static, R: Read + 'static>(ends: (W, R)) -> Result<Box<dyn Subject>> {
    writing(ends, async |writer: &W| Ok(writer.write_all(vec![7; much()]).await?.len() as u64))
}

fn writing<W: Write + 'static, R: Read + 'static>(
    (writer, reader): (W, R),
    write: impl AsyncFn(&W) -> super::subject::Done + 'static,
) -> Result<Box<dyn Subject>> {
    subject(
        (writer, reader, Cell::new(0)),
        async move |(writer, ..)| write(writer).await,
        async |(_, reader, came)| {
            came.set(came.get() + received(reader).await?);
            Ok(())
        },
        async |(_, reader, came)| Ok(came.get() + received(reader).await?),
    )
}

/// From one stream to another, while the first one is written to: in the end the kernel moves it.
fn copy<W: Write + 'static, R: Read + 'static>(
    (feeder, from): (W, R),
    (to, taker): (W, R),
) -> Result<Box<dyn Subject>> {
    subject(
        (feeder, from, to, taker, Cell::new(0)),
        async |(feeder, from, to, ..)| {
            let copied = Cell::new(None);
            let fed = nursery(async |n| {
                n.spawn(async {
                    feeder.write_all(vec![7; 5 * much()]).await?;
                    feeder.finish().await
                });
                copied.set(Some(io::copy(from, to).await));
                Ok(())
            });
            let fed = fed.await;
            match copied.take() {
                Some(Err(failed)) => Err(failed.into()),
                Some(Ok(count)) => Ok(count),
                None => {
                    Err(fed.err().map_or_else(|| Error::other("it has ended").into(), Into::into))
                }
            }
        },
        async |(.., taker, came)| {
            came.set(came.get() + received(taker).await?);
            Ok(())
        },
        async |(.., taker, came)| Ok(came.get() + received(taker).await?),
    )
}

fn close<W: Close + 'static, R: Read + 'static>((one, other): (W, R)) -> Result<Box<dyn Subject>> {
    subject(
        (Cell::new(Some(one)), other),
        async |(one, _)| match one.take() {
            Some(one) => Ok(one.close().await.map(|()| 1)?),
            None => Ok(0),
        },
        nothing,
        async |(_, other)| has_ended(other).await,
    )
}

async fn accept() -> Result<Box<dyn Subject>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let one = async |listener: &TcpListener| listener.accept().await.map(|_| 1);
    subject(
        (listener, Cell::new(None)),
        async move |(listener, _)| Ok(one(listener).await?),
        async |(listener, client)| {
            client.set(Some(TcpStream::connect_addr(listener.local_addr()?).await?));
            Ok(())
        },
        async |(listener, _)| until_quiet(async || listener.accept().await.map(|_| 1)).await,
    )
}

async fn unix_accept(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let path = dir.join("socket");
    subject(
        (UnixListener::bind(&path).await?, Cell::new(None)),
        async |(listener, _)| Ok(listener.accept().await.map(|_| 1)?),
        async move |(_, client)| {
            client.set(Some(UnixStream::connect(&path).await?));
            Ok(())
        },
        async |(listener, _)| until_quiet(async || listener.accept().await.map(|_| 1)).await,
    )
}

async fn connect() -> Result<Box<dyn Subject>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    subject(
        (listener, Cell::new(None)),
        async |(listener, client)| {
            client.set(Some(TcpStream::connect_addr(listener.local_addr()?).await?));
            Ok(1)
        },
        nothing,
        async |(listener, _)| living(async || Ok(listener.accept().await?.0)).await,
    )
}

async fn unix_connect(dir: PathBuf) -> Result<Box<dyn Subject>> {
    let path = dir.join("socket");
    subject(
        (UnixListener::bind(&path).await?, Cell::new(None)),
        async move |(_, client)| {
            client.set(Some(UnixStream::connect(&path).await?));
            Ok(1)
        },
        nothing,
        async |(listener, _)| living(async || Ok(listener.accept().await?.0)).await,
    )
}

/// How many connections come of which the other end was not closed again.
async fn living<S: Read>(accept: impl AsyncFn() -> Result<S>) -> Result<u64> {
    let living = Cell::new(0);
    until_quiet(async || {
        let stream = accept().await?;
        let ended = move_on_after(Duration::from_millis(5), async |_| stream.recv().await);
        let is_living = ended.await.is_ok_and(|ended| ended.is_none());
        living.set(living.get() + u64::from(is_living));
        Ok(1)
    })
    .await?;
    Ok(living.get())
}

fn recv_fds() -> Result<Box<dyn Subject>> {
    subject(
        UnixStream::pair()?,
        async |(_, to)| Ok(to.recv_fds(Vec::with_capacity(9)).await?.1.len() as u64),
        async |(from, _)| Ok(from.send_fds("x", [from.duplicate()?]).await.map(drop)?),
        async |(_, to)| descriptors(to).await,
    )
}

fn send_fds() -> Result<Box<dyn Subject>> {
    subject(
        UnixStream::pair()?,
        async |(from, _)| Ok(from.send_fds("x", [from.duplicate()?]).await?.len() as u64),
        nothing,
        async |(_, to)| descriptors(to).await,
    )
}

/// How many descriptors come, until nothing comes for a while.
async fn descriptors(to: &UnixStream) -> Result<u64> {
    until_quiet(async || Ok(to.recv_fds(Vec::with_capacity(9)).await?.1.len() as u64)).await
}

async fn readable() -> Result<Box<dyn Subject>> {
    let (one, other) = tcp().await?;
    subject(
        (one, Readiness::new(other)?),
        async |(_, other)| Ok(other.readable().await.map(|_| 1)?),
        async |(one, _)| Ok(one.write(HELLO).await.map(drop)?),
        unseen,
    )
}

/// A pipe that is full.
async fn writable() -> Result<Box<dyn Subject>> {
    let (reader, writer) = pipe()?;
    let full = move_on_after(Duration::from_millis(5), async |_| {
        writer.write_all(vec![7; much()]).await?;
        Ok(())
    });
    full.await?;
    subject(
        (reader, Readiness::new(writer)?),
        async |(_, writer)| Ok(writer.writable().await.map(|_| 1)?),
        async |(reader, _)| received(reader).await.map(drop),
        unseen,
    )
}
