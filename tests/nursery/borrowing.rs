//! Children borrow whatever lives outside of the nursery call (N15). Most of this is tested by
//! compiling.

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use trine::net::{TcpListener, TcpStream};
use trine::time::{Instant, sleep};
use trine::{
    Child, Error, Nursery, Result, Unwind, checkpoint, generic, move_on_after, nursery, stats,
};

use crate::{LONG, MOMENT, run, sorted};

/// Something that happens once.
#[derive(Default)]
struct Event {
    happened: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Event {
    fn set(&self) {
        self.happened.set(true);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    async fn wait(&self) -> Result {
        poll_fn(|cx| {
            if self.happened.get() {
                return Poll::Ready(Ok(()));
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// Happy eyeballs, the litmus test: concurrent, staggered, first one wins, nothing left behind.
async fn connect(targets: &[SocketAddr], stagger: Duration) -> Result<Option<TcpStream>> {
    let failed: Vec<Event> = targets.iter().map(|_| Event::default()).collect();
    nursery(async |n| {
        for (i, &addr) in targets.iter().enumerate() {
            if i > 0 {
                move_on_after(stagger, async |_| failed[i - 1].wait().await).await?;
            }
            let failed = &failed[i];
            n.spawn(async move {
                match TcpStream::connect_addr(addr).await {
                    Ok(stream) => n.finish(Some(stream)),
                    Err(_) => failed.set(),
                }
                Ok(())
            });
        }
        Ok(None)
    })
    .await
}

// N15, N7: the program of the design, on real sockets. A target that refuses starts the next at once.
#[trine::test(kernel = "both")]
fn happy_eyeballs_takes_the_first_that_answers() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let closed = TcpListener::bind("127.0.0.1:0").await?;
        let (open, refusing) = (listener.local_addr()?, closed.local_addr()?);
        closed.close().await?;
        let stream = connect(&[refusing, refusing, open, refusing], LONG).await?;
        assert_eq!(stream.expect("connected").peer_addr()?, open);
        assert!(connect(&[refusing, refusing], LONG).await?.is_none());
        assert!(connect(&[], LONG).await?.is_none());
        assert_eq!(stats().in_kernel, 0);
        Ok(())
    });
}

/// The same with attempts that take their time.
async fn race(attempts: &[(Duration, bool)], stagger: Duration) -> Result<(Option<usize>, usize)> {
    let failed: Vec<Event> = attempts.iter().map(|_| Event::default()).collect();
    let begun = Cell::new(0);
    let won = nursery(async |n| {
        for (i, &(time, succeeds)) in attempts.iter().enumerate() {
            if i > 0 {
                move_on_after(stagger, async |_| failed[i - 1].wait().await).await?;
            }
            let (failed, begun) = (&failed[i], &begun);
            n.spawn(async move {
                begun.set(begun.get() + 1);
                sleep(time).await?;
                if succeeds {
                    n.finish(Some(i))
                } else {
                    failed.set()
                }
                Ok(())
            });
        }
        Ok(None)
    });
    Ok((won.await?, begun.get()))
}

// N15, F13: the stagger ends the wait for the event, and `finish` ends the one that is under way.
#[trine::test(kernel = "both")]
fn happy_eyeballs_staggers_its_attempts() {
    run(async || {
        let began = Instant::now();
        // The first hangs; the second begins after the stagger and wins; the third never begins.
        let attempts = [(LONG, true), (MOMENT, true), (LONG, true)];
        assert_eq!(race(&attempts[..2], MOMENT).await?, (Some(1), 2));
        let attempts = [(MOMENT, false), (MOMENT, true), (LONG, true)];
        assert_eq!(race(&attempts, LONG).await?, (Some(1), 2));
        let attempts = [(MOMENT, false), (MOMENT, false)];
        assert_eq!(race(&attempts, LONG).await?, (None, 2));
        assert!(began.elapsed() < LONG / 2);
        Ok(())
    });
}

/// The value borrows for `'a`, and children borrow a local.
async fn first(names: &[String]) -> Result<Option<&str>> {
    let gate = Event::default();
    nursery(async |n| {
        for name in names {
            let gate = &gate;
            n.spawn(async move {
                gate.wait().await?;
                n.finish(Some(name.as_str()));
                Ok(())
            });
        }
        checkpoint().await?;
        gate.set();
        Ok(None)
    })
    .await
}

// N15: a value that borrows and children that borrow a local do not exclude each other.
#[trine::test(kernel = "both")]
fn the_value_may_borrow_while_children_borrow_a_local() {
    run(async || {
        let names = vec!["alpha".to_owned(), "beta".to_owned()];
        assert_eq!(first(&names).await?, Some("alpha"));
        assert_eq!(first(&names[1..]).await?, Some("beta"));
        assert_eq!(first(&[]).await?, None);
        Ok(())
    });
}

/// A library function that spawns what it is given.
async fn greet(n: Nursery<'_, '_>, stream: TcpStream) -> Result {
    n.spawn(async move {
        stream.write_all("hello").await?;
        stream.close().await
    });
    checkpoint().await
}

/// One whose children borrow what the caller has.
fn serve<'s>(n: Nursery<'s, '_>, listener: &'s TcpListener, served: &'s Cell<u32>) {
    n.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await?;
            greet(n, stream).await?;
            served.set(served.get() + 1);
        }
    });
}

