//! What we wait for, as streams of other crates.

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures::stream::{FusedStream, StreamExt, TryStreamExt};
use futures::{FutureExt, poll, select};
use trine::net::{TcpListener, TcpStream};
use trine::sync::{Heard, broadcast, channel, unbounded, watch};
use trine::time::{Instant, interval, sleep};
use trine::{
    CancelScope, Error, Result, checkpoint, move_on_after, nursery, shield, stats, stream,
};

use super::common::wakers::text;
use super::common::{BUDGET, PATIENCE, fewer, pair, turns};
use super::{MOMENT, assert_nothing_left, run};

// J1, J3: in order, and then it is over.
#[trine::test(kernel = "both")]
fn a_channel_is_a_stream_of_its_values() {
    run(async || {
        let (sender, receiver) = channel(2);
        nursery(async |n| {
            n.spawn(async move {
                for number in 0..10 {
                    sender.send(number).await?;
                }
                Ok(())
            });
            let values: Vec<u32> = stream(|| receiver.recv()).try_collect().await?;
            assert_eq!(values, (0..10).collect::<Vec<_>>());
            Ok(())
        })
        .await?;
        assert_nothing_left();
        Ok(())
    });
}

// Lazy; after the end, or an error, nobody is asked any more, and who was is dropped.
#[trine::test(kernel = "both")]
fn after_its_end_or_an_error_it_is_over() {
    run(async || {
        for fails in [false, true] {
            let (asked, held) = (Cell::new(0), Rc::new(()));
            let holds = Rc::clone(&held);
            let mut items = stream(async || {
                let _held = &holds;
                asked.set(asked.get() + 1);
                checkpoint().await?;
                match asked.get() {
                    1 => Ok(Some("first")),
                    2 if fails => Err(Error::other("broken")),
                    2 => Ok(None),
                    _ => panic!("asked after the end"),
                }
            });
            assert_eq!(asked.get(), 0);
            assert_eq!(items.next().await.transpose()?, Some("first"));
            assert_eq!((asked.get(), items.is_terminated()), (1, false));
            let last = items.next().await;
            assert_eq!(
                last.map(|last| last.unwrap_err().to_string()),
                fails.then(|| "broken".into())
            );
            assert!(items.is_terminated());
            for _ in 0..3 {
                assert!(items.next().await.is_none());
            }
            assert_eq!(asked.get(), 2);
        }
        // What was moved into it goes with its end, and not only when the stream does.
        let held = Rc::new(());
        let holds = Rc::clone(&held);
        let mut items = stream(move || {
            let _held = &holds;
            ready(Ok(None::<u32>))
        });
        assert!(items.next().await.is_none());
        assert_eq!(Rc::strong_count(&held), 1);
        Ok(())
    });
}

