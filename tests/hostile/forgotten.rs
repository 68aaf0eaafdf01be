//! Every kind of future, polled so many times, forgotten, and everything around it dropped: that leaks,
//! and frees nothing early. Miri has the last word on it.

use std::future::Future;
use std::mem;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures::poll;
use trine::net::{TcpListener, TcpStream};
use trine::testing::{lockstep_stream_pair, wait_all_tasks_blocked};
use trine::time::{Instant, sleep, sleep_until};
use trine::{
    CancelScope, IoBuf, Result, checkpoint, fail_after, move_on_after, nop, nursery, shield,
    shield_for, yield_shielded,
};

use crate::common::{fewer, pair};

/// Kinds of futures.
const KINDS: usize = 24;
const SECOND: Duration = Duration::from_secs(1);

/// What is borrowed by the futures.
struct Objects {
    client: TcpStream,
    server: TcpStream,
    listener: TcpListener,
    scope: CancelScope,
}

type Boxed = Pin<Box<dyn Future<Output = Result>>>;

/// One future of each kind. They own shares in the objects, which their being forgotten keeps alive.
fn futures_of(objects: &Rc<Objects>) -> Vec<(&'static str, Boxed)> {
    macro_rules! with {
        ($o:ident => $future:expr) => {{
            let $o = Rc::clone(objects);
            Box::pin(async move {
                let _ = $future;
                Ok(())
            }) as Boxed
        }};
    }
    vec![
        ("nop", with!(_o => nop().await)),
        ("checkpoint", with!(_o => checkpoint().await)),
        ("yield_shielded", with!(_o => yield_shielded().await)),
        ("sleep", with!(_o => sleep(SECOND).await)),
        ("sleep_until", with!(_o => sleep_until(Instant::now() + SECOND).await)),
        ("recv", with!(o => o.server.recv().await)),
        ("read", with!(o => o.server.read(vec![0; 64]).await)),
        ("read_exact into a part", with!(o => o.server.read_exact(vec![0; 64].slice(8..32)).await)),
        ("write", with!(o => o.client.write(vec![7; 64]).await)),
        ("write_all", with!(o => o.client.write_all(vec![7; fewer(1 << 18, 1 << 13)]).await)),
        (
            "write_all of a box",
            with!(o => o.client.write_all(vec![7_u8; 9].into_boxed_slice()).await),
        ),
        ("shutdown", with!(o => o.client.shutdown(Shutdown::Write).await)),
        ("accept", with!(o => o.listener.accept().await)),
        ("connect", with!(o => TcpStream::connect_addr(o.listener.local_addr()?).await)),
        ("bind", with!(_o => TcpListener::bind("127.0.0.1:0").await)),
        ("scope", with!(o => o.scope.run(async |_| o.server.recv().await).await)),
        ("move_on_after", with!(o => move_on_after(SECOND, async |_| o.server.recv().await).await)),
        ("fail_after", with!(o => fail_after(SECOND, async |_| o.listener.accept().await).await)),
        ("shield", with!(o => shield(o.server.recv()).await)),
        ("shield_for", with!(o => shield_for(SECOND, async |_| o.server.recv().await).await)),
        (
            "nursery",
            with!(o => nursery(async |n| {
                n.spawn(async { o.server.recv().await.map(drop) });
                n.spawn_daemon(sleep(SECOND));
                n.fork(async { o.listener.accept().await.map(drop) }).await
            })
            .await),
        ),
        (
            "start",
            with!(o => nursery(async |n| {
                n.start(async |started| {
                    o.server.recv().await?;
                    started.set(());
                    Ok(())
                })
                .await
            })
            .await),
        ),
        ("quiet", with!(_o => wait_all_tasks_blocked().await)),
        (
            "lockstep",
            with!(_o => {
                let (left, _right) = lockstep_stream_pair();
                left.send_all(b"x").await
            }),
        ),
    ]
}

// F12: forgetting leaks; it never frees early, holds nobody up, and the run ends.
/// Futures of every kind, each as far as so many polls bring it.
fn forget_all(polls: usize) {
    for kind in 0..KINDS {
        for cancelled in [false, true] {
            forget(kind, polls, cancelled);
        }
    }
}

#[trine::test(kernel = "both", leaks = true)]
fn futures_of_every_kind_are_forgotten_before_they_are_polled() {
    forget_all(0);
}

#[trine::test(kernel = "both", leaks = true)]
fn futures_of_every_kind_are_forgotten_after_one_poll() {
    forget_all(1);
}

#[trine::test(kernel = "both", leaks = true)]
fn futures_of_every_kind_are_forgotten_after_two_polls() {
    forget_all(2);
}

#[trine::test(kernel = "both", leaks = true)]
fn futures_of_every_kind_are_forgotten_after_three_polls() {
    forget_all(3);
}

/// Forgets one future after so many polls, in a scope that is cancelled or not.
fn forget(kind: usize, polls: usize, cancelled: bool) {
    let outcome = trine::run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (client, server) = pair().await?;
        let objects = Rc::new(Objects { client, server, listener, scope: CancelScope::new() });
        let mut futures = futures_of(&objects);
        assert_eq!(futures.len(), KINDS);
        let (_name, mut future) = futures.swap_remove(kind);
        drop(futures);
        let scope = CancelScope::new();
        scope
            .run(async |scope| {
                for poll in 0..polls {
                    if poll == 1 && cancelled {
                        scope.cancel();
                    }
                    if poll!(future.as_mut()).is_ready() {
                        return Ok(());
                    }
                    yield_shielded().await;
                }
                mem::forget(future);
                Ok(())
            })
            .await?;
        drop(objects);
        Ok(())
    });
    outcome.unwrap();
}
