//! Options of sockets, as they are set and as they are read.

use std::fmt::Debug;
use std::io::ErrorKind;
use std::time::Duration;

use trine::Result;
use trine::net::option::{self, SocketOption};
use trine::net::{TcpListener, TcpStream};

use super::common::{Peer, pair};
use super::{HERE, has_ipv6, run, turns};

/// Sets an option and reads it again.
#[track_caller]
fn check<T: PartialEq + Debug>(
    stream: &TcpStream,
    option: impl Fn() -> SocketOption<T>,
    sets: impl IntoIterator<Item = (T, T)>,
) {
    for (set, got) in sets {
        stream.set_option(option(), set).unwrap();
        assert_eq!(stream.option(option()).unwrap(), got, "{:?}", option());
    }
}

fn same<T: Clone>(values: impl IntoIterator<Item = T>) -> Vec<(T, T)> {
    values.into_iter().map(|value| (value.clone(), value)).collect()
}

// The docs of the options: their units, and how they are rounded.
#[trine::test(kernel = "both")]
fn an_option_is_read_as_it_was_set() {
    run(async || {
        let (client, server) = pair().await?;
        let millis = Duration::from_millis;
        for stream in [&client, &server] {
            for flag in [|| option::NODELAY, || option::CORK, || option::KEEPALIVE] {
                check(stream, flag, same([false, true, false]));
            }
            let seconds = || {
                [(1, 1), (1000, 1), (1001, 2), (0, 1)].map(|(ms, s)| (millis(ms), millis(s * 1000)))
            };
            check(stream, || option::KEEPALIVE_IDLE, seconds());
            check(stream, || option::KEEPALIVE_INTERVAL, seconds());
            check(stream, || option::KEEPALIVE_COUNT, same([3, 127]));
            check(stream, || option::USER_TIMEOUT, same([None, Some(millis(1500)), None]));
            let little = Duration::from_micros(1);
            check(stream, || option::USER_TIMEOUT, [(Some(little), Some(millis(1)))]);
            check(stream, || option::NOTSENT_LOWAT, same([16 << 10, 1]));
            check(stream, || option::TTL, same([1, 255, 64]));
            check(stream, || option::TOS, same([0x10, 0]));
            check(stream, || option::CONGESTION, same(["reno".to_owned()]));
        }
        Ok(())
    });
}

// The doc of `RECEIVE_BUFFER`: the kernel takes twice as much.
#[trine::test(kernel = "both")]
fn a_buffer_is_twice_what_was_asked_for_up_to_a_limit() {
    run(async || {
        let (stream, _other) = pair().await?;
        for buffer in [|| option::RECEIVE_BUFFER, || option::SEND_BUFFER] {
            check(&stream, buffer, [(16 << 10, 32 << 10)]);
            stream.set_option(buffer(), u32::MAX)?;
            assert!(stream.option(buffer())? > 32 << 10);
        }
        Ok(())
    });
}

// What the kernel does not take is an error, and changes nothing.
#[trine::test(kernel = "both")]
fn a_value_that_will_not_do_is_refused() {
    run(async || {
        let (stream, _other) = pair().await?;
        let invalid = |set: std::io::Result<()>| set.unwrap_err().kind() == ErrorKind::InvalidInput;
        assert!(invalid(stream.set_option(option::TTL, 0)));
        assert!(invalid(stream.set_option(option::TTL, 256)));
        assert!(invalid(stream.set_option(option::KEEPALIVE_COUNT, 0)));
        assert!(invalid(stream.set_option(option::KEEPALIVE_IDLE, Duration::MAX)));
        let unknown = stream.set_option(option::CONGESTION, "prayer".to_owned());
        assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(stream.option(option::TTL)?, 64);
        // Of IPv6, on a connection of IPv4: ENOPROTOOPT, EOPNOTSUPP.
        let refused = stream.set_option(option::HOP_LIMIT, 3).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(92));
        let unread = stream.option(option::TRAFFIC_CLASS).unwrap_err();
        assert_eq!(unread.raw_os_error(), Some(95));
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_connection_of_ipv6_has_options_of_ipv6() {
    run(async || {
        if has_ipv6() {
            let listener = TcpListener::bind("[::1]:0").await?;
            let stream = TcpStream::connect(listener.local_addr()?).await?;
            check(&stream, || option::HOP_LIMIT, same([1, 64]));
            check(&stream, || option::TRAFFIC_CLASS, same([0x10, 0]));
        }
        Ok(())
    });
}

// The doc of the module: set before, and inherited by what is accepted.
#[trine::test(kernel = "both")]
fn options_are_set_by_the_builders_and_inherited() {
    run(async || {
        let listen = TcpListener::builder()
            .option(option::TTL, 7)
            .option(option::RECEIVE_BUFFER, 16 << 10)
            .option(option::FAST_OPEN, 5);
        let listener = listen.bind(HERE).await?;
        assert!(listener.option(option::REUSE_ADDRESS)? && !listener.option(option::REUSE_PORT)?);
        assert_eq!(listener.option(option::FAST_OPEN)?, 5);
        listener.set_option(option::TOS, 0x10)?;
        let connect = TcpStream::builder().option(option::TTL, 9).option(option::NODELAY, false);
        let client = connect.connect(listener.local_addr()?).await?;
        assert_eq!((client.option(option::TTL)?, client.nodelay()?), (9, false));
        let (server, _) = listener.accept().await?;
        assert_eq!(server.option(option::TTL)?, 7);
        assert_eq!(server.option(option::RECEIVE_BUFFER)?, 32 << 10);
        assert!(server.nodelay()?);
        Ok(())
    });
}

// An option that a builder cannot set is an error of the connect, before it has begun.
#[trine::test(kernel = "both")]
fn a_builder_says_which_connection_its_option_was_wrong_for() {
    run(async || {
        let to = TcpListener::bind(HERE).await?.local_addr()?;
        let connect = TcpStream::builder().option(option::TTL, 0).connect(to);
        let error = connect.await.unwrap_err();
        assert_eq!(error.io_kind(), Some(ErrorKind::InvalidInput));
        assert!(error.to_string().contains(&to.to_string()), "{error}");
        let error = TcpListener::builder().option(option::TTL, 0).bind(HERE).await.unwrap_err();
        assert_eq!(error.io_kind(), Some(ErrorKind::InvalidInput));
        Ok(())
    });
}

// The doc of `take_error`: once, and an operation does not report it again.
#[trine::test(kernel = "both")]
fn an_error_that_was_taken_is_not_reported_again() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        assert!(stream.take_error()?.is_none());
        peer.reset();
        let taken = loop {
            if let Some(error) = stream.take_error()? {
                break error;
            }
            turns(1).await;
        };
        assert_eq!(taken.kind(), ErrorKind::ConnectionReset);
        assert!(stream.take_error()?.is_none());
        assert!(stream.recv().await?.is_none(), "nothing is left but the end");
        Ok(()) as Result
    });
}
