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
    /// The same, of the pool for whole messages.
    ReturnMessage,
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
    /// Results of a multishot that may wait to be taken before it is paused.
    pub(crate) unread: usize,
    /// And what these may add up to: bytes, where a result is a number of them.
    pub(crate) unread_bytes: usize,
}

impl Kind {
    pub(crate) const NOP: Kind = Kind::total("nop", Disposer::Forget);
    pub(crate) const ACCEPT: Kind = Kind::total("accept", Disposer::CloseDescriptor);
    /// Of messages as large as a buffer of the largest kind one may wait while the next one comes.
    pub(crate) const RECV: Kind =
        Kind { unread_bytes: 512 << 10, ..Kind::total("recv", Disposer::ReturnBuffer) };
    pub(crate) const READ: Kind = Kind::total("read", Disposer::Forget);
    pub(crate) const SEND: Kind =
        Kind { class: CancelClass::Partial, ..Kind::total("send", Disposer::Forget) };
    pub(crate) const WRITE: Kind =
        Kind { class: CancelClass::Partial, ..Kind::total("write", Disposer::Forget) };
    /// Datagrams come in bursts, and what is not received in time may be dropped: more may wait.
    pub(crate) const RECV_MESSAGES: Kind = Kind {
        unread: 64,
        unread_bytes: 512 << 10,
        ..Kind::total("recvmsg", Disposer::ReturnMessage)
    };
    pub(crate) const RECV_MESSAGE: Kind = Kind::total("recvmsg", Disposer::Forget);
    /// A datagram goes out whole, or not at all.
    pub(crate) const SEND_MESSAGE: Kind = Kind::total("sendmsg", Disposer::Forget);
    /// It blocks in a worker of the kernel, where a cancel interrupts it: what was moved is told.
    pub(crate) const SPLICE: Kind =
        Kind { class: CancelClass::Partial, ..Kind::total("splice", Disposer::Forget) };
    /// The same to a place of a file, where nothing makes it wait.
    pub(crate) const SPLICE_AT: Kind =
        Kind { class: CancelClass::Partial, ..Kind::total("splice", Disposer::Forget) };
    pub(crate) const CONNECT: Kind = Kind {
        class: CancelClass::Terminal,
        repeatable: false,
        ..Kind::total("connect", Disposer::Forget)
    };
    pub(crate) const POLL: Kind = Kind::total("poll", Disposer::Forget);
    /// Of a process that is dying: it is waited for in any case.
    pub(crate) const REAP: Kind =
        Kind { cancellable: false, ..Kind::total("reap", Disposer::Forget) };
    pub(crate) const SHUTDOWN: Kind =
        Kind { cancellable: false, ..Kind::total("shutdown", Disposer::Forget) };
    /// An interrupted close has closed: again would close what has got the number meanwhile.
    pub(crate) const CLOSE: Kind =
        Kind { repeatable: false, cancellable: false, ..Kind::total("close", Disposer::Forget) };

    pub(crate) const OPEN: Kind = Kind::total("open", Disposer::CloseDescriptor);
    pub(crate) const STAT: Kind = Kind::total("stat", Disposer::Forget);
    /// A read of a file, at a place of it.
    pub(crate) const READ_AT: Kind = Kind::total("read", Disposer::Forget);
    pub(crate) const WRITE_AT: Kind =
        Kind { class: CancelClass::Partial, ..Kind::total("write", Disposer::Forget) };
    pub(crate) const SYNC: Kind = Kind::total("sync", Disposer::Forget);
    pub(crate) const ALLOCATE: Kind = Kind::total("allocate", Disposer::Forget);
    pub(crate) const SET_LEN: Kind = Kind::total("set the length", Disposer::Forget);
    pub(crate) const ADVISE: Kind = Kind::total("advise", Disposer::Forget);
    pub(crate) const RENAME: Kind = Kind::of_name("rename");
    pub(crate) const LINK: Kind = Kind::of_name("link");
    pub(crate) const SYMLINK: Kind = Kind::of_name("symlink");
    pub(crate) const UNLINK: Kind = Kind::of_name("unlink");
    /// The same for what is left lying: it goes, whatever is cancelled.
    pub(crate) const TIDY: Kind = Kind { cancellable: false, ..Kind::UNLINK };
    pub(crate) const MAKE_DIR: Kind = Kind::of_name("make a directory");

    /// What was done to a name cannot be done to it again.
    const fn of_name(name: &'static str) -> Kind {
        Kind { repeatable: false, ..Kind::total(name, Disposer::Forget) }
    }

    pub(super) const fn total(name: &'static str, disposer: Disposer) -> Kind {
        Kind {
            name,
            class: CancelClass::Total,
            repeatable: true,
            cancellable: true,
            disposer,
            unread: 16,
            unread_bytes: usize::MAX,
        }
    }
}
