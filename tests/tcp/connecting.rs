//! Connecting by name, from an address of one's own, and who looks names up. The schedules of several
//! attempts are in `testing/eyeballs.rs`.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures::poll;
use trine::net::{Address, TcpListener, TcpStream, look_up, set_resolver};
use trine::testing::World;
use trine::time::sleep_forever;
use trine::{CancelScope, Error, Result, fail_after, move_on_after, nursery, stats, thread};

use super::common::turns;
use super::{HERE, LONG, MOMENT, Silent, descriptors, has_ipv6, run, run_alone};

// The docs of `connect` and of `Address`.
#[trine::test(kernel = "both", runs = 5)]
fn a_stream_connects_to_addresses_and_names_of_every_form() {
    run_alone(async || {
        let listener = TcpListener::bind(HERE).await?;
        let to = listener.local_addr()?;
        let port = to.port();
        let forms: [Address; 7] = [
            to.into(),
            (to.ip(), port).into(),
            ("127.0.0.1", port).into(),
            ("localhost", port).into(),
            to.to_string().into(),
            format!("localhost:{port}").into(),
            vec![to].into(),
        ];
        for form in forms {
            let client = TcpStream::connect(form.clone()).await?;
            assert_eq!(client.peer_addr()?, to, "{form}");
            assert!(client.nodelay()?, "{form}");
            assert_eq!(listener.accept().await?.1, client.local_addr()?, "{form}");
        }
        Ok(())
    });
}

