//! No io_uring here: the cause and the remedy.

use std::io;

/// This machine gives no io_uring that trine can use.
///
/// Its text names the cause and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("io_uring is not available: {cause}. {remedy} ({source})")]
pub struct Unavailable {
    cause: String,
    remedy: String,
    source: io::Error,
}

impl Unavailable {
    pub(crate) fn new(
        cause: impl Into<String>,
        remedy: impl Into<String>,
        source: io::Error,
    ) -> Self {
        Unavailable { cause: cause.into(), remedy: remedy.into(), source }
    }

    /// What stands in the way.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What to do about it.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// What the kernel answered.
    pub fn os_error(&self) -> &io::Error {
        &self.source
    }
}
