//! `select!` loses nothing (D7): futures of ours are dropped at every possible poll while bytes and
//! connections arrive, and each of them is delivered, in order, and nothing ever answers `Busy`.

mod common;

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use futures::{FutureExt, StreamExt, pin_mut, select, stream::FuturesUnordered};
use trine::net::{TcpListener, TcpStream};
use trine::testing::World;
use trine::time::sleep;
use trine::{IoBuf, Nursery, Result, checkpoint, move_on_after, nursery, yield_shielded};

use common::{Peer, fewer};

/// A connection in a simulated world may be so narrow that each byte takes a receive.
fn pieces() -> u64 {
    if World::try_current().is_some() { fewer(90, 4) } else { 900 }
}

/// Pieces that are written between two connections.
const BETWEEN: u64 = fewer(15, 2);

/// Writes a counting stream in pieces, opens numbered connections meanwhile, and says how far it counted.
async fn traffic<'a>(n: Nursery<'a, '_>, to: SocketAddr) -> Result<u64> {
    let stream = Peer::connect(to)?;
    let (mut count, mut opened) = (0_u64, 0_u64);
    for piece in 0..pieces() {
        let numbers: Vec<u8> = (0..piece % 41 + 1)
            .flat_map(|_| {
                count += 1;
                (count - 1).to_be_bytes()
            })
            .collect();
        stream.write_all(&numbers).await?;
        if piece % BETWEEN == 0 {
            let connection = Peer::connect(to)?;
            let number = opened.to_be_bytes();
            opened += 1;
            // Nobody reads it before all have come, and the connection may be narrower than that.
            n.spawn(async move { connection.write_all(&number).await });
        }
        // Sometimes nothing comes for a while, and sometimes much at once.
        match piece % 7 {
            0..3 => {}
            3..5 => checkpoint().await?,
            pause => sleep(Duration::from_micros(10 * pause)).await?,
        }
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(count)
}

/// What has arrived, and in which order it had to.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    connections: Vec<TcpStream>,
    ended: bool,
}

impl Received {
    fn is_complete(&self) -> bool {
        self.ended && self.connections.len() as u64 == pieces() / BETWEEN
    }

    async fn check(self, sent: u64) -> Result {
        assert_eq!(self.bytes.len() as u64, sent * 8, "bytes were lost or came twice");
        for (expected, number) in self.bytes.chunks(8).enumerate() {
            assert_eq!(number, (expected as u64).to_be_bytes());
        }
        for (expected, connection) in self.connections.iter().enumerate() {
            let number = connection.read_exact(Vec::with_capacity(8)).await?;
            assert_eq!(number, (expected as u64).to_be_bytes());
        }
        Ok(())
    }
}

/// Has `once` receive something, again and again, until all that is sent meanwhile has come.
async fn under_traffic(
    mut once: impl AsyncFnMut(&TcpListener, &TcpStream, &mut Received) -> Result,
) -> Result {
    nursery(async |n| {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let traffic = n.fork(traffic(n, listener.local_addr()?));
        let (stream, _) = listener.accept().await?;
        let mut received = Received::default();
        while !received.is_complete() {
            once(&listener, &stream, &mut received).await?;
        }
        received.check(traffic.await?).await
    })
    .await
}

/// Ends after `turns` turns: something that wins a `select!` sooner or later.
async fn tick(turns: u64) {
    for _ in 0..turns {
        yield_shielded().await;
    }
}

// D7: a late result belongs to the object, whichever branch wins (which `select!` draws by lot).
#[trine::test(kernel = "both", runs = 10, deterministic = false)]
async fn a_loop_of_select_over_recv_accept_and_a_tick_loses_nothing() -> Result {
    let (mut round, mut ticks) = (0, 0);
    under_traffic(async |listener, stream, received| {
        let ended = received.ended;
        round += 1;
        let receive =
            async { if ended { futures::future::pending().await } else { stream.recv().await } };
        let (receive, accept) = (receive.fuse(), listener.accept().fuse());
        // Every third time it is ready at once, whatever has come.
        let tick = tick(round % 3).fuse();
        pin_mut!(receive, accept, tick);
        select! {
            () = tick => ticks += 1,
            accepted = accept => received.connections.push(accepted?.0),
            chunk = receive => match chunk? {
                Some(chunk) => received.bytes.extend_from_slice(&chunk),
                None => received.ended = true,
            },
        }
        Ok(())
    })
    .await?;
    assert!(ticks > fewer(10, 1), "the ticking branch hardly ever won: {ticks}");
    Ok(())
}

