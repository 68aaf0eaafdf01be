//! A fixed order for the steps of several tasks: Trio's `Sequencer`.

use std::cell::RefCell;
use std::pin::pin;

use futures::poll;
use trine::testing::{Sequencer, wait_all_tasks_blocked};
use trine::time::sleep_forever;
use trine::{CancelScope, Error, Result, checkpoint, nursery};

/// Is refused with an error that says so.
#[track_caller]
fn check_refused<T: std::fmt::Debug>(outcome: Result<T>, part: &str) {
    match outcome {
        Err(Error::Other(error)) => assert!(error.to_string().contains(part), "{error}"),
        other => panic!("not refused: {other:?}"),
    }
}

// Trio: test_Sequencer.
#[trine::test(kernel = "both", runs = 50)]
async fn steps_run_in_their_order_whichever_task_they_are_in() -> Result {
    let (steps, record) = (&Sequencer::new(), &RefCell::new(Vec::new()));
    nursery(async |n| {
        for numbers in [[5, 8], [0, 7], [2, 3], [1, 6], [4, 9]] {
            n.spawn(async move {
                for step in numbers {
                    steps
                        .at(step, async || {
                            record.borrow_mut().push(step);
                            checkpoint().await?;
                            record.borrow_mut().push(step);
                            Ok(())
                        })
                        .await?;
                }
                Ok(())
            });
        }
        Ok(())
    })
    .await?;
    let expected: Vec<u32> = (0..10).flat_map(|step| [step, step]).collect();
    assert_eq!(*record.borrow(), expected, "and none begins before the one before has ended");
    Ok(())
}

#[trine::test(kernel = "both")]
async fn a_step_returns_what_its_body_does() -> Result {
    let steps = Sequencer::new();
    assert_eq!(steps.at(0, async || Ok("value")).await?, "value");
    check_refused(steps.at(1, async || Err::<(), _>(Error::other("mine"))).await, "mine");
    assert_eq!(steps.at(2, async || Ok(7)).await?, 7, "a failure is an end too");
    Ok(())
}

// Trio: claiming a sequence point twice is an error.
#[trine::test(kernel = "both")]
async fn a_step_is_claimed_once() -> Result {
    let steps = &Sequencer::new();
    steps.at(0, async || Ok(())).await?;
    check_refused(steps.at(0, async || Ok(())).await, "step 0 of the sequence is claimed twice");
    nursery(async |n| {
        n.spawn(async { steps.at(2, async || Ok(())).await });
        wait_all_tasks_blocked().await?;
        check_refused(steps.at(2, async || Ok(())).await, "claimed twice");
        steps.at(1, async || Ok(())).await
    })
    .await
}

// Trio: test_Sequencer_cancel. Those after a cancelled step would wait for ever.
#[trine::test(kernel = "both", runs = 50)]
async fn a_step_that_is_cancelled_before_its_turn_breaks_those_after_it() -> Result {
    let (steps, scope) = (&Sequencer::new(), &CancelScope::new());
    nursery(async |n| {
        n.spawn(async {
            let ran = scope.run(async |_| steps.at(1, async || Ok(())).await).await?;
            assert!(ran.is_none());
            Ok(())
        });
        for step in [2, 3] {
            n.spawn(async move {
                check_refused(steps.at(step, async || Ok(())).await, "will never come");
                Ok(())
            });
        }
        wait_all_tasks_blocked().await?;
        scope.cancel();
        wait_all_tasks_blocked().await?;
        check_refused(steps.at(4, async || Ok(())).await, "step 4 will never come");
        Ok(())
    })
    .await
}

// The same for one whose future is dropped.
#[trine::test(kernel = "both", runs = 20)]
async fn a_step_that_is_dropped_before_its_turn_breaks_those_after_it() -> Result {
    let steps = Sequencer::new();
    {
        let mut dropped = pin!(steps.at(1, async || Ok(())));
        assert!(poll!(dropped.as_mut()).is_pending());
    }
    check_refused(steps.at(2, async || Ok(())).await, "step 2 will never come");
    Ok(())
}

// Trio: only a wait that is cancelled breaks the sequence; a body that is cancelled has had its turn.
#[trine::test(kernel = "both", runs = 20)]
async fn a_step_that_is_cancelled_in_its_body_has_had_its_turn() -> Result {
    let (steps, scope) = (&Sequencer::new(), &CancelScope::new());
    nursery(async |n| {
        n.spawn(async {
            let ran = scope.run(async |_| steps.at(0, sleep_forever).await).await?;
            assert!(ran.is_none());
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        scope.cancel();
        steps.at(1, async || Ok(())).await
    })
    .await
}

// A2: a step is a cancel point also if it need not wait.
#[trine::test(kernel = "both")]
async fn a_step_in_a_cancelled_scope_does_not_run() -> Result {
    let (steps, scope) = (Sequencer::new(), CancelScope::new());
    scope.cancel();
    let ran =
        scope.run(async |_| steps.at(0, async || -> Result { panic!("it ran") }).await).await?;
    assert!(ran.is_none());
    Ok(())
}

#[trine::test]
fn it_shows_where_it_is() {
    assert_eq!(format!("{:?}", Sequencer::new()), "Sequencer(next: 0, broken: false)");
}
