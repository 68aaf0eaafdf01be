//! Errors on their way out: several at once, other types, and conversions (M4, E3, E4).

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use trine::generic;
use trine::net::TcpStream;
use trine::time::{Instant, sleep_forever};
use trine::{
    CancelScope, Cancelled, Error, Reason, Result, Unwind, checkpoint, move_on_after, nop, nursery,
    shield,
};

use crate::{LONG, MOMENT, common, pair, run};

// M4: the first real one leads, the others stay attached, no `Cancelled` masks any.
#[trine::test(kernel = "both")]
fn real_errors_come_out_in_order_and_without_the_cancellations_they_caused() {
    run(async || {
        let ended = nursery(async |n| {
            n.spawn(async {
                let cancelled = sleep_forever().await;
                // Clean-up that fails says more than that it was cancelled.
                assert!(cancelled.is_err());
                Err(Error::other("second"))
            });
            n.spawn(async { sleep_forever().await });
            n.spawn(async {
                checkpoint().await?;
                Err(Error::other("first"))
            });
            n.spawn(async {
                let _cancelled = sleep_forever().await;
                shield(async {
                    checkpoint().await?;
                    Err(Error::other("third"))
                })
                .await
            });
            sleep_forever().await
        });
        let Err(Error::Group(group)) = ended.await else { panic!("a group") };
        let names: Vec<_> = group.errors().iter().map(Error::to_string).collect();
        assert_eq!(names, ["first", "second", "third"]);
        assert_eq!(group.lead().to_string(), "first");
        assert!(group.source().is_none(), "what is attached is not the cause");
        Ok(())
    });
}

// M4: a real error beats the cancellation around it, on its whole way out.
#[trine::test(kernel = "both")]
fn a_cancellation_never_masks_a_real_error() {
    run(async || {
        let failed = move_on_after(MOMENT, async |_| {
            nursery(async |n| {
                n.spawn(async { sleep_forever().await });
                let _cancelled = sleep_forever().await;
                Err::<(), _>(Error::from(io::Error::from_raw_os_error(libc::EIO)))
            })
            .await
        });
        let error = failed.await.unwrap_err();
        assert!(matches!(&error, Error::Io(io) if io.raw_os_error() == Some(libc::EIO)), "{error}");
        Ok(())
    });
}

/// What a library does that knows nothing of trine's error.
async fn through_io_error() -> io::Result<()> {
    sleep_forever().await?;
    Ok(())
}

/// And one that knows nothing of errors at all.
async fn through_a_box() -> Result<(), Box<dyn StdError + Send + Sync>> {
    through_io_error().await?;
    Ok(())
}

// E2, M4: a cancellation that went through other types is still one when it reaches its scope.
#[trine::test(kernel = "both")]
fn a_cancellation_survives_other_error_types_on_its_way_to_the_scope() {
    run(async || {
        let io = move_on_after(MOMENT, async |_| {
            let error = through_io_error().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Other, "loops retry on `Interrupted`");
            Err::<(), _>(Error::from(error))
        });
        assert!(io.await?.is_none());
        let boxed = move_on_after(MOMENT, async |_| Ok(through_a_box().await?));
        assert!(boxed.await?.is_none());
        let wrapped = move_on_after(MOMENT, async |_| {
            Ok(through_io_error().await.map_err(io::Error::other)?)
        });
        assert!(wrapped.await?.is_none());
        Ok(())
    });
}

// The twins: everything with `io::Error`, down to the run.
#[trine::test(kernel = "both")]
fn the_generic_twins_absorb_a_cancellation_inside_an_io_error() {
    let ended = common::within(10, || {
        generic::run(async || -> io::Result<u32> {
            let (client, server) = pair().await?;
            let left = generic::move_on_after(MOMENT, async |_| through_io_error().await);
            assert!(left.await?.is_none());
            let left = generic::move_on_at(Instant::now() + MOMENT, async |_| {
                through_io_error().await.map_err(io::Error::other)
            });
            assert!(left.await?.is_none(), "under one more `io::Error`");
            let scope = CancelScope::new();
            let left = generic::run_scope(&scope, async |scope| -> io::Result<()> {
                scope.cancel();
                server.write_all("never").await?;
                Ok(())
            });
            assert!(left.await?.is_none(), "out of a `BufError`");
            assert!(scope.caught());
            let left = generic::shield_for(MOMENT, async |_| through_io_error().await);
            assert!(left.await?.is_none());
            let joined = generic::nursery(async |n| -> io::Result<u32> {
                n.spawn(through_io_error());
                let value = n.fork(async { Ok(nop().await.map(|()| 4)?) });
                let value = value.await?;
                n.finish(value + 3);
                Ok(0)
            });
            let joined = joined.await?;
            client.close().await?;
            Ok(joined)
        })
    });
    assert_eq!(ended.unwrap(), 7);
}

