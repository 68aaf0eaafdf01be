//! Several errors as one.

use std::error::Error as StdError;
use std::fmt;

use super::Error;

/// The errors of several children, in order of arrival; the first leads (rule M4).
///
/// Its `source()` is the leader's: what is attached to the leader is not its cause.
#[derive(Debug)]
pub struct Group {
    /// Never empty, and none of them a group.
    errors: Vec<Error>,
}

impl Group {
    /// The errors as one: a single error stays itself.
    ///
    /// # Panics
    /// If there is no error at all, which is a bug of the caller.
    pub(super) fn gather(errors: Vec<Error>) -> Error {
        let mut leaves = Vec::with_capacity(errors.len());
        for error in errors {
            match error {
                Error::Group(group) => leaves.extend(group.errors),
                error => leaves.push(error),
            }
        }
        if leaves.len() > 1 {
            return Error::Group(Group { errors: leaves });
        }
        leaves.pop().expect("a group of errors needs at least one")
    }

    /// The first error that arrived.
    pub fn lead(&self) -> &Error {
        &self.errors[0]
    }

    /// All of them, in order of arrival.
    pub fn errors(&self) -> &[Error] {
        &self.errors
    }

    /// All of them, in order of arrival.
    pub fn into_errors(self) -> Vec<Error> {
        self.errors
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.lead())?;
        for (n, error) in self.errors.iter().enumerate().skip(1) {
            write!(f, "; also ({} of {}): {error}", n + 1, self.errors.len())?;
        }
        Ok(())
    }
}

impl StdError for Group {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.lead().source()
    }
}