// D7: the same for a read into a buffer of the caller's, which is gone with the future.
#[trine::test(kernel = "both", runs = 10, deterministic = false)]
async fn a_dropped_read_into_a_buffer_leaves_its_bytes_with_the_stream() -> Result {
    let mut round = 0;
    under_traffic(async |listener, stream, received| {
        round += 1;
        let (ended, capacity) = (received.ended, round as usize % 7 + 1);
        let read = async {
            if ended {
                return futures::future::pending().await;
            }
            match round % 3 {
                0 => stream.read(Vec::with_capacity(capacity)).await,
                // Ends short, where the stream does.
                1 => stream.read_exact(Vec::with_capacity(capacity)).await,
                _ => {
                    let chunk = stream.recv().await.unwrap();
                    Ok(chunk.map_or(Vec::new(), |chunk| chunk.to_vec()))
                }
            }
        };
        let (read, accept, tick) = (read.fuse(), listener.accept().fuse(), tick(round % 3).fuse());
        pin_mut!(read, accept, tick);
        select! {
            () = tick => {},
            accepted = accept => received.connections.push(accepted?.0),
            read = read => match read {
                Ok(bytes) if bytes.is_empty() => received.ended = true,
                Ok(bytes) => received.bytes.extend_from_slice(&bytes),
                Err(short) => {
                    assert_eq!(short.error.io_kind(), Some(io::ErrorKind::UnexpectedEof));
                    received.bytes.extend_from_slice(&short.buf);
                    received.ended = true;
                }
            },
        }
        Ok(())
    })
    .await
}

// D7, E11: scopes that time out around a receive take nothing away either.
#[trine::test(kernel = "both", runs = 10)]
async fn receives_inside_scopes_that_expire_lose_nothing() -> Result {
    let mut round = 0_u64;
    under_traffic(async |listener, stream, received| {
        round += 1;
        let patience = Duration::from_micros(round % 90);
        if round % 2 == 0 || received.ended {
            let accepted = move_on_after(patience, async |_| listener.accept().await).await?;
            received.connections.extend(accepted.map(|(stream, _)| stream));
        } else {
            match move_on_after(patience, async |_| stream.recv().await).await? {
                Some(Some(chunk)) => received.bytes.extend_from_slice(&chunk),
                Some(None) => received.ended = true,
                None => {}
            }
        }
        Ok(())
    })
    .await
}

// D7: many streams in a `FuturesUnordered` that is thrown away again and again.
#[trine::test(kernel = "both", runs = 10)]
async fn a_futures_unordered_that_is_thrown_away_loses_nothing() -> Result {
    const PEERS: usize = fewer(8, 3);
    const NUMBERS: u32 = fewer(50, 4);
    nursery(async |n| {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let to = listener.local_addr()?;
        for peer in 0..PEERS as u32 {
            let stream = Peer::connect(to)?;
            n.spawn(async move {
                for number in 0..NUMBERS {
                    stream.write_all(&(number * PEERS as u32 + peer).to_be_bytes()).await?;
                    if number % (peer + 1) == 0 {
                        checkpoint().await?;
                    }
                }
                Ok(())
            });
        }
        let mut streams = Vec::new();
        for _ in 0..PEERS {
            streams.push(listener.accept().await?.0);
        }
        let mut bytes = vec![Vec::new(); PEERS];
        let mut ended = [false].repeat(PEERS);
        while ended.contains(&false) {
            let open = (0..PEERS).filter(|&at| !ended[at]);
            let mut receives: FuturesUnordered<_> =
                open.map(|at| streams[at].recv().map(move |chunk| (at, chunk))).collect();
            // Two at most are looked at, the others are dropped wherever they are.
            for _ in 0..2 {
                let Some((at, chunk)) = receives.next().await else { break };
                match chunk? {
                    Some(chunk) => bytes[at].extend_from_slice(&chunk),
                    None => ended[at] = true,
                }
            }
        }
        let mut numbers: Vec<u32> = Vec::new();
        for stream in bytes {
            let of_one =
                stream.chunks(4).map(|number| u32::from_be_bytes(number.try_into().unwrap()));
            let before = numbers.len();
            numbers.extend(of_one);
            assert!(numbers[before..].is_sorted(), "out of order: {:?}", &numbers[before..]);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..NUMBERS * PEERS as u32).collect::<Vec<_>>());
        Ok(())
    })
    .await
}

// The range of a slice is what is sent; the rest of the buffer comes back untouched.
#[trine::test(kernel = "both")]
async fn a_slice_of_a_buffer_is_sent_and_the_whole_comes_back() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect_addr(listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    let back = client.write_all(b"abcdef".to_vec().slice(2..4)).await?;
    assert_eq!(back.into_inner(), b"abcdef");
    assert_eq!(server.read_exact(Vec::with_capacity(2)).await?, b"cd");
    Ok(())
}
