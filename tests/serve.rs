//! The accept loop: limits, failing handlers, a lack of descriptors, and how it ends.

mod common;

use std::cell::{Cell, RefCell};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use trine::net::{
    Address, Peer, Serve, TcpListener, TcpStream, Trouble, UnixListener, UnixStream, serve,
};
use trine::testing::World;
use trine::time::{Instant, sleep};
use trine::{CancelScope, Error, Result, checkpoint, idle, move_on_after, nursery};

use common::fewer;

const MS: Duration = Duration::from_millis(1);
const GRACE: Duration = Duration::from_secs(10);

#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    common::within(20, || trine::run(main)).unwrap_or_else(|error| panic!("{error}"))
}

async fn echo(stream: TcpStream) -> Result {
    while let Some(Some(request)) = idle(stream.recv()).await? {
        stream.write_all(request).await?;
    }
    stream.close().await
}

/// Sends something and gets it back.
async fn ask(client: &TcpStream, what: &str) -> Result {
    client.write_all(what.to_owned()).await?;
    let mut answer = Vec::new();
    while answer.len() < what.len() {
        answer.extend_from_slice(&client.recv().await?.expect("an answer"));
    }
    assert_eq!(answer, what.as_bytes());
    Ok(())
}

/// Runs `clients` beside a server, which is drained when they have ended.
async fn beside<'a>(
    serving: impl Future<Output = Result> + 'a,
    clients: impl AsyncFnOnce() -> Result,
) -> Result {
    let scope = CancelScope::new();
    nursery(async |n| {
        n.spawn(async {
            assert!(scope.run(async |_| serving.await).await?.is_some(), "it was cancelled");
            Ok(())
        });
        clients().await?;
        scope.drain(GRACE);
        Ok(())
    })
    .await
}

#[trine::test(kernel = "both")]
fn many_clients_are_served_but_only_so_many_at_a_time() {
    const CLIENTS: usize = fewer(60, 10);
    run(async || {
        for limit in [1, 4, CLIENTS] {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let (here, most) = (Cell::new(0), Cell::new(0));
            let serving = serve(&listener, limit, async |stream, peer| {
                assert_ne!(peer, address);
                here.set(here.get() + 1);
                most.set(most.get().max(here.get()));
                let end = echo(stream).await;
                here.set(here.get() - 1);
                end
            });
            beside(serving, async || {
                nursery(async |n| {
                    for _ in 0..CLIENTS {
                        n.spawn(async move {
                            let client = TcpStream::connect_addr(address).await?;
                            ask(&client, "a request").await?;
                            ask(&client, "and another").await?;
                            client.close().await
                        });
                    }
                    Ok(())
                })
                .await
            })
            .await?;
            assert!((1..=limit).contains(&most.get()), "{} of {limit}", most.get());
            assert_eq!(here.get(), 0);
        }
        Ok(())
    });
}

// What is drained and refused is the same for all listeners.
#[trine::test(kernel = "both")]
fn unix_listeners_are_served_too() {
    run(async || {
        let names = ["a", "b"].map(|name| {
            let name = format!("trine-test-serve-{}-{name}", std::process::id());
            SocketAddr::from_abstract_name(name).unwrap()
        });
        let mut listeners = Vec::new();
        for name in &names {
            listeners.push(UnixListener::bind_addr(name).await?);
        }
        let told = Rc::new(RefCell::new(Vec::new()));
        let listening = Rc::clone(&told);
        let server = Serve::new(10)
            .on_trouble(move |trouble| listening.borrow_mut().push(trouble.to_string()));
        let serving = server.run(&listeners, async |stream, peer| {
            assert!(peer.is_unnamed());
            match stream.recv().await? {
                Some(request) if *request == *b"fail" => Err(Error::other("as you like")),
                Some(request) => stream.write_all(request).await.map(drop).map_err(Error::from),
                None => Ok(()),
            }
        });
        beside(serving, async || {
            for name in &names {
                let client = UnixStream::connect_addr(name).await?;
                client.write_all("hello").await?;
                assert_eq!(client.recv().await?.expect("an answer"), *b"hello");
                let client = UnixStream::connect_addr(name).await?;
                client.write_all("fail").await?;
                assert!(client.recv().await?.is_none(), "it was closed");
            }
            let expected = "the connection with a process without a name: as you like";
            assert_eq!(*told.borrow(), [expected, expected]);
            Ok(())
        })
        .await
    });
}

#[trine::test(kernel = "both")]
fn a_handler_that_fails_ends_its_connection_and_no_other() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let told = Rc::new(RefCell::new(Vec::new()));
        let listening = Rc::clone(&told);
        let server = Serve::new(10).on_trouble(move |trouble| {
            if let Trouble::Connection { peer: Peer::Internet(peer), .. } = &trouble {
                listening.borrow_mut().push((*peer, trouble.to_string()));
            }
        });
        let serving =
            server.run(&listener, async |stream: TcpStream, _peer| match stream.recv().await? {
                Some(request) if *request == *b"fail" => Err(Error::other("as you like")),
                _ => echo(stream).await,
            });
        beside(serving, async || {
            let good = TcpStream::connect_addr(address).await?;
            good.write_all("begin").await?;
            let bad = TcpStream::connect_addr(address).await?;
            let bad_address = bad.local_addr()?;
            bad.write_all("fail").await?;
            assert!(bad.recv().await?.is_none(), "it was closed");
            ask(&good, "still there?").await?;
            let expected = format!("the connection with {bad_address}: as you like");
            assert_eq!(*told.borrow(), [(bad_address, expected)]);
            good.close().await
        })
        .await
    });
}