// E9, E3 for `io::Error`.
#[trine::test(kernel = "both")]
fn the_generic_twins_say_timed_out_and_keep_real_errors() {
    let ended = common::within(10, || {
        generic::run(async || -> io::Result<()> {
            let slow = generic::fail_after(MOMENT, async |_| through_io_error().await).await;
            assert_eq!(slow.as_ref().unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!(matches!(Error::from(slow.unwrap_err()), Error::TooSlow(_)));
            let slow = generic::fail_at(Instant::now(), async |_| through_io_error().await).await;
            assert_eq!(slow.unwrap_err().kind(), io::ErrorKind::TimedOut);
            let mixed = generic::move_on_after(LONG, async |scope| -> io::Result<()> {
                generic::nursery(async |n| -> io::Result<()> {
                    n.spawn(through_io_error());
                    n.spawn(async move {
                        checkpoint().await?;
                        scope.cancel();
                        Err(io::Error::from_raw_os_error(libc::ENOSPC))
                    });
                    through_io_error().await
                })
                .await
            });
            let mixed = mixed.await.unwrap_err();
            assert_eq!(mixed.raw_os_error(), Some(libc::ENOSPC), "{mixed:?}");
            Err(mixed)
        })
    });
    assert_eq!(ended.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
}

/// A program's own error, with layers of context.
#[derive(Debug)]
enum Trouble {
    Trine(Error),
    While(&'static str, Box<Trouble>),
    Several(Vec<Trouble>),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Trine(error)
    }
}

impl From<Cancelled> for Trouble {
    fn from(cancelled: Cancelled) -> Self {
        Trouble::Trine(cancelled.into())
    }
}

impl Unwind for Trouble {
    fn cancelled(&self) -> Option<&Cancelled> {
        match self {
            Trouble::Trine(error) => error.cancelled(),
            Trouble::While(_, inner) => inner.cancelled(),
            Trouble::Several(_) => None,
        }
    }

    fn gather(mut errors: Vec<Self>) -> Self {
        if errors.len() == 1 { errors.remove(0) } else { Trouble::Several(errors) }
    }

    fn scatter(self) -> Vec<Self> {
        match self {
            Trouble::Several(errors) => errors,
            error => vec![error],
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Trine(error) => write!(f, "{error}"),
            Trouble::While(what, inner) => write!(f, "{what}: {inner}"),
            Trouble::Several(errors) => errors.iter().try_for_each(|error| write!(f, "[{error}]")),
        }
    }
}

// E2, E3, E4 for a type of the program's own.
#[trine::test(kernel = "both")]
fn errors_of_the_programs_own_unwind_like_ours() {
    let context = |what| move |error: Error| Trouble::While(what, Box::new(error.into()));
    let ended = common::within(10, || {
        generic::run(async || {
            let left = generic::move_on_after(MOMENT, async |_| {
                sleep_forever().await.map_err(context("reading"))
            });
            assert!(left.await?.is_none(), "context around a cancellation is no error");
            generic::nursery(async |n| {
                for name in ["disk", "net"] {
                    n.spawn(async move { Err(Error::other(name)).map_err(context("writing")) });
                }
                n.spawn(async move { sleep_forever().await.map_err(context("waiting")) });
                Ok(())
            })
            .await
        })
    });
    let error: Trouble = ended.unwrap_err();
    assert_eq!(error.to_string(), "[writing: disk][writing: net]");
}

// E4, M4: run hands out what main returned, whatever type that is.
#[trine::test(kernel = "both")]
#[cfg_attr(miri, ignore = "sockets of the standard library")]
fn a_run_returns_the_errors_of_its_main_as_they_are() {
    let group = trine::run(async || {
        nursery(async |n| {
            n.spawn(async { Err(Error::other("a")) });
            n.spawn(async { Err(Error::other("b")) });
            Ok(())
        })
        .await
    });
    assert_eq!(group.unwrap_err().to_string(), "a; also (2 of 2): b");
    let refused = generic::run(async || -> io::Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        drop(listener);
        TcpStream::connect_addr(address).await?;
        Ok(())
    });
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let slow = trine::run(async || {
        trine::fail_after(Duration::ZERO, async |_| sleep_forever().await).await
    });
    assert!(
        slow.unwrap_err().to_string().starts_with("took too long: the deadline of the scope at")
    );
}

// B8, L4: the only way to a `Cancelled` is to be cancelled; it can be kept, and says why for ever.
#[trine::test(kernel = "both")]
fn a_kept_cancellation_remembers_its_reason_after_the_run() {
    let kept = Cell::new(None);
    run(async || {
        let left = move_on_after(LONG, async |scope| {
            scope.cancel_because("kept");
            let error = sleep_forever().await.unwrap_err();
            kept.set(error.cancelled().cloned());
            Err::<(), _>(error)
        });
        assert!(left.await?.is_none());
        Ok(())
    });
    let kept: Cancelled = kept.take().expect("cancelled");
    assert!(
        matches!(kept.reason(), Reason::Explicit { because: Some(why), .. } if &**why == "kept")
    );
    assert!(Error::from(kept).is_cancelled());
}
