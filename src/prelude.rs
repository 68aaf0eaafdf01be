//! What most programs want: `use trine::prelude::*`.

pub use crate::error::{Error, Result};
pub use crate::net::{TcpListener, TcpStream};
pub use crate::nursery::{Nursery, Started, nursery};
pub use crate::op::{IoBuf, IoBufMut};
pub use crate::runtime::run;
pub use crate::scope::{
    CancelScope, fail_after, fail_at, move_on_after, move_on_at, shield, shield_for,
};
pub use crate::time::{Instant, sleep, sleep_forever, sleep_until};
pub use std::time::Duration;
