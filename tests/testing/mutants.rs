//! The conformance suite finds what is wrong with a stream: each of these is wrong in one way.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use trine::testing::{
    ByteStream, MemoryStream, World, check_half_closeable_stream, lockstep_stream_pair,
    memory_stream_pair,
};
use trine::{CancelScope, Error, Result, checkpoint, shield};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    /// None: the frame itself conforms.
    Nothing,
    LosesAByteOnCancel,
    LosesAByteOnDrop,
    SwapsBytes,
    DropsEveryThousandth,
    GivesMoreThanAskedFor,
    GivesNothingBeforeTheEnd,
    AcceptsARequestForNothing,
    HasNoEnd,
    SaysTheEndOnce,
    FailsAtTheEnd,
    AllowsTwoReceivers,
    RefusesTheSecondReceiverOddly,
    AllowsTwoSenders,
    SendsInACancelledScope,
    ReceivesInACancelledScope,
    IsNoCheckpointWhenItSends,
    IsNoCheckpointWhenItReceives,
    DoesNotCloseWhenCancelled,
    DoesNotSayThatItsCloseWasCancelled,
    SendsToNobodyForEver,
    CannotBeCancelledWhileItSends,
    SendsAfterItsEnd,
    EndsBothDirections,
    FailsWhenItIsEndedTwice,
    ThrowsAwayWhatWasSentBeforeTheEnd,
    EndsInTheMiddleOfASend,
    IsNoCheckpointWhenItEnds,
}

use Wrong::*;

const ALL: [Wrong; 27] = [
    LosesAByteOnCancel,
    LosesAByteOnDrop,
    SwapsBytes,
    DropsEveryThousandth,
    GivesMoreThanAskedFor,
    GivesNothingBeforeTheEnd,
    AcceptsARequestForNothing,
    HasNoEnd,
    SaysTheEndOnce,
    FailsAtTheEnd,
    AllowsTwoReceivers,
    RefusesTheSecondReceiverOddly,
    AllowsTwoSenders,
    SendsInACancelledScope,
    ReceivesInACancelledScope,
    IsNoCheckpointWhenItSends,
    IsNoCheckpointWhenItReceives,
    DoesNotCloseWhenCancelled,
    DoesNotSayThatItsCloseWasCancelled,
    SendsToNobodyForEver,
    CannotBeCancelledWhileItSends,
    SendsAfterItsEnd,
    EndsBothDirections,
    FailsWhenItIsEndedTwice,
    ThrowsAwayWhatWasSentBeforeTheEnd,
    EndsInTheMiddleOfASend,
    IsNoCheckpointWhenItEnds,
];

/// A stream in memory with something wrong with it.
struct Mutant {
    wrong: Wrong,
    inner: MemoryStream,
    /// How many bytes to withhold from the next receives.
    lost: Rc<Cell<usize>>,
    received: Cell<usize>,
    ended: Cell<bool>,
    saw_end: Cell<bool>,
    /// Streams that were to be closed and were not.
    left_open: Rc<RefCell<Vec<MemoryStream>>>,
}

fn mutants(wrong: Wrong, (left, right): (MemoryStream, MemoryStream)) -> (Mutant, Mutant) {
    let (left_open, lost) = (Rc::default(), Rc::<Cell<usize>>::default());
    let mutant = |inner| Mutant {
        wrong,
        inner,
        lost: Rc::clone(&lost),
        received: Cell::new(0),
        ended: Cell::new(false),
        saw_end: Cell::new(false),
        left_open: Rc::clone(&left_open),
    };
    (mutant(left), mutant(right))
}

/// Counts a byte as lost unless it is told that all went well.
struct Loses<'a>(Option<&'a Cell<usize>>);

impl Drop for Loses<'_> {
    fn drop(&mut self) {
        if let Some(lost) = self.0 {
            lost.set(lost.get() + 1);
        }
    }
}

fn invalid() -> Error {
    io::Error::new(io::ErrorKind::InvalidInput, "invalid").into()
}

impl Mutant {
    async fn receive(&self, most: usize) -> Result<Vec<u8>> {
        let received = self.inner.receive_some(most).await;
        if self.wrong == LosesAByteOnCancel && received.as_ref().is_err_and(Error::is_cancelled) {
            self.lost.set(self.lost.get() + 1);
        }
        let mut bytes = received?;
        while self.lost.get() > 0 && !bytes.is_empty() {
            self.lost.set(self.lost.get() - 1);
            bytes.remove(0);
            if bytes.is_empty() {
                bytes = self.inner.receive_some(most).await?;
            }
        }
        Ok(bytes)
    }
}

impl ByteStream for Mutant {
    async fn send_all(&self, bytes: &[u8]) -> Result {
        match self.wrong {
            AllowsTwoSenders => match self.inner.send_all(bytes).await {
                Err(Error::Busy(_)) => Ok(()),
                sent => sent,
            },
            SendsInACancelledScope => shield(self.inner.send_all(bytes)).await,
            IsNoCheckpointWhenItSends => Ok(()),
            SendsToNobodyForEver => match self.inner.send_all(bytes).await {
                Err(Error::Broken(_)) => Ok(()),
                sent => sent,
            },
            CannotBeCancelledWhileItSends => {
                checkpoint().await?;
                shield(self.inner.send_all(bytes)).await
            }
            SendsAfterItsEnd => match self.inner.send_all(bytes).await {
                Err(Error::Closed(_)) => Ok(()),
                sent => sent,
            },
            SwapsBytes => {
                let mut bytes = bytes.to_vec();
                if let [.., first, second] = &mut bytes[..] {
                    std::mem::swap(first, second);
                }
                self.inner.send_all(&bytes).await
            }
            _ => self.inner.send_all(bytes).await,
        }
    }

