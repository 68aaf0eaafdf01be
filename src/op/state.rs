//! The life of one operation, as a pure machine: no wakers, no I/O, no allocation.
//!
//! ```text
//!   Queued ──pushed──► InKernel ──cancel──► CancelQueued ──pushed──► CancelSent
//!     │                   │                      │                      │
//!     └──cancel           └──────terminal────────┴──────◄──missed───────┤
//!          │                         ▼                                  │
//!          └──────────────────► Terminal ◄──────────────────────────────┘
//! ```
//!
//! A cancel can miss: while the kernel is between two attempts at an operation it does not find it,
//! answers "no such operation", and goes on waiting for it. Then it is asked again.
//!
//! It can be orphaned at any time. The machine never frees on the answer to a cancel request, it
//! cannot even express that: only [`Event::Terminal`] leads out of the kernel.

/// Where the operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// On our side; the kernel has not seen it.
    Queued,
    /// The kernel has it, and so its memory.
    InKernel,
    /// The same, and a request to cancel it waits on our side.
    CancelQueued,
    /// The same, and the kernel has been asked to cancel it.
    CancelSent,
    /// The kernel has let go.
    Terminal,
}

/// Where the operation is and whether somebody still wants its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// Its handle was dropped.
    pub(crate) orphan: bool,
    /// Whether it may be stopped. A close may not: it is neither withdrawn nor cancelled.
    pub(crate) cancellable: bool,
}

/// What can happen to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The request went into the submission queue.
    Pushed,
    /// The cancel request went into the submission queue.
    CancelPushed,
    /// The kernel answered that it knows no such operation, which has not ended.
    CancelMissed,
    /// A scope, or the handle's owner, wants it to end.
    Cancel,
    /// The handle was dropped.
    Orphaned,
    /// A completion with more to follow.
    More,
    /// The last completion.
    Terminal,
}

#[cfg(any(test, feature = "testing"))]
impl Event {
    pub(crate) const ALL: [Event; 7] = [
        Event::Pushed,
        Event::CancelPushed,
        Event::CancelMissed,
        Event::Cancel,
        Event::Orphaned,
        Event::More,
        Event::Terminal,
    ];
}

/// What the caller of [`State::step`] has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Nothing,
    /// Take the request out of the queue; the operation ends with `-ECANCELED` (rule D6).
    Withdraw,
    /// As [`Withdraw`](Step::Withdraw), and nobody wants to hear of it: free the slot.
    WithdrawAndFree,
    /// Queue a cancel request.
    QueueCancel,
    /// Keep the result for the handle and wake whoever waits.
    Deliver,
    /// Nobody wants the result: dispose of it.
    Dispose,
    /// The last result of an orphan: dispose of it and free the slot.
    DisposeAndFree,
    /// Free the slot and what it still keeps.
    Free,
}

impl State {
    pub(crate) fn new(cancellable: bool) -> State {
        State { phase: Phase::Queued, orphan: false, cancellable }
    }

    /// Whether the kernel has it.
    pub(crate) fn in_kernel(self) -> bool {
        matches!(self.phase, Phase::InKernel | Phase::CancelQueued | Phase::CancelSent)
    }

    /// Makes the transition. An event that cannot happen in this state changes nothing.
    pub(crate) fn step(&mut self, event: Event) -> Step {
        let State { phase, orphan, cancellable } = *self;
        match (event, phase) {
            (Event::Pushed, Phase::Queued) => self.go(Phase::InKernel, Step::Nothing),
            (Event::CancelPushed, Phase::CancelQueued) => self.go(Phase::CancelSent, Step::Nothing),
            (Event::CancelMissed, Phase::CancelSent) => {
                self.go(Phase::CancelQueued, Step::QueueCancel)
            }
            (Event::Cancel, _) if !cancellable => Step::Nothing,
            (Event::Cancel, Phase::Queued) => self.go(Phase::Terminal, Step::Withdraw),
            (Event::Cancel, Phase::InKernel) => self.go(Phase::CancelQueued, Step::QueueCancel),
            (Event::Orphaned, _) if orphan => Step::Nothing,
            (Event::Orphaned, _) => {
                self.orphan = true;
                match phase {
                    Phase::Terminal => Step::Free,
                    _ if !cancellable => Step::Nothing,
                    Phase::Queued => self.go(Phase::Terminal, Step::WithdrawAndFree),
                    Phase::InKernel => self.go(Phase::CancelQueued, Step::QueueCancel),
                    Phase::CancelQueued | Phase::CancelSent => Step::Nothing,
                }
            }
            (Event::More, _) if self.in_kernel() => {
                if orphan {
                    Step::Dispose
                } else {
                    Step::Deliver
                }
            }
            (Event::Terminal, _) if self.in_kernel() => {
                let step = if orphan { Step::DisposeAndFree } else { Step::Deliver };
                self.go(Phase::Terminal, step)
            }
            _ => Step::Nothing,
        }
    }