// The doc of `connect`, and STYLE: an error says what was wrong.
#[trine::test(kernel = "both", runs = 5)]
fn where_nobody_listens_the_error_names_the_address_and_no_descriptor_is_left() {
    run_alone(async || {
        let [one, two] = [nobody().await?, nobody().await?];
        let before = descriptors();
        let error = TcpStream::connect(one).await.unwrap_err();
        assert_eq!(error.io_kind(), Some(ErrorKind::ConnectionRefused));
        let refused = "Connection refused (os error 111)";
        assert_eq!(error.to_string(), format!("cannot connect to {one}: {refused}"));
        assert_eq!(descriptors(), before);
        let error = TcpStream::connect([one, two]).await.unwrap_err();
        assert_eq!(error.io_kind(), Some(ErrorKind::ConnectionRefused));
        assert_eq!(descriptors(), before);
        let Error::Group(group) = error else { panic!("two errors: {error}") };
        let said: Vec<_> = group.errors().iter().map(Error::to_string).collect();
        assert_eq!(said, [one, two].map(|to| format!("cannot connect to {to}: {refused}")));
        let name = format!("localhost:{}", one.port());
        let error = TcpStream::connect(&*name).await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("cannot connect to {name} at {one}: {refused}")),
            "{error}"
        );
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

/// An address at which nobody listens.
async fn nobody() -> Result<SocketAddr> {
    let listener = TcpListener::bind(HERE).await?;
    let address = listener.local_addr()?;
    listener.close().await?;
    Ok(address)
}

// An address that is none says so, and so does an empty list.
#[trine::test(kernel = "both")]
fn what_is_no_address_is_refused_before_anything_is_done() {
    run_alone(async || {
        let (before, submitted) = (descriptors(), stats().submitted);
        for nonsense in ["", "localhost", ":80", "localhost:http", "::1:80"] {
            let error = TcpStream::connect(nonsense).await.unwrap_err();
            assert_eq!(error.io_kind(), Some(ErrorKind::InvalidInput), "{nonsense:?}");
            assert!(
                error.to_string().starts_with(&format!("{nonsense:?} is no address")),
                "{error}"
            );
        }
        let error = TcpStream::connect(Vec::new()).await.unwrap_err();
        assert_eq!(error.io_kind(), Some(ErrorKind::NotFound));
        assert_eq!((descriptors(), stats().submitted), (before, submitted));
        Ok(())
    });
}

// RFC 8305: a silent address costs the delay, and its attempt is closed when the other one answers.
#[trine::test(kernel = "both", runs = 5)]
fn beside_an_address_that_does_not_answer_the_next_one_is_tried() {
    run_alone(async || {
        let silent = Silent::listen().await?;
        let listener = TcpListener::bind(HERE).await?;
        let both = [silent.address(), listener.local_addr()?];
        let before = (descriptors(), stats().in_kernel);
        let client = TcpStream::builder().delay(MOMENT).connect(both).await?;
        assert_eq!(client.peer_addr()?, listener.local_addr()?);
        assert_eq!((descriptors(), stats().in_kernel), (before.0 + 1, before.1));
        client.close().await
    });
}

// A8: in a cancelled scope nothing is opened, and no name is looked up.
#[trine::test(kernel = "both")]
fn in_a_cancelled_scope_no_name_is_connected_to() {
    run_alone(async || {
        let to = TcpListener::bind(HERE).await?.local_addr()?;
        set_resolver(async |_: &str, _| panic!("a name is looked up"))?;
        let (before, submitted) = (descriptors(), stats().submitted);
        for address in [Address::from(to), "localhost:80".into(), [to, to].into()] {
            let scope = CancelScope::new();
            scope.cancel();
            let connected = scope.run(async |_| match poll!(pin!(TcpStream::connect(address))) {
                Poll::Ready(connected) => connected,
                Poll::Pending => panic!("something was begun"),
            });
            assert!(connected.await?.is_none());
        }
        assert_eq!(descriptors(), before);
        assert_eq!(stats().submitted, submitted);
        Ok(())
    });
}

// D2: terminal. Cancelled or dropped, every attempt is closed by the time that the scope returns (E11).
#[trine::test(kernel = "both", runs = 5)]
fn attempts_that_are_cancelled_or_dropped_are_closed() {
    run_alone(async || {
        let silent = Silent::listen().await?;
        let connect = |addresses| {
            let builder = TcpStream::builder().delay(Duration::ZERO);
            builder.connect(vec![silent.address(); addresses])
        };
        let before = (descriptors(), stats().in_kernel);
        for addresses in 1..4 {
            let connected = move_on_after(MOMENT, async |_| connect(addresses).await).await?;
            assert!(connected.is_none());
            assert_eq!((descriptors(), stats().in_kernel), before);
        }
        for dropped_after in 0..12 {
            nursery(async |_| {
                let mut connect = Box::pin(connect(1 + dropped_after % 3));
                for _ in 0..dropped_after {
                    assert!(poll!(&mut connect).is_pending());
                    turns(1).await;
                }
                Ok(())
            })
            .await?;
            assert_eq!((descriptors(), stats().in_kernel), before);
        }
        Ok(())
    });
}

// D4: connected is connected, and the cancellation waits for the next cancel point.
#[trine::test(kernel = "both")]
fn a_winner_is_not_cancelled_after_all() {
    run(async || {
        let listener = TcpListener::bind(HERE).await?;
        let to = [listener.local_addr()?; 2];
        let scope = CancelScope::new();
        let connected = scope.run(async |scope| {
            let mut connect = pin!(TcpStream::connect(to));
            let before = stats().submitted;
            while stats().submitted == before {
                assert!(poll!(connect.as_mut()).is_pending());
                turns(2).await;
            }
            scope.cancel();
            let stream = connect.await?;
            assert!(stream.recv().await.unwrap_err().is_cancelled());
            Ok(stream)
        });
        let stream = connected.await?.expect("a body that finished is finished");
        stream.write_all("good").await?;
        assert_eq!(listener.accept().await?.0.recv().await?.unwrap(), *b"good");
        Ok(())
    });
}

// D4: terminal. An attempt that has left the scope whose cancellation ended it is not made again.
#[trine::test(kernel = "both", runs = 5)]
fn a_connect_that_has_left_the_cancelled_scope_has_failed() {
    run_alone(async || {
        let silent = Silent::listen().await?;
        let before = descriptors();
        let mut connect = Box::pin(TcpStream::connect(silent.address()));
        let scope = CancelScope::new();
        let left = scope.run(async |scope| {
            while stats().in_kernel == 0 {
                assert!(poll!(&mut connect).is_pending());
                turns(1).await;
            }
            scope.cancel();
            Ok(())
        });
        left.await?;
        let error = connect.as_mut().await.unwrap_err();
        assert_eq!(error.io_kind(), Some(ErrorKind::ConnectionAborted));
        drop(connect);
        turns(2).await;
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

// The doc of `local_address`. All of 127/8 is this machine's.
#[trine::test(kernel = "both")]
fn a_stream_connects_from_the_address_that_it_was_told() {
    run_alone(async || {
        let listener = TcpListener::bind(HERE).await?;
        let to = listener.local_addr()?;
        let from = IpAddr::from([127, 0, 0, 2]);
        let [one, two] = [(); 2].map(|()| TcpStream::builder().local_address(from).connect(to));
        let (one, two) = (one.await?, two.await?);
        assert_eq!((one.local_addr()?.ip(), two.local_addr()?.ip()), (from, from));
        assert_ne!(one.local_addr()?.port(), two.local_addr()?.port());
        assert_eq!(listener.accept().await?.1, one.local_addr()?);
        assert_eq!(listener.accept().await?.1, two.local_addr()?);
        Ok(())
    });
}

// Trio: test_open_tcp_stream_local_address. The other family is passed over; what is left is tried.
#[trine::test(kernel = "both")]
fn a_local_address_that_does_not_fit_is_an_error_that_says_so() {
    run_alone(async || {
        let listener = TcpListener::bind(HERE).await?;
        let to = listener.local_addr()?;
        let v6: SocketAddr = (IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), to.port()).into();
        let from = |ip: &str| TcpStream::builder().local_address(ip.parse().unwrap());
        let error = from("::1").connect(to).await.unwrap_err();
        let text = format!("cannot connect to {to}: the local address ::1 is of the other family");
        assert_eq!(error.to_string(), text);
        let stream = from("127.0.0.1").connect([v6, to]).await?;
        assert_eq!(stream.peer_addr()?, to);
        // An address for documentation, which nobody has; a simulated machine has every address.
        if World::try_current().is_none() {
            let error = from("192.0.2.1").connect(to).await.unwrap_err();
            assert_eq!(error.io_kind(), Some(ErrorKind::AddrNotAvailable));
            let said = error.to_string();
            assert!(said.contains("the local address 192.0.2.1 cannot be used"), "{said}");
        }
        if has_ipv6() {
            let listener = TcpListener::bind("[::1]:0").await?;
            let stream = from("::1").connect(listener.local_addr()?).await?;
            assert!(stream.local_addr()?.ip().is_loopback());
        }
        Ok(())
    });
}

// The doc of `set_resolver`: it looks up every name of its run, also for listeners, and nothing else.
#[trine::test(kernel = "both")]
fn names_are_looked_up_by_whom_the_run_was_told() {
    let asked = Rc::new(RefCell::new(Vec::new()));
    run_alone(async || {
        let note = Rc::clone(&asked);
        set_resolver(async move |host: &str, port| {
            note.borrow_mut().push((host.to_owned(), port));
            match host {
                "here" => Ok(vec![(Ipv4Addr::LOCALHOST, port).into()]),
                "nowhere" => Ok(Vec::new()),
                _ => look_up(host, port).await,
            }
        })?;
        let listener = TcpListener::bind("here:0").await?;
        let port = listener.local_addr()?.port();
        TcpStream::connect(("here", port)).await?;
        TcpStream::connect(("localhost", port)).await?;
        TcpStream::connect(("127.0.0.1", port)).await?;
        let error = TcpStream::connect("nowhere:1").await.unwrap_err();
        assert_eq!(error.to_string(), "there is no address for nowhere:1");
        let asked = asked.take();
        let asked: Vec<_> = asked.iter().map(|(host, port)| (&**host, *port)).collect();
        assert_eq!(asked, [("here", 0), ("here", port), ("localhost", port), ("nowhere", 1)]);
        Ok(())
    });
    run_alone(async || {
        let to = nobody().await?;
        let error = TcpStream::connect(("localhost", to.port())).await.unwrap_err();
        assert_eq!(error.io_kind(), Some(ErrorKind::ConnectionRefused));
        assert!(asked.borrow().is_empty(), "another run was told nothing");
        Ok(())
    });
}

// RFC 4007: a link-local address comes with its interface, by name.
#[test]
fn an_interface_in_an_address_is_looked_up() {
    run(async || {
        if has_ipv6() {
            let found = Address::from("[fe80::1%lo]:80").resolve().await?;
            assert!(matches!(found[..], [SocketAddr::V6(v6)] if v6.scope_id() != 0), "{found:?}");
        }
        Ok(())
    });
}

// D2: a look-up that is cancelled has done nothing.
#[trine::test(kernel = "both")]
fn a_look_up_that_takes_too_long_can_be_cancelled() {
    run_alone(async || {
        set_resolver(async |_: &str, _| sleep_forever().await.map(|_| Vec::new()))?;
        let before = descriptors();
        let connect = async |_: &_| TcpStream::connect("example.org:80").await;
        assert!(move_on_after(MOMENT, connect).await?.is_none());
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

// The doc of `look_up`: where nobody answers other work does not wait, nor the other way round.
#[test]
fn looking_names_up_takes_no_token_of_other_work_in_threads() {
    run(async || {
        let limiter = thread::limiter()?;
        limiter.set_total(1);
        let _busy = limiter.acquire().await?;
        fail_after(LONG, async |_| look_up("localhost", 80).await).await?;
        Ok(())
    });
}

// The doc of `bind_all`: Trio's `open_tcp_listeners`.
#[trine::test(kernel = "both")]
fn every_address_of_this_machine_is_listened_at() {
    run_alone(async || {
        let listeners = TcpListener::builder().bind_all(Address::any(0)).await?;
        let families: Vec<_> = addresses(&listeners).iter().map(SocketAddr::is_ipv4).collect();
        if has_ipv6() {
            assert_eq!(families, [true, false]);
        }
        for listener in &listeners {
            let to = listener.local_addr()?;
            let client = TcpStream::connect(to).await?;
            assert!(client.peer_addr()?.ip().is_loopback());
            assert_eq!(listener.accept().await?.1, client.local_addr()?);
        }
        Ok(())
    });
}

fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

// The same: either all are listened at or none.
#[trine::test(kernel = "both")]
fn when_one_address_cannot_be_listened_at_none_is() {
    run_alone(async || {
        let taken = TcpListener::bind(HERE).await?;
        let free = nobody().await?;
        let before = descriptors();
        let both = [free, taken.local_addr()?];
        let error = TcpListener::builder().bind_all(both).await.unwrap_err();
        assert_eq!(error.io_kind(), Some(ErrorKind::AddrInUse));
        assert_eq!(descriptors(), before);
        // At once, so that it can be tried again.
        let listeners = TcpListener::builder().bind_all(free).await?;
        assert_eq!(addresses(&listeners), [free]);
        Ok(())
    });
}

// Trio: test_open_tcp_listeners_some_address_families_unavailable.
#[trine::test]
fn a_machine_without_ipv6_listens_at_the_rest() {
    run_alone(async || {
        World::current().refuse_ipv6(true);
        let listeners = TcpListener::builder().bind_all(Address::any(0)).await?;
        assert!(matches!(addresses(&listeners)[..], [SocketAddr::V4(_)]));
        let v6: SocketAddr = "[::]:0".parse().unwrap();
        let error = TcpListener::builder().bind_all(v6).await.unwrap_err();
        assert_eq!(super::errno(&error), 97, "EAFNOSUPPORT, if nothing is left");
        Ok(())
    });
}
