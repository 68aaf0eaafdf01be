//! What every operation declares at compile time.

/// What being cancelled means for an operation (rule D2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CancelClass {
    /// All or nothing: cancelled means that nothing happened.
    Total,
    /// The error says how much was done.
    Partial,
    /// The object is good for nothing but closing, and is closed.
    Terminal,
}

/// What becomes of a result that came when nobody was left to take it (rule D7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Disposer {
    /// The result is a number and is forgotten.
    Forget,
    /// The result is a descriptor, which is closed.
    CloseDescriptor,
    /// The result names a buffer of the pool, which goes back.
    ReturnBuffer,
}

/// One kind of operation.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) class: CancelClass,
    /// Whether it may be submitted again after an interruption nobody asked for (rule D4).
    pub(crate) repeatable: bool,
    /// Whether it may be stopped at all.
    pub(crate) cancellable: bool,
    pub(crate) disposer: Disposer,
    /// Whether the kernel waits for it by polling. Then a cancel that missed it, although it has not
    /// ended, is sent again; what is in a device's hands would miss it until the very end.
    pub(crate) polled: bool,
    /// Results of a multishot that may wait to be taken before it is paused.
    pub(crate) unread: usize,
    /// And what these may add up to: bytes, where a result is a number of them.
    pub(crate) unread_bytes: usize,
}

impl Kind {
    pub(crate) const NOP: Kind = Kind { polled: false, ..Kind::total("nop", Disposer::Forget) };
    pub(crate) const ACCEPT: Kind = Kind::total("accept", Disposer::CloseDescriptor);
    /// Of messages as large as a buffer of the largest kind one may wait while the next one comes.
    pub(crate) const RECV: Kind =
        Kind { unread_bytes: 512 << 10, ..Kind::total("recv", Disposer::ReturnBuffer) };
    pub(crate) const READ: Kind = Kind::total("read", Disposer::Forget);
    pub(crate) const SEND: Kind =
        Kind { class: CancelClass::Partial, ..Kind::total("send", Disposer::Forget) };
    pub(crate) const WRITE: Kind =
        Kind { class: CancelClass::Partial, ..Kind::total("write", Disposer::Forget) };
    pub(crate) const CONNECT: Kind = Kind {
        class: CancelClass::Terminal,
        repeatable: false,
        ..Kind::total("connect", Disposer::Forget)
    };
    pub(crate) const SHUTDOWN: Kind =
        Kind { cancellable: false, ..Kind::total("shutdown", Disposer::Forget) };
    /// An interrupted close has closed: again would close what has got the number meanwhile.
    pub(crate) const CLOSE: Kind =
        Kind { repeatable: false, cancellable: false, ..Kind::total("close", Disposer::Forget) };

    const fn total(name: &'static str, disposer: Disposer) -> Kind {
        Kind {
            name,
            class: CancelClass::Total,
            repeatable: true,
            cancellable: true,
            disposer,
            polled: true,
            unread: 16,
            unread_bytes: usize::MAX,
        }
    }
}
