//! Datagrams of UDP between sockets of one thread: what a core can do, with both ends on it.

use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket as ByTokio;
use tokio::task::{JoinSet, spawn_local};
use trine::net::{UdpSocket, option};
use trine::{Result, join_all, nursery};

use crate::runs;

/// Sockets that wait for an answer, and datagrams one after another: as many as the usual receive buffer has
/// room for. None is lost.
pub const MANY: u64 = 64;

const ANYWHERE: &str = "127.0.0.1:0";

/// One that sends to `to` only.
async fn client(to: SocketAddr) -> Result<UdpSocket> {
    let client = UdpSocket::bind(ANYWHERE).await?;
    client.connect(to).await?;
    Ok(client)
}

async fn client_of_tokio(to: SocketAddr) -> ByTokio {
    let client = ByTokio::bind(ANYWHERE).await.expect("a socket");
    client.connect(to).await.expect("a loopback");
    client
}

// Many clients of one server, which answers with what it got.

pub fn echo_by_trine<const SIZE: usize>(times: u64) -> Duration {
    runs::trine(async || {
        let server = UdpSocket::bind(ANYWHERE).await?;
        let to = server.local_addr()?;
        nursery(async |n| {
            let server = &server;
            n.spawn_daemon(async move {
                loop {
                    let (bytes, from) = server.recv_from().await?;
                    server.send_to(bytes, from).await?;
                }
            });
            let began = Instant::now();
            nursery(async |clients| {
                for _ in 0..MANY {
                    clients.spawn(async move {
                        let (client, mut bytes) = (client(to).await?, vec![7; SIZE]);
                        for _ in 0..times {
                            bytes = client.send(bytes).await?;
                            assert_eq!(client.recv().await?.len(), SIZE);
                        }
                        Ok(())
                    });
                }
                Ok(())
            })
            .await?;
            Ok(began.elapsed())
        })
        .await
    })
}

pub fn echo_by_tokio<const SIZE: usize>(times: u64) -> Duration {
    runs::tokio(async {
        let server = ByTokio::bind(ANYWHERE).await.expect("a socket");
        let to = server.local_addr().expect("its address");
        let answering = spawn_local(async move {
            let mut bytes = vec![0; SIZE];
            loop {
                let (len, from) = server.recv_from(&mut bytes).await.expect("a datagram");
                server.send_to(&bytes[..len], from).await.expect("room");
            }
        });
        let began = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..MANY {
            clients.spawn_local(async move {
                let (client, mut bytes) = (client_of_tokio(to).await, vec![7; SIZE]);
                for _ in 0..times {
                    client.send(&bytes).await.expect("room");
                    assert_eq!(client.recv(&mut bytes).await.expect("an answer"), SIZE);
                }
            });
        }
        while let Some(client) = clients.join_next().await {
            client.expect("no panic");
        }
        let took = began.elapsed();
        answering.abort();
        took
    })
}

// One task sends many to another one, which says when it has them.

/// So many rounds: `send` sends a round, `receive` has received one when it returns. With `cut` one send is as many
/// datagrams as have room for so many bytes each, and the kernel may put them together again.
fn rounds(
    times: u64,
    cut: Option<u32>,
    mut send: impl AsyncFnMut(&UdpSocket) -> Result,
    receive: impl AsyncFn(&UdpSocket) -> Result,
) -> Duration {
    runs::trine(async || {
        let receiver = UdpSocket::bind(ANYWHERE).await?;
        let sender = client(receiver.local_addr()?).await?;
        receiver.connect(sender.local_addr()?).await?;
        if let Some(size) = cut {
            sender.set_option(option::SEGMENT_SIZE, size)?;
            receiver.set_option(option::COALESCE, true)?;
        }
        let began = Instant::now();
        nursery(async |n| {
            n.spawn(async {
                for _ in 0..times {
                    receive(&receiver).await?;
                    receiver.send("all").await?;
                }
                Ok(())
            });
            for _ in 0..times {
                send(&sender).await?;
                assert_eq!(sender.recv().await?, *b"all");
            }
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    })
}

async fn receive_each<const SIZE: usize>(receiver: &UdpSocket) -> Result {
    for _ in 0..MANY {
        assert_eq!(receiver.recv().await?.len(), SIZE);
    }
    Ok(())
}

pub fn one_way_by_trine<const SIZE: usize>(times: u64) -> Duration {
    let mut bytes = vec![7; SIZE];
    let send = async |sender: &UdpSocket| {
        for _ in 0..MANY {
            bytes = sender.send(mem::take(&mut bytes)).await?;
        }
        Ok(())
    };
    rounds(times, None, send, receive_each::<SIZE>)
}

/// The same where the sends of a round are begun together.
pub fn together_by_trine<const SIZE: usize>(times: u64) -> Duration {
    let mut all = vec![vec![7; SIZE]; MANY as usize];
    let send = async |sender: &UdpSocket| {
        let sends = all.drain(..).map(async |bytes| Ok(sender.send(bytes).await?));
        all = join_all(sends).await?.into_iter().collect::<Result<_>>()?;
        Ok(())
    };
    rounds(times, None, send, receive_each::<SIZE>)
}

/// The same where a round is one send.
pub fn segments_by_trine<const SIZE: usize>(times: u64) -> Duration {
    let mut bytes = vec![7; SIZE * MANY as usize];
    let send = async |sender: &UdpSocket| {
        bytes = sender.send(mem::take(&mut bytes)).await?;
        Ok(())
    };
    let receive = async |receiver: &UdpSocket| {
        let mut came = 0;
        while came < MANY {
            for bytes in receiver.recv_segments().await?.iter() {
                assert_eq!(bytes.len(), SIZE);
                came += 1;
            }
        }
        Ok(())
    };
    rounds(times, Some(SIZE as u32), send, receive)
}

pub fn one_way_by_tokio<const SIZE: usize>(times: u64) -> Duration {
    runs::tokio(async {
        let receiver = ByTokio::bind(ANYWHERE).await.expect("a socket");
        let sender = client_of_tokio(receiver.local_addr().expect("its address")).await;
        receiver.connect(sender.local_addr().expect("its address")).await.expect("a loopback");
        let began = Instant::now();
        let receiving = spawn_local(async move {
            let mut bytes = vec![0; SIZE];
            for _ in 0..times {
                for _ in 0..MANY {
                    assert_eq!(receiver.recv(&mut bytes).await.expect("a datagram"), SIZE);
                }
                receiver.send(b"all").await.expect("room");
            }
        });
        let (bytes, mut answer) = (vec![7; SIZE], [0; 3]);
        for _ in 0..times {
            for _ in 0..MANY {
                sender.send(&bytes).await.expect("room");
            }
            assert_eq!(sender.recv(&mut answer).await.expect("an answer"), 3);
        }
        receiving.await.expect("no panic");
        began.elapsed()
    })
}
