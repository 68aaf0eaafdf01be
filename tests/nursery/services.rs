//! Services: children that outlive the others (rule N18, as for daemons, one step later).

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::net::TcpListener;
use trine::sync::unbounded;
use trine::time::{sleep, sleep_forever};
use trine::{CancelScope, Error, Reason, Result, checkpoint, idle, nursery, shield, stats, tree};

use crate::run;

/// Waits until it is cancelled, cleans up for a while, and notes that it has ended.
async fn ends(name: &'static str, ended: &RefCell<Vec<&'static str>>) -> Result {
    let error = sleep_forever().await;
    shield(sleep(Duration::from_millis(3))).await?;
    ended.borrow_mut().push(name);
    error
}

#[trine::test(kernel = "both")]
fn services_end_after_all_others_and_do_not_keep_the_nursery_open() {
    run(async || {
        let ended = &RefCell::new(Vec::new());
        nursery(async |n| {
            n.spawn_service(ends("service", ended));
            n.spawn_daemon(ends("daemon", ended));
            n.spawn_service(ends("service", ended));
            n.spawn(async {
                checkpoint().await?;
                ended.borrow_mut().push("child");
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert_eq!(*ended.borrow(), ["child", "daemon", "service", "service"]);
        Ok(())
    });
}

// However the nursery is cancelled, what others need to the last is there to the last.
#[trine::test(kernel = "both")]
fn in_a_cancelled_nursery_a_service_hears_the_others_out() {
    for how in 0..3 {
        run(async || {
            let (log, lines) = unbounded();
            let heard = RefCell::new(Vec::new());
            let reason = RefCell::new(None);
            let around = CancelScope::new();
            let outcome = around.run(async |around| {
                nursery(async |n| {
                    n.spawn_service(async {
                        loop {
                            match lines.recv().await {
                                Ok(line) => heard.borrow_mut().extend(line),
                                Err(error) => {
                                    // What came last.
                                    while let Ok(line) = lines.try_recv() {
                                        heard.borrow_mut().push(line);
                                    }
                                    let cancelled = error.cancelled().expect("nothing else");
                                    *reason.borrow_mut() = Some(cancelled.reason().clone());
                                    return Err(error);
                                }
                            }
                        }
                    });
                    for line in ["one", "two"] {
                        let log = &log;
                        n.spawn(async move {
                            let error = sleep_forever().await;
                            shield(sleep(Duration::from_millis(2))).await?;
                            log.try_send(line).expect("somebody listens");
                            error
                        });
                    }
                    checkpoint().await?;
                    match how {
                        0 => n.cancel(),
                        1 => around.cancel(),
                        _ => return Err(Error::other("of the body")),
                    }
                    sleep_forever().await
                })
                .await
            });
            match (how, outcome.await) {
                (0, Ok(Some(()))) | (1, Ok(None)) => {}
                (2, Err(error)) => assert_eq!(error.to_string(), "of the body"),
                (_, outcome) => panic!("{how}: {outcome:?}"),
            }
            heard.borrow_mut().sort_unstable();
            assert_eq!(*heard.borrow(), ["one", "two"]);
            assert_eq!(reason.take(), Some(Reason::Finished));
            Ok(())
        });
    }
}

#[trine::test(kernel = "both")]
fn a_service_that_fails_cancels_the_others_and_its_error_comes_out() {
    run(async || {
        let unwound = Cell::new(0);
        let outcome = nursery(async |n| {
            for _ in 0..2 {
                n.spawn(async {
                    let error = sleep_forever().await;
                    unwound.set(unwound.get() + 1);
                    error
                });
            }
            n.spawn_service(async {
                checkpoint().await?;
                Err(Error::other("of the service"))
            });
            Ok(())
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "of the service");
        assert_eq!(unwound.get(), 2);
        Ok(())
    });
}

// Who is spawned while the last ones end is waited for, and who serves is dismissed after that.
#[trine::test(kernel = "both")]
fn children_that_a_daemon_spawns_at_its_end_are_served_too() {
    run(async || {
        let ended = &RefCell::new(Vec::new());
        nursery(async |n| {
            n.spawn_service(ends("service", ended));
            n.spawn_daemon(async move {
                let error = sleep_forever().await;
                n.spawn_service(ends("late service", ended));
                n.spawn(async move {
                    shield(sleep(Duration::from_millis(1))).await?;
                    ended.borrow_mut().push("late child");
                    Ok(())
                });
                error
            });
            Ok(())
        })
        .await?;
        assert_eq!(ended.borrow()[0], "late child");
        assert_eq!(ended.borrow().len(), 3);
        Ok(())
    });
}

// What is idle in it is not ended by a drain around the nursery: others may still need it.
#[trine::test(kernel = "both")]
fn a_drain_does_not_concern_a_service() {
    run(async || {
        let order = &RefCell::new(Vec::new());
        let scope = CancelScope::new();
        scope
            .run(async |scope| {
                nursery(async |n| {
                    n.spawn_service(async {
                        let waiting = idle(sleep_forever()).await;
                        order.borrow_mut().push("service");
                        waiting.map(drop)
                    });
                    n.spawn(async {
                        assert!(idle(sleep_forever()).await?.is_none());
                        sleep(Duration::from_millis(2)).await?;
                        order.borrow_mut().push("child");
                        Ok(())
                    });
                    checkpoint().await?;
                    scope.drain(Duration::from_secs(1));
                    Ok(())
                })
                .await
            })
            .await?;
        assert_eq!(*order.borrow(), ["child", "service"]);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_service_shows_itself() {
    run(async || {
        nursery(async |n| {
            n.spawn_service(sleep_forever());
            checkpoint().await?;
            let tree = tree();
            let line = tree.lines().find(|line| line.contains("service spawned at"));
            assert!(line.expect(&tree).contains("services.rs"), "{tree}");
            assert!(line.expect(&tree).ends_with(", shielded"), "{tree}");
            Ok(())
        })
        .await
    });
}

// F13: one that waits for something foreign is dropped, but not before its time.
#[trine::test(kernel = "both")]
fn a_service_that_waits_for_something_foreign_is_dropped_when_the_others_have_ended() {
    struct Noted<'a>(&'a RefCell<Vec<&'static str>>);
    impl Drop for Noted<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push("service");
        }
    }
    run(async || {
        let ended = &RefCell::new(Vec::new());
        nursery(async |n| {
            n.spawn_service(async {
                let _noted = Noted(ended);
                pending().await
            });
            n.spawn(ends("child", ended));
            checkpoint().await?;
            n.cancel();
            Ok(())
        })
        .await?;
        assert_eq!(*ended.borrow(), ["child", "service"]);
        assert_eq!(stats().abandoned, 1);
        Ok(())
    });
}

// N16: a nursery that is dropped drops its services, and what they have in the kernel is cancelled.
#[trine::test(kernel = "both")]
fn a_nursery_that_is_dropped_drops_its_services() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        {
            let mut dropped = pin!(nursery(async |n| {
                n.spawn_service(async { listener.accept().await.map(drop) });
                sleep_forever().await
            }));
            assert!(poll!(dropped.as_mut()).is_pending());
            while stats().in_kernel == 0 {
                checkpoint().await?;
                assert!(poll!(dropped.as_mut()).is_pending());
            }
        }
        while stats().in_kernel > 0 {
            checkpoint().await?;
        }
        Ok(())
    });
}

// N16: the one that was spawned first serves the others to the last also where all are dropped.
#[trine::test(kernel = "both")]
fn in_a_dropped_nursery_services_go_last() {
    struct Noted<'a>(&'static str, &'a RefCell<Vec<&'static str>>);
    impl Drop for Noted<'_> {
        fn drop(&mut self) {
            self.1.borrow_mut().push(self.0);
        }
    }
    run(async || {
        let dropped = &RefCell::new(Vec::new());
        let pending = async |name: &'static str| {
            let _noted = Noted(name, dropped);
            sleep_forever().await
        };
        let pending = &pending;
        {
            let mut nursery = pin!(nursery(async |n| {
                n.spawn_service(pending("service"));
                n.spawn(pending("child"));
                n.spawn_daemon(pending("daemon"));
                sleep_forever().await
            }));
            assert!(poll!(nursery.as_mut()).is_pending());
            checkpoint().await?;
            assert!(poll!(nursery.as_mut()).is_pending());
        }
        assert_eq!(*dropped.borrow(), ["child", "daemon", "service"]);
        Ok(())
    });
}