    fn go(&mut self, phase: Phase, step: Step) -> Step {
        self.phase = phase;
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel and the owner may do in a state; everything else must change nothing.
    fn possible(state: State, event: Event) -> bool {
        match event {
            Event::Pushed => state.phase == Phase::Queued,
            Event::CancelPushed => state.phase == Phase::CancelQueued,
            Event::CancelMissed => state.phase == Phase::CancelSent,
            Event::Cancel => true,
            Event::Orphaned => !state.orphan,
            Event::More | Event::Terminal => state.in_kernel(),
        }
    }

    /// Every sequence of events up to a length, beside a naive account of the same story.
    #[test]
    fn in_every_story_the_slot_is_freed_once_and_only_after_the_kernel_let_go() {
        let mut stories = 0;
        let mut open = vec![(State::new(true), Vec::new()), (State::new(false), Vec::new())];
        while let Some((state, story)) = open.pop() {
            if story.len() == 7 {
                continue;
            }
            for event in Event::ALL {
                let mut next = state;
                let step = next.step(event);
                let mut told = story.clone();
                told.push(event);
                if !possible(state, event) {
                    assert_eq!((next, step), (state, Step::Nothing), "{told:?}");
                    continue;
                }
                stories += 1;
                check(state, event, step, next, &told);
                let freed =
                    matches!(step, Step::Free | Step::WithdrawAndFree | Step::DisposeAndFree);
                if !freed {
                    open.push((next, told));
                }
            }
        }
        assert!(stories > 500, "only {stories} stories were told");
    }

    fn check(state: State, event: Event, step: Step, next: State, story: &[Event]) {
        let freed = matches!(step, Step::Free | Step::WithdrawAndFree | Step::DisposeAndFree);
        // D5: free only when the kernel has let go, and only when no handle is left.
        assert!(!freed || (next.phase == Phase::Terminal && next.orphan), "{story:?}");
        assert!(freed || !(next.phase == Phase::Terminal && next.orphan), "leaked: {story:?}");
        // D1, D4: a result is delivered to whoever is left, and never lost.
        let result = matches!(event, Event::More | Event::Terminal);
        let handled = matches!(step, Step::Deliver | Step::Dispose | Step::DisposeAndFree);
        assert_eq!(result, handled, "{story:?}");
        assert_eq!(step == Step::Deliver, result && !state.orphan, "{story:?}");
        // One cancel request at a time, never before the operation was pushed, and another only
        // after the former one has missed.
        let asked = story.iter().filter(|e| matches!(e, Event::Cancel | Event::Orphaned)).count();
        let again = event == Event::CancelMissed;
        let allowed = state.in_kernel() && (again || asked == 1);
        assert!(step != Step::QueueCancel || allowed, "{story:?}");
        assert!(state.cancellable || step != Step::QueueCancel, "{story:?}");
        // D6: what the kernel has not seen is withdrawn, and nothing else is.
        let withdrawn = matches!(step, Step::Withdraw | Step::WithdrawAndFree);
        let quit = matches!(event, Event::Cancel | Event::Orphaned) && state.cancellable;
        assert_eq!(withdrawn, quit && state.phase == Phase::Queued, "{story:?}");
    }
}
