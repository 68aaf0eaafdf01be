//! Other ecosystems: their futures as operations of ours, and what we wait for as their streams.

mod cancellable;
#[cfg(feature = "stream")]
mod stream;

pub use cancellable::cancellable;
#[cfg(feature = "stream")]
pub use stream::stream;
