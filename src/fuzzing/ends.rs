//! How blocks, scopes and nurseries end, without what only concerns people.

use crate::error::Error;

use super::model::Why;

/// One error without parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Leaf {
    Cancelled,
    /// An error of the program's own.
    Number(u8),
    TooSlow(Why),
    NeverReady,
    /// What a program never passes on.
    Other(String),
}

/// How something ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    Value(u8),
    MovedOn,
    /// Never empty.
    Failed(Vec<Leaf>),
    Panicked,
}

/// An error of a program's own.
#[derive(Debug, thiserror::Error)]
#[error("error {0}")]
pub(super) struct Numbered(pub(super) u8);

pub(super) fn leaves(error: &Error) -> Vec<Leaf> {
    match error {
        Error::Cancelled(_) => vec![Leaf::Cancelled],
        Error::TooSlow(reason) => vec![Leaf::TooSlow(Why::of(reason))],
        Error::NeverReady(_) => vec![Leaf::NeverReady],
        Error::Group(group) => group.errors().iter().flat_map(leaves).collect(),
        Error::Other(error) => match error.downcast_ref::<Numbered>() {
            Some(Numbered(number)) => vec![Leaf::Number(*number)],
            None => vec![Leaf::Other(error.to_string())],
        },
        error => vec![Leaf::Other(error.to_string())],
    }
}

impl End {
    pub(super) fn of(result: &Result<u8, Error>) -> End {
        match result {
            Ok(value) => End::Value(*value),
            Err(error) => End::Failed(leaves(error)),
        }
    }

    /// What is left of it at the exit of a scope that absorbs (rules E2 to E5).
    pub(super) fn absorbed(self) -> End {
        match self {
            End::Failed(mut leaves) => {
                leaves.retain(|leaf| *leaf != Leaf::Cancelled);
                if leaves.is_empty() { End::MovedOn } else { End::Failed(leaves) }
            }
            end => end,
        }
    }
}
