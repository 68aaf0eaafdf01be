//! Datagrams: each is received as a whole, and by one.

use std::cell::Cell;

use crate::error::Result;
use crate::net::{UdpSocket, UnixDatagram};

use super::subject::{Law, Place, Row, Subject, nothing, subject, until_quiet};

pub(super) fn rows() -> Vec<Row> {
    let row = |name, law, open| Row { name, law, whole: || 1, place: Place::Anywhere, open };
    vec![
        row("udp: recv_from", Law::Takes, |_| Box::pin(udp_recv())),
        row("udp: recv_into", Law::Takes, |_| Box::pin(udp_recv_into())),
        row("udp: send_to", Law::Does, |_| Box::pin(udp_send())),
        row("udp: connect", Law::Does, |_| Box::pin(udp_connect())),
        row("unix: receive a datagram", Law::Takes, |_| Box::pin(async { unix_recv() })),
        row("unix: receive a datagram into", Law::Takes, |_| Box::pin(async { unix_recv_into() })),
        row("unix: send a datagram", Law::Does, |_| Box::pin(unix_send(false))),
        row("unix: send a datagram for which there is no room", Law::Does, |_| {
            Box::pin(unix_send(true))
        }),
    ]
}

const HELLO: &str = "hello";

/// One datagram, which has to be whole.
fn one(bytes: &[u8]) -> u64 {
    assert_eq!(bytes, HELLO.as_bytes(), "a datagram is what was sent");
    1
}

async fn udp() -> Result<(UdpSocket, UdpSocket)> {
    let (one, other) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0"));
    Ok((one, other.await?))
}

async fn udp_recv() -> Result<Box<dyn Subject>> {
    subject(
        udp().await?,
        async |(_, to)| Ok(to.recv_from().await.map(|(bytes, _)| one(&bytes))?),
        async |(from, to)| Ok(from.send_to(HELLO, to.local_addr()?).await.map(drop)?),
        async |(_, to)| udp_rest(to).await,
    )
}

async fn udp_recv_into() -> Result<Box<dyn Subject>> {
    subject(
        udp().await?,
        async |(_, to)| Ok(to.recv_into(Vec::with_capacity(9)).await.map(|(b, _)| one(&b))?),
        async |(from, to)| Ok(from.send_to(HELLO, to.local_addr()?).await.map(drop)?),
        async |(_, to)| udp_rest(to).await,
    )
}

async fn udp_rest(to: &UdpSocket) -> Result<u64> {
    until_quiet(async || to.recv().await.map(|bytes| one(&bytes))).await
}

async fn udp_send() -> Result<Box<dyn Subject>> {
    subject(
        udp().await?,
        async |(from, to)| Ok(from.send_to(HELLO, to.local_addr()?).await.map(|_| 1)?),
        nothing,
        async |(_, to)| udp_rest(to).await,
    )
}

async fn udp_connect() -> Result<Box<dyn Subject>> {
    subject(
        udp().await?,
        async |(from, to)| Ok(from.connect(to.local_addr()?).await.map(|()| 1)?),
        nothing,
        async |(from, _)| Ok(u64::from(from.peer_addr().is_ok())),
    )
}

fn unix_recv() -> Result<Box<dyn Subject>> {
    subject(
        UnixDatagram::pair()?,
        async |(_, to)| Ok(to.recv().await.map(|bytes| one(&bytes))?),
        async |(from, _)| Ok(from.send(HELLO).await.map(drop)?),
        async |(_, to)| unix_rest(to).await,
    )
}

fn unix_recv_into() -> Result<Box<dyn Subject>> {
    subject(
        UnixDatagram::pair()?,
        async |(_, to)| Ok(to.recv_into(Vec::with_capacity(9)).await.map(|(b, _)| one(&b))?),
        async |(from, _)| Ok(from.send(HELLO).await.map(drop)?),
        async |(_, to)| unix_rest(to).await,
    )
}

async fn unix_rest(to: &UnixDatagram) -> Result<u64> {
    let came = Cell::new(0);
    until_quiet(async || {
        let bytes = to.recv().await?;
        came.set(came.get() + u64::from(*bytes == *HELLO.as_bytes()));
        Ok(1)
    })
    .await?;
    Ok(came.get())
}

/// Sends one, in vain if the receiver has so many others that no more are taken.
async fn unix_send(is_full: bool) -> Result<Box<dyn Subject>> {
    let (from, to) = UnixDatagram::pair()?;
    if is_full {
        let other = async || from.send("another").await.map(|_| 1).map_err(Into::into);
        until_quiet(other).await?;
    }
    subject(
        (from, to, Cell::new(0)),
        async |(from, ..)| Ok(from.send(HELLO).await.map(|_| 1)?),
        async |(_, to, came)| {
            came.set(came.get() + unix_rest(to).await?);
            Ok(())
        },
        async |(_, to, came)| Ok(came.get() + unix_rest(to).await?),
    )
}
