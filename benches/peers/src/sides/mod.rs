//! Who serves: one echo server for each side, as its users would write it.
//!
//! All of them have one thread, 16 KiB per read, and `TCP_NODELAY`.

mod by_compio;
mod by_glommio;
mod by_hand;
mod by_monoio;
mod by_smol;
mod by_tokio;
mod by_trine;

use std::error::Error;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::pools::Shape;

/// Bytes of one read.
const BUFFER: usize = 16 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Hand,
    Trine,
    Tokio,
    Smol,
    Monoio,
    Compio,
    Glommio,
}

impl Side {
    pub const ALL: [Side; 7] = [
        Side::Hand,
        Side::Trine,
        Side::Tokio,
        Side::Smol,
        Side::Monoio,
        Side::Compio,
        Side::Glommio,
    ];

    pub fn parse(name: &str) -> Option<Side> {
        Side::ALL.into_iter().find(|side| side.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Side::Hand => "hand",
            Side::Trine => "trine",
            Side::Tokio => "tokio",
            Side::Smol => "smol",
            Side::Monoio => "monoio",
            Side::Compio => "compio",
            Side::Glommio => "glommio",
        }
    }

    /// The crate it is made of.
    pub fn package(self) -> &'static str {
        if self == Side::Hand { "io-uring" } else { self.name() }
    }

    /// Serves on this core, to which the thread is pinned, as long as nothing goes wrong. `pool` is
    /// for trine, which else has its own.
    pub fn serve(self, core: usize, pool: Option<Shape>) -> Served {
        match self {
            Side::Hand => by_hand::serve(),
            Side::Trine => by_trine::serve(pool),
            Side::Tokio => by_tokio::serve(),
            Side::Smol => by_smol::serve(),
            Side::Monoio => by_monoio::serve(),
            Side::Compio => by_compio::serve(),
            Side::Glommio => by_glommio::serve(core),
        }
    }
}

/// A server ends only by an error.
pub type Served = Result<(), Box<dyn Error>>;

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Side {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