// Without a descriptor to be had it waits for better times, says so, and takes the connection then.
#[trine::test(kernel = "sim")]
async fn where_no_descriptor_is_left_it_tries_again_after_a_while() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let told = Rc::new(Cell::new(0));
    let listening = Rc::clone(&told);
    let server = Serve::new(10).on_trouble(move |trouble| {
        assert!(trouble.to_string().starts_with("cannot take connections: "), "{trouble}");
        assert!(trouble.to_string().ends_with("; trying again in 100ms"), "{trouble}");
        listening.set(listening.get() + 1);
    });
    let serving = server.run(&listener, async |stream, _peer| echo(stream).await);
    beside(serving, async || {
        let client = TcpStream::connect_addr(address).await?;
        ask(&client, "before").await?;
        let late = TcpStream::connect_addr(address).await?;
        ask(&late, "also before").await?;
        let world = World::current();
        let client_from_outside = {
            world.limit_descriptors(world.census().descriptors);
            world.connect(address)?
        };
        let began = Instant::now();
        sleep(350 * MS).await?;
        assert_eq!(told.get(), 4, "at once and then three times");
        world.limit_descriptors(1 << 20);
        sleep(100 * MS).await?;
        client_from_outside.send(b"hello")?;
        sleep(MS).await?;
        let mut answer = [0; 8];
        assert_eq!((client_from_outside.receive(&mut answer)?, &answer[..5]), (5, &b"hello"[..]));
        assert!(began.elapsed() >= 400 * MS);
        drop(client_from_outside);
        client.close().await?;
        late.close().await
    })
    .await
}

#[trine::test(kernel = "both")]
fn a_cancelled_server_ends_all_connections() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let scope = CancelScope::new();
        nursery(async |n| {
            n.spawn(async {
                let serving = scope
                    .run(async |_| serve(&listener, 3, async |stream, _| echo(stream).await).await);
                assert!(serving.await?.is_none());
                Ok(())
            });
            let client = TcpStream::connect_addr(address).await?;
            ask(&client, "there?").await?;
            scope.cancel();
            assert!(client.recv().await?.is_none());
            Ok(())
        })
        .await?;
        // Without room for anybody it waits, and is ended all the same.
        let nobody = move_on_after(MS, async |_| serve(&listener, 0, async |_, _| Ok(())).await);
        assert!(nobody.await?.is_none());
        checkpoint().await
    });
}

// The doc of `serve`: several listeners share the limit, and each has its turn.
#[trine::test(kernel = "both", runs = 5)]
fn several_listeners_are_served_together() {
    const CLIENTS: usize = fewer(30, 5);
    run(async || {
        for limit in [1, 4] {
            let listeners = TcpListener::builder().bind_all(Address::any(0)).await?;
            let more = [TcpListener::bind("127.0.0.1:0").await?];
            let listeners: Vec<TcpListener> = listeners.into_iter().chain(more).collect();
            let to: Vec<_> =
                listeners.iter().map(|one| one.local_addr()).collect::<Result<_, _>>()?;
            let (here, most, served) = (Cell::new(0), Cell::new(0), Cell::new(0));
            let serving = serve(&listeners, limit, async |stream, _| {
                here.set(here.get() + 1);
                most.set(most.get().max(here.get()));
                let end = echo(stream).await;
                here.set(here.get() - 1);
                served.set(served.get() + 1);
                end
            });
            beside(serving, async || {
                nursery(async |n| {
                    for &to in to.iter().cycle().take(CLIENTS * to.len()) {
                        n.spawn(async move {
                            let client = TcpStream::connect(to).await?;
                            ask(&client, "which one?").await?;
                            client.close().await
                        });
                    }
                    Ok(())
                })
                .await
            })
            .await?;
            assert_eq!((here.get(), served.get()), (0, CLIENTS * to.len()));
            assert!((1..=limit).contains(&most.get()), "{} at a time", most.get());
        }
        Ok(())
    });
}

// A listener with a crowd before it does not keep the other one from being heard.
#[trine::test(kernel = "both")]
fn a_crowd_at_one_listener_does_not_shut_out_the_other() {
    run(async || {
        let bind = async || TcpListener::bind("127.0.0.1:0").await;
        let listeners = [bind().await?, bind().await?];
        let (crowded, quiet) = (listeners[0].local_addr()?, listeners[1].local_addr()?);
        let order = RefCell::new(Vec::new());
        let mut clients = Vec::new();
        for to in [crowded; 5].into_iter().chain([quiet]) {
            clients.push(TcpStream::connect(to).await?);
        }
        let serving = serve(&listeners, 1, async |stream, _| {
            order.borrow_mut().push(stream.local_addr()?);
            stream.close().await
        });
        beside(serving, async || {
            for client in &clients {
                assert!(client.recv().await?.is_none());
            }
            Ok(())
        })
        .await?;
        let at = order.borrow().iter().position(|to| *to == quiet).expect("it was heard");
        assert!(at <= 2, "{at} of the crowd before it");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn no_listener_at_all_is_an_error_and_no_hang() {
    run(async || {
        let nobody: [TcpListener; 0] = [];
        let error = serve(&nobody, 1, async |_, _| Ok(())).await.unwrap_err();
        assert_eq!(error.io_kind(), Some(std::io::ErrorKind::InvalidInput));
        Ok(())
    });
}