/// One that works in every nursery, whatever its value and its error are.
fn deliver<'s, T: 's, E: Unwind>(n: Nursery<'s, '_, T, E>, value: T, after: Duration) {
    n.spawn(async move {
        sleep(after).await?;
        n.finish(value);
        Ok(())
    });
}

// N15: helpers take the handle by value.
#[trine::test(kernel = "both")]
fn helper_functions_spawn_through_the_handle() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let served = Cell::new(0);
        nursery(async |n| {
            serve(n, &listener, &served);
            for _ in 0..3 {
                let client = TcpStream::connect_addr(listener.local_addr()?).await?;
                assert_eq!(client.recv().await?.expect("a greeting"), *b"hello");
                assert!(client.recv().await?.is_none());
            }
            n.cancel();
            Ok(())
        })
        .await?;
        assert_eq!(served.get(), 3);
        let text = "borrowed".to_owned();
        let found = nursery(async |n| {
            deliver(n, &text[..6], MOMENT);
            trine::time::sleep_forever().await?;
            Ok("")
        });
        assert_eq!(found.await?, "borrow");
        let found = generic::nursery(async |n| -> std::io::Result<u32> {
            deliver(n, 5, MOMENT);
            trine::time::sleep_forever().await?;
            Ok(0)
        });
        assert_eq!(found.await?, 5);
        Ok(())
    });
}

/// A service that keeps the handle.
struct Workers<'s, 'e, T: 'static> {
    n: Nursery<'s, 'e, T>,
    names: &'s RefCell<Vec<String>>,
    limit: usize,
}

impl<T> Workers<'_, '_, T> {
    fn add(&self, name: &str) -> bool {
        let name = name.to_owned();
        let names = self.names;
        if names.borrow().len() >= self.limit {
            return false;
        }
        self.n.spawn(async move {
            checkpoint().await?;
            names.borrow_mut().push(name);
            Ok(())
        });
        true
    }
}

// N15: the handle may be stored.
#[trine::test(kernel = "both")]
fn a_struct_may_keep_the_handle() {
    run(async || {
        let names = RefCell::default();
        let added = nursery(async |n| {
            let workers = Workers { n, names: &names, limit: 2 };
            let added = [workers.add("a"), workers.add("b")];
            while names.borrow().len() < 2 {
                checkpoint().await?;
            }
            Ok((added, workers.add("c")))
        });
        assert_eq!(added.await?, ([true, true], false));
        assert_eq!(sorted(names.take()), ["a", "b"]);
        Ok(())
    });
}

// N15: children borrow mutably, and afterwards everything is the caller's again.
#[trine::test(kernel = "both")]
fn children_borrow_mutably() {
    run(async || {
        let mut numbers = [1, 2, 3];
        let mut log = String::new();
        nursery(async |n| {
            for number in &mut numbers {
                n.spawn(async move {
                    checkpoint().await?;
                    *number *= 10;
                    Ok(())
                });
            }
            // One child has all of it, across its waits.
            n.spawn(async {
                for word in ["a", "b"] {
                    log.push_str(word);
                    checkpoint().await?;
                }
                Ok(())
            });
            Ok(())
        })
        .await?;
        numbers[0] += 1;
        log.push('c');
        assert_eq!((numbers, log.as_str()), ([11, 20, 30], "abc"));
        Ok(())
    });
}