// D1, J2: a cancelled item is no item, and no end.
#[trine::test(kernel = "both", runs = 10)]
fn cancelled_in_the_middle_it_is_gone_on_with_and_nothing_is_lost() {
    run(async || {
        const VALUES: u32 = fewer(50, 8);
        let (sender, receiver) = unbounded();
        let (client, server) = pair().await?;
        nursery(async |n| {
            n.spawn(async move {
                for number in 0..VALUES {
                    sleep(MOMENT / 4).await?;
                    sender.send(number).await?;
                    client.write_all(number.to_be_bytes().to_vec()).await?;
                }
                drop(sender);
                client.close().await
            });
            let mut numbers = stream(|| receiver.recv());
            let mut chunks = stream(|| server.recv());
            let (mut heard, mut bytes) = (Vec::<u32>::new(), Vec::<u8>::new());
            let mut cancelled = 0;
            while !(numbers.is_terminated() && chunks.is_terminated()) {
                let patience = MOMENT / 8;
                match move_on_after(patience, async |_| numbers.next().await.transpose()).await? {
                    Some(number) => heard.extend(number),
                    None => cancelled += 1,
                }
                match move_on_after(patience, async |_| chunks.next().await.transpose()).await? {
                    Some(chunk) => bytes.extend(chunk.iter().flat_map(|chunk| chunk.iter())),
                    None => cancelled += 1,
                }
            }
            assert!(heard.iter().copied().eq(0..VALUES), "{heard:?}");
            assert_eq!(bytes, (0..VALUES).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
            assert!(cancelled > 0);
            Ok(())
        })
        .await?;
        assert_nothing_left();
        Ok(())
    });
}

// B7, F14: it raises at every item, and a combinator that passes that over for ever is dropped.
#[trine::test(kernel = "both")]
fn in_a_cancelled_scope_it_raises_each_time_but_not_for_ever() {
    run(async || {
        let (_sender, receiver) = unbounded::<u32>();
        let raised = Cell::new(0);
        let outcome = move_on_after(MOMENT, async |_| {
            let mut values = stream(|| receiver.recv()).filter_map(|value| {
                raised
                    .set(raised.get() + u32::from(value.is_err_and(|error| error.is_cancelled())));
                ready(None::<u32>)
            });
            Ok(values.next().await)
        });
        assert!(outcome.await?.is_none());
        assert!((PATIENCE - 2..=PATIENCE).contains(&raised.get()), "{}", raised.get());
        assert_eq!(stats().abandoned, 1);
        Ok(())
    });
}

// D7, J2: what was on its way to an item stays with the stream of bytes, and with the channel.
#[trine::test(kernel = "both")]
fn dropped_while_an_item_is_awaited_it_loses_nothing() {
    run(async || {
        let (sender, receiver) = unbounded();
        let (client, server) = pair().await?;
        {
            let (mut values, mut chunks) = (stream(|| receiver.recv()), stream(|| server.recv()));
            assert!(poll!(values.next()).is_pending() && poll!(chunks.next()).is_pending());
            sender.send(7).await?;
            client.write_all("x").await?;
            turns(3).await;
        }
        let mut values = stream(|| receiver.recv());
        assert_eq!(values.next().await.transpose()?, Some(7));
        let chunk = stream(|| server.recv()).next().await.transpose()?.expect("a byte");
        assert_eq!(&*chunk, b"x");
        assert_nothing_left();
        Ok(())
    });
}

// What was awaited goes before the stream has gone, and `next` with it.
#[trine::test(kernel = "both")]
fn dropped_it_drops_what_is_awaited() {
    run(async || {
        let held = Rc::new(());
        let (holds, lends) = (Rc::clone(&held), Rc::clone(&held));
        let mut items = stream(async move || {
            let _holds = &holds;
            let _lends = Rc::clone(&lends);
            pending::<Result<Option<u32>>>().await
        });
        assert!(poll!(items.next()).is_pending());
        assert_eq!(Rc::strong_count(&held), 4);
        drop(items);
        assert_eq!(Rc::strong_count(&held), 1);
        Ok(())
    });
}

// D7: between items, and while one is awaited, other things go on.
#[trine::test(kernel = "both")]
fn a_stream_of_chunks_has_all_bytes_in_order() {
    run(async || {
        const BYTES: usize = fewer(1 << 18, 1 << 12);
        let (client, server) = pair().await?;
        let sent: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
        nursery(async |n| {
            n.spawn(async {
                client.write_all(sent.clone()).await?;
                client.close().await
            });
            let chunks = stream(|| server.recv()).map_ok(|chunk| chunk.to_vec());
            assert_eq!(chunks.try_concat().await?, sent);
            Ok(())
        })
        .await?;
        server.close().await
    });
}

// The combinators of others run on our streams, and our operations in them.
#[trine::test(kernel = "both")]
fn combinators_of_other_crates_understand_it() {
    run(async || {
        let (sender, receiver) = unbounded();
        for number in 0..20_u64 {
            sender.send(number).await?;
        }
        let taken = stream(|| receiver.recv()).map_ok(|number| number * 10).take(3);
        assert_eq!(taken.try_collect::<Vec<_>>().await?, [0, 10, 20]);
        // Of what was not taken nothing is lost.
        let alive = Cell::new(0);
        let late = stream(|| receiver.recv()).take(5).map(async |number| {
            alive.set(alive.get() + 1);
            assert!(alive.get() <= 3);
            let number: u64 = number?;
            sleep(MOMENT * (20 - number as u32)).await?;
            alive.set(alive.get() - 1);
            Ok::<_, Error>(number)
        });
        let mut done: Vec<_> = late.buffer_unordered(3).try_collect().await?;
        done.sort_unstable();
        assert_eq!(done, [3, 4, 5, 6, 7]);
        drop(sender);
        let rest = stream(|| receiver.recv()).try_fold(0, async |sum, number| Ok(sum + number));
        assert_eq!(rest.await?, (8..20).sum::<u64>());
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn in_a_select_it_is_fused() {
    run(async || {
        let (sender, receiver) = unbounded();
        let (other_sender, other_receiver) = unbounded();
        for number in 0..5 {
            sender.send(number).await?;
            other_sender.send(number).await?;
        }
        drop((sender, other_sender));
        let (mut one, mut other) = (stream(|| receiver.recv()), stream(|| other_receiver.recv()));
        let mut heard = [Vec::new(), Vec::new()];
        loop {
            select! {
                number = one.select_next_some() => heard[0].push(number?),
                number = other.select_next_some() => heard[1].push(number?),
                complete => break,
            }
        }
        assert_eq!(heard, [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]);
        Ok(())
    });
}

// H3: what borrows to wait can be a stream too.
#[trine::test(kernel = "sim")]
async fn an_interval_is_a_stream_of_ticks() -> Result {
    let began = Instant::now();
    let mut ticks = interval(MOMENT);
    let mut dues = stream(async || ticks.tick().await.map(Some)).map_ok(|due| due - began);
    for number in 0..3 {
        assert_eq!(dues.next().await.transpose()?, Some(MOMENT * number));
        assert_eq!(began.elapsed(), MOMENT * number);
    }
    // D4: a cancelled tick is still to come.
    assert!(move_on_after(MOMENT / 2, async |_| dues.next().await.transpose()).await?.is_none());
    assert_eq!(dues.next().await.transpose()?, Some(MOMENT * 3));
    Ok(())
}

#[trine::test(kernel = "both")]
fn a_listener_is_a_stream_of_connections() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        nursery(async |n| {
            n.spawn(async {
                for byte in ["0", "1", "2"] {
                    let client = TcpStream::connect_addr(address).await?;
                    client.write_all(byte).await?;
                    client.close().await?;
                }
                Ok(())
            });
            let connections = stream(async || listener.accept().await.map(Some)).take(3);
            let bytes = connections.and_then(async |(connection, _)| {
                let chunk = connection.recv().await?;
                Ok(chunk.map(|chunk| chunk.to_vec()))
            });
            let bytes: Vec<_> = bytes.try_collect().await?;
            assert_eq!(bytes, ["0", "1", "2"].map(|byte| Some(byte.as_bytes().to_vec())));
            Ok(())
        })
        .await
    });
}

#[trine::test(kernel = "both")]
fn a_broadcast_is_a_stream_with_or_without_its_gaps() {
    run(async || {
        let (sender, mut receiver) = broadcast(2);
        let mut strict = receiver.clone();
        for number in 0..3 {
            sender.send(number);
        }
        drop(sender);
        let heard = stream(async || {
            Ok(match receiver.recv().await? {
                Heard::End => None,
                heard => Some(heard),
            })
        });
        let heard: Vec<_> = heard.try_collect().await?;
        assert_eq!(heard, [Heard::Missed(1), Heard::Value(1), Heard::Value(2)]);
        let values = stream(async || strict.recv().await?.value().map_err(Error::other));
        let values: Vec<_> = values.map_err(|error| error.to_string()).collect().await;
        let missed = "lagged behind: 1 values were thrown away before they were heard";
        assert_eq!(values, [Err(missed.to_owned())], "an error ends it");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_watch_is_a_stream_of_changes() {
    run(async || {
        let (sender, mut receiver) = watch(0);
        nursery(async |n| {
            n.spawn(async move {
                for number in 1..=3 {
                    sender.send(number);
                    turns(2).await;
                }
                Ok(())
            });
            let changes = stream(async || match receiver.changed().await {
                Ok(()) => Ok(Some(*receiver.borrow_and_update())),
                Err(Error::Closed(_)) => Ok(None),
                Err(error) => Err(error),
            });
            assert_eq!(changes.try_collect::<Vec<_>>().await?, [1, 2, 3]);
            Ok(())
        })
        .await
    });
}

// A2: items that need not be waited for are budgeted as what they are made of is.
#[trine::test(kernel = "both")]
fn an_endless_stream_starves_nobody() {
    run(async || {
        let (sender, receiver) = unbounded();
        let turn = stats().turns;
        let mut numbers = stream(async || {
            sender.send(7).await?;
            receiver.recv().await
        });
        for _ in 0..4 * BUDGET {
            assert_eq!(numbers.next().await.transpose()?, Some(7));
        }
        assert!(stats().turns >= turn + 4);
        Ok(())
    });
}

// N20: a panic goes through, and the stream is over.
#[trine::test(kernel = "both")]
fn panics_go_through_and_end_it() {
    run(async || {
        let mut items = stream(async || {
            checkpoint().await?;
            if stats().tasks > 0 { panic!("while it is asked") } else { Ok(None::<u32>) }
        });
        let thrown = AssertUnwindSafe(items.next()).catch_unwind().await.unwrap_err();
        assert_eq!(text(&*thrown), "while it is asked");
        assert!(items.is_terminated() && items.next().await.is_none());
        Ok(())
    });
}

// P6: it is no more than what it is made of; outside of a run that says so.
#[trine::test(kernel = "both")]
fn outside_of_a_run_it_fails_and_is_over() {
    let (_sender, receiver) = unbounded::<u32>();
    let mut values = stream(|| receiver.recv());
    let first = values.next().now_or_never().expect("it does not wait");
    assert!(matches!(first, Some(Err(Error::NoRun))), "{first:?}");
    assert!(values.next().now_or_never().expect("it does not wait").is_none());
    let log = RefCell::new(Vec::new());
    let mut values = stream(|| receiver.recv());
    for _ in 0..2 {
        run(async || {
            let scope = CancelScope::new();
            scope.cancel();
            let outcome = scope.run(async |_| values.next().await.transpose()).await?;
            log.borrow_mut().push(outcome.is_none());
            shield(checkpoint()).await
        });
    }
    assert_eq!(*log.borrow(), [true, true], "a cancellation is no end in any run");
}
