//! Datagrams of UDP between sockets of one thread: what a core can do, with both ends on it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket as ByTokio;
use tokio::task::{JoinSet, spawn_local};
use trine::net::UdpSocket;
use trine::{Result, nursery};

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

pub fn one_way_by_trine<const SIZE: usize>(times: u64) -> Duration {
    runs::trine(async || {
        let receiver = UdpSocket::bind(ANYWHERE).await?;
        let sender = client(receiver.local_addr()?).await?;
        receiver.connect(sender.local_addr()?).await?;
        let began = Instant::now();
        nursery(async |n| {
            n.spawn(async {
                for _ in 0..times {
                    for _ in 0..MANY {
                        assert_eq!(receiver.recv().await?.len(), SIZE);
                    }
                    receiver.send("all").await?;
                }
                Ok(())
            });
            let mut bytes = vec![7; SIZE];
            for _ in 0..times {
                for _ in 0..MANY {
                    bytes = sender.send(bytes).await?;
                }
                assert_eq!(sender.recv().await?, *b"all");
            }
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    })
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