#[derive(Default)]
struct Server {
    accepted: u32,
    sent: Vec<u32>,
}

impl Server {
    /// Two children with disjoint fields of one `&mut self`.
    async fn work(&mut self) -> Result<usize> {
        let Server { accepted, sent } = self;
        nursery(async |n| {
            n.spawn(async {
                for _ in 0..3 {
                    checkpoint().await?;
                    *accepted += 1;
                }
                Ok(())
            });
            n.spawn(async {
                for number in 0..3 {
                    checkpoint().await?;
                    sent.push(number);
                }
                Ok(())
            });
            Ok(())
        })
        .await?;
        Ok(self.sent.len())
    }
}

// N15: the fields of one's own struct, one child each.
#[trine::test(kernel = "both")]
fn children_share_the_fields_of_one_mutable_reference() {
    run(async || {
        let mut server = Server::default();
        assert_eq!(server.work().await?, 3);
        assert_eq!((server.accepted, server.sent), (3, vec![0, 1, 2]));
        Ok(())
    });
}

/// Counts the nodes of a tree, one child for each.
fn count<'s>(n: Nursery<'s, '_>, node: &'s Node, total: &'s Cell<u32>) {
    total.set(total.get() + 1);
    for below in &node.0 {
        n.spawn(async move {
            checkpoint().await?;
            count(n, below, total);
            Ok(())
        });
    }
}

struct Node(Vec<Node>);

fn tree(depth: u32) -> Node {
    Node((0..depth).map(|_| tree(depth - 1)).collect())
}

// N15: children spawn children that borrow the same things, without boxing anything.
#[trine::test(kernel = "both")]
fn children_recurse_through_a_helper() {
    run(async || {
        let (root, total) = (tree(4), Cell::new(0));
        nursery(async |n| {
            count(n, &root, &total);
            Ok(())
        })
        .await?;
        // 1 + 4 + 4·3 + 4·3·2 + 4·3·2·1
        assert_eq!(total.get(), 65);
        Ok(())
    });
}

// N15: an inner child uses the outer nursery, and borrows what the outer body may lend it.
#[trine::test(kernel = "both")]
fn an_inner_child_uses_the_outer_nursery() {
    run(async || {
        let told = RefCell::new(Vec::new());
        let told = &told;
        let value = nursery(async |outer| {
            nursery(async |inner| {
                let local = "a local of the outer body".to_owned();
                inner.spawn(async move {
                    told.borrow_mut().push(local.len());
                    outer.spawn(async move {
                        told.borrow_mut().push(1);
                        outer.finish("from within");
                        Ok(())
                    });
                    Ok(())
                });
                checkpoint().await
            })
            .await?;
            trine::time::sleep_forever().await?;
            Ok("")
        });
        assert_eq!(value.await?, "from within");
        assert_eq!(*told.borrow(), [25, 1]);
        Ok(())
    });
}

/// A body that is a function.
async fn body(n: Nursery<'_, '_, u32>) -> Result<u32> {
    n.spawn(async move {
        n.finish(1);
        Ok(())
    });
    trine::time::sleep_forever().await?;
    Ok(2)
}

/// What a nursery's body is when it is boxed.
type Boxed = Box<
    dyn for<'s, 'e> FnOnce(Nursery<'s, 'e, u32>) -> Pin<Box<dyn Future<Output = Result<u32>> + 's>>,
>;

/// In functions with other errors, `?` does.
async fn caller() -> std::result::Result<u32, Box<dyn StdError + Send + Sync>> {
    let value = nursery(async |n| {
        let child: Child<'_, u32> = n.fork(async { "5".parse().map_err(Error::other) });
        child.await
    });
    Ok(value.await?)
}

// N15: whatever a body may look like.
#[trine::test(kernel = "both")]
fn bodies_are_functions_or_boxed_and_callers_have_errors_of_their_own() {
    run(async || {
        assert_eq!(nursery(body).await?, 1);
        let boxed: Boxed = Box::new(|n| Box::pin(body(n)));
        assert_eq!(nursery(async |n| boxed(n).await).await?, 1);
        assert_eq!(caller().await?, 5);
        Ok(())
    });
}