    async fn receive_some(&self, most: usize) -> Result<Vec<u8>> {
        match self.wrong {
            LosesAByteOnDrop => {
                let mut loses = Loses(Some(&self.lost));
                let received = self.receive(most).await;
                loses.0 = None;
                received
            }
            DropsEveryThousandth => {
                let mut bytes = self.receive(most).await?;
                let before = self.received.replace(self.received.get() + bytes.len());
                if before / 1000 != self.received.get() / 1000 && bytes.len() > 1 {
                    bytes.pop();
                }
                Ok(bytes)
            }
            GivesMoreThanAskedFor if most == 2 => self.inner.receive_some(3).await,
            GivesNothingBeforeTheEnd if most == 2 => {
                checkpoint().await?;
                Ok(Vec::new())
            }
            AcceptsARequestForNothing if most == 0 => Ok(Vec::new()),
            HasNoEnd | SaysTheEndOnce | FailsAtTheEnd => {
                let bytes = self.receive(most).await?;
                let is_first = bytes.is_empty() && !self.saw_end.replace(true);
                match self.wrong {
                    HasNoEnd if bytes.is_empty() => trine::time::sleep_forever().await?,
                    SaysTheEndOnce if bytes.is_empty() && !is_first => return Err(invalid()),
                    FailsAtTheEnd if bytes.is_empty() => return Err(invalid()),
                    _ => {}
                }
                Ok(bytes)
            }
            AllowsTwoReceivers => match self.inner.receive_some(most).await {
                Err(Error::Busy(_)) => Ok(Vec::new()),
                received => received,
            },
            RefusesTheSecondReceiverOddly => match self.inner.receive_some(most).await {
                Err(Error::Busy(_)) => Err(invalid()),
                received => received,
            },
            ReceivesInACancelledScope if trine::is_cancelled() => Ok(vec![0]),
            EndsBothDirections if self.ended.get() => Ok(Vec::new()),
            IsNoCheckpointWhenItReceives => Ok(b"x".to_vec()),
            _ => self.receive(most).await,
        }
    }

    async fn send_eof(&self) -> Result {
        match self.wrong {
            FailsWhenItIsEndedTwice if self.ended.replace(true) => Err(invalid()),
            EndsBothDirections => {
                self.ended.set(true);
                self.inner.send_eof().await
            }
            ThrowsAwayWhatWasSentBeforeTheEnd => {
                self.lost.set(self.lost.get() + 4);
                self.inner.send_eof().await
            }
            EndsInTheMiddleOfASend => match self.inner.send_eof().await {
                Err(Error::Busy(_)) => Ok(()),
                ended => ended,
            },
            IsNoCheckpointWhenItEnds => Ok(()),
            _ => self.inner.send_eof().await,
        }
    }

    async fn close(self) -> Result {
        match self.wrong {
            DoesNotCloseWhenCancelled => {
                if let Err(cancelled) = checkpoint().await {
                    self.left_open.borrow_mut().push(self.inner);
                    return Err(cancelled);
                }
                self.inner.close().await
            }
            DoesNotSayThatItsCloseWasCancelled => shield(self.inner.close()).await,
            _ => self.inner.close().await,
        }
    }
}

/// What the suite says about it: `None` is nothing.
fn complaint(wrong: Wrong) -> Option<String> {
    let checked = catch_unwind(AssertUnwindSafe(|| {
        World::tame().run(async || {
            let make = async || Ok(mutants(wrong, memory_stream_pair()));
            let clogged = async || Ok(mutants(wrong, lockstep_stream_pair()));
            check_half_closeable_stream(make, Some(clogged)).await
        })
    }));
    match checked {
        Ok(ended) => ended.err().map(|error| error.to_string()),
        Err(panic) => match panic.downcast::<String>() {
            Ok(text) => Some(*text),
            Err(panic) => panic.downcast::<&str>().ok().map(|text| text.to_string()),
        },
    }
}

#[test]
fn a_stream_with_nothing_wrong_passes() {
    assert_eq!(complaint(Nothing), None);
}

#[test]
fn every_mutant_is_caught() {
    let survivors: Vec<Wrong> =
        ALL.into_iter().filter(|wrong| complaint(*wrong).is_none()).collect();
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
}

// The complaint says what is wrong, where that can be told.
#[test]
fn the_complaint_says_what_is_wrong() {
    for (wrong, part) in [
        (AllowsTwoReceivers, "a second receiver"),
        (AllowsTwoSenders, "a second sender"),
        (DoesNotSayThatItsCloseWasCancelled, "a cancelled close did not say so"),
        (SendsInACancelledScope, "sent in a cancelled scope"),
        (ReceivesInACancelledScope, "received in a cancelled scope"),
        (SendsToNobodyForEver, "closed at the other end"),
        (SendsAfterItsEnd, "sent after the end"),
        (SwapsBytes, ""),
        (AcceptsARequestForNothing, "at most 0 bytes are no bytes"),
        (GivesMoreThanAskedFor, "3 bytes for at most 2"),
        (EndsInTheMiddleOfASend, "ended while sending"),
        (HasNoEnd, "deadlock"),
    ] {
        let text = complaint(wrong).unwrap_or_default();
        assert!(text.contains(part), "{wrong:?}: {text}");
    }
}

// A mutant of another trade: a scope that is not cancelled gets no complaint.
#[trine::test]
async fn a_scope_that_is_never_cancelled_hides_nothing() -> Result {
    let scope = CancelScope::new();
    let (left, right) = mutants(LosesAByteOnCancel, memory_stream_pair());
    scope.run(async |_| left.send_all(b"x").await).await?;
    assert_eq!(right.receive_some(1).await?, b"x");
    Ok(())
}
