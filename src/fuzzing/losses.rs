//! What a kernel that loses connections does, and which errors it may tell.

use crate::error::Error;
use crate::ring::twin::Faults;

use super::program::{Action, Program};

/// What may go wrong in the simulated world of a program. Its transfers are few, so connections break
/// far more often than in a world for long ones.
pub(super) fn faults(program: &Program) -> Faults {
    if program.loses {
        Faults { reset: 32, connect_fails: 64, accept_errors: 48, ..Faults::wild() }
    } else {
        Faults::lossless()
    }
}

/// Whether an operation may end with this error.
pub(super) fn may_come(action: Action, error: &Error, loses: bool) -> bool {
    match error {
        Error::Cancelled(_) | Error::Busy(_) | Error::Broken(_) | Error::Closed(_) => true,
        Error::Io(error) => match error.raw_os_error() {
            // Somebody has shut the other half, and bytes are missing.
            None => {
                let is_end = error.kind() == std::io::ErrorKind::UnexpectedEof;
                is_end && matches!(action, Action::ReadExact(..))
            }
            // It was cancelled, and then it was not (rule D4).
            Some(libc::ECONNABORTED) if action == Action::Connect => true,
            Some(errno) => loses && losses(action).contains(&errno),
        },
        _ => false,
    }
}

/// What an operation is told of a connection that breaks or does not come about. What concerns one
/// connection in a backlog the listener keeps for itself.
fn losses(action: Action) -> &'static [i32] {
    match action {
        Action::Recv(_) | Action::Read(..) | Action::ReadExact(..) => &[libc::ECONNRESET],
        Action::Write(..) | Action::WriteAll(..) => &[libc::ECONNRESET, libc::EPIPE],
        Action::Shutdown(_) => &[libc::ENOTCONN],
        Action::Accept => &[libc::EMFILE, libc::ENOBUFS],
        Action::Connect => {
            &[libc::ECONNREFUSED, libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ECONNRESET]
        }
        _ => &[],
    }
}

/// Whether the error says that a connection is no more.
pub(super) fn is_reset(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.raw_os_error() == Some(libc::ECONNRESET))
}
