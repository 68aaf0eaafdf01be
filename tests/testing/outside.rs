//! An end of a connection that a test holds itself.

use std::io::{ErrorKind, Result as IoResult};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use trine::net::TcpListener;
use trine::testing::{Outside, World};
use trine::time::{Instant, sleep};
use trine::{Result, checkpoint, move_on_after, nursery};

use super::common::Peer;

const HERE: &str = "127.0.0.1:0";
const SECOND: Duration = Duration::from_secs(1);

fn connect(to: SocketAddr) -> IoResult<Outside> {
    World::current().connect(to)
}

fn kind<T>(result: IoResult<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[trine::test]
async fn an_outside_end_is_named_like_any_and_takes_no_descriptor() -> Result {
    let listener = TcpListener::bind(HERE).await?;
    let to = listener.local_addr()?;
    let peer = connect(to)?;
    let (stream, from) = listener.accept().await?;
    assert_eq!((from, stream.peer_addr()?), (peer.local_addr(), peer.local_addr()));
    assert_eq!(peer.peer_addr()?, to);
    assert_eq!(format!("{peer:?}"), format!("Outside({from})"));
    let census = World::current().census();
    assert_eq!((census.descriptors, census.connections), (2, 1));
    stream.close().await?;
    drop(peer);
    assert_eq!(World::current().census().connections, 0);
    Ok(())
}

#[trine::test]
async fn an_outside_end_never_waits() -> Result {
    let listener = TcpListener::bind(HERE).await?;
    let peer = connect(listener.local_addr()?)?;
    let (stream, _) = listener.accept().await?;
    assert_eq!(kind(peer.receive(&mut [0; 9])), Some(ErrorKind::WouldBlock));
    let mut sent = 0;
    loop {
        match peer.send(&[7; 10_000]) {
            Ok(count) => sent += count,
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert_eq!(stream.read_exact(vec![0; sent]).await?, vec![7; sent]);
    assert_eq!(peer.send(b"room")?, 4, "there is some again");
    peer.shutdown(Shutdown::Write)?;
    assert_eq!(kind(peer.send(b"more")), Some(ErrorKind::BrokenPipe));
    assert_eq!(stream.recv().await?.unwrap(), *b"room");
    assert!(stream.recv().await?.is_none());
    stream.close().await?;
    assert_eq!(peer.receive(&mut [0])?, 0);
    assert_eq!(kind(peer.shutdown(Shutdown::Both)), Some(ErrorKind::NotConnected));
    Ok(())
}

#[trine::test]
async fn an_outside_connect_is_refused_where_nobody_listens() -> Result {
    let listener = TcpListener::bind(HERE).await?;
    let nobody = listener.local_addr()?;
    listener.close().await?;
    assert_eq!(kind(connect(nobody)), Some(ErrorKind::ConnectionRefused));
    // With some way to go it is heard of later, and once.
    World::current().set_latency(SECOND);
    let peer = connect(nobody)?;
    assert_eq!(kind(peer.send(b"x")), Some(ErrorKind::WouldBlock));
    sleep(SECOND * 2).await?;
    assert_eq!(kind(peer.send(b"x")), Some(ErrorKind::ConnectionRefused));
    assert_eq!(kind(peer.send(b"x")), Some(ErrorKind::NotConnected));
    Ok(())
}

#[trine::test]
async fn an_outside_end_knows_the_latency_and_the_backlog() -> Result {
    let world = World::current();
    let listener = TcpListener::builder().backlog(1).bind(HERE).await?;
    let to = listener.local_addr()?;
    let (one, two, three) = (connect(to)?, connect(to)?, connect(to)?);
    assert_eq!(kind(three.peer_addr()), Some(ErrorKind::NotConnected), "no room for it");
    let mut accepted = Vec::new();
    for peer in [&one, &two, &three] {
        accepted.push(listener.accept().await?);
        assert_eq!(accepted.last().unwrap().1, peer.local_addr());
    }
    assert_eq!(three.peer_addr()?, to);
    world.set_latency(SECOND);
    one.send(b"x")?;
    let began = Instant::now();
    assert_eq!(accepted[0].0.recv().await?.unwrap(), *b"x");
    assert_eq!(began.elapsed(), SECOND);
    Ok(())
}

#[trine::test]
async fn an_outside_end_that_resets_is_heard_of_after_what_it_sent() -> Result {
    let listener = TcpListener::bind(HERE).await?;
    let peer = connect(listener.local_addr()?)?;
    let (stream, _) = listener.accept().await?;
    peer.send(b"last words")?;
    peer.reset();
    assert_eq!(stream.recv().await?.unwrap(), *b"last words");
    let error = stream.recv().await.unwrap_err();
    assert_eq!(error.io_kind(), Some(ErrorKind::ConnectionReset));
    Ok(())
}

// It outlives the runs, and one may connect before there is any.
#[test]
fn an_outside_end_belongs_to_no_run() -> Result {
    let world = World::tame();
    let listener = world.run(async || TcpListener::bind(HERE).await)?;
    let peer = world.connect(listener.local_addr()?).unwrap();
    drop(listener);
    world.run(async || checkpoint().await)?;
    assert_eq!(kind(peer.receive(&mut [0])), Some(ErrorKind::ConnectionReset));
    assert_eq!(world.finish(), Vec::<String>::new());
    Ok(())
}

// With delays and partial transfers too, every byte arrives, both ways.
#[trine::test(kernel = "both", runs = 20)]
async fn an_outside_end_loses_no_byte() -> Result {
    let (stream, peer) = &Peer::pair().await?;
    let sent: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = &sent;
    nursery(async |n| {
        n.spawn(async move {
            peer.write_all(sent).await?;
            Ok(peer.shutdown(Shutdown::Write)?)
        });
        let back = n.fork(async move { peer.read_to_end().await });
        while let Some(chunk) = stream.recv().await? {
            stream.write_all(chunk).await?;
        }
        stream.shutdown(Shutdown::Write).await?;
        assert!(back.await? == *sent);
        Ok(())
    })
    .await
}

// A cut network holds back what it sends.
#[trine::test]
async fn an_outside_end_can_be_isolated() -> Result {
    let listener = TcpListener::bind(HERE).await?;
    let peer = connect(listener.local_addr()?)?;
    let (stream, _) = listener.accept().await?;
    World::current().isolate(peer.local_addr());
    peer.send(b"x")?;
    assert!(move_on_after(SECOND, async |_| stream.recv().await).await?.is_none());
    World::current().rejoin(peer.local_addr());
    assert_eq!(stream.recv().await?.unwrap(), *b"x");
    Ok(())
}
