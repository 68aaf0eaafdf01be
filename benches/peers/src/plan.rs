//! What is measured: how many connections, which messages, which load.

use std::fmt;

use serde::Serialize;

use crate::sides::Side;

/// One line of the table to come.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Plan {
    pub name: &'static str,
    pub connections: usize,
    /// Bytes of a request, and of its answer.
    pub message: usize,
    pub work: Work,
    /// Told with the verdicts.
    #[serde(skip)]
    pub aims: &'static [Aim],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Work {
    /// Each connection has so many requests under way, and sends the next when one is answered.
    Closed(usize),
    /// So many requests a second, all connections together, whatever is answered.
    Open(u32),
    /// Connects, sends one message, gets it back, closes, and begins anew: a "request" is all of it,
    /// and `connections` go on at a time.
    Connect,
    /// Each connection has sent one message, and is silent.
    Idle,
}

/// What trine should reach.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Aim {
    /// Processor time per request, as a multiple of another side's.
    Processor { of: Side, most: f64 },
    /// Bytes for each idle connection.
    Memory { most: f64 },
}

use Work::{Closed, Connect, Idle, Open};

const NONE: &[Aim] = &[];
const HAND: Aim = Aim::Processor { of: Side::Hand, most: 1.05 };
const TOKIO: Aim = Aim::Processor { of: Side::Tokio, most: 0.85 };
const TOKIO_BIG: Aim = Aim::Processor { of: Side::Tokio, most: 0.88 };
const MEMORY: Aim = Aim::Memory { most: 1024.0 };
const KIB: usize = 1024;

pub const PLANS: &[Plan] = &[
    plan("64B-1", 1, 64, Closed(1), NONE),
    plan("64B-64", 64, 64, Closed(1), &[HAND]),
    plan("64B-1000", 1_000, 64, Closed(1), &[HAND, TOKIO]),
    plan("64B-8000", 8_000, 64, Closed(1), &[HAND, TOKIO]),
    plan("1KiB-1", 1, KIB, Closed(1), NONE),
    plan("1KiB-64", 64, KIB, Closed(1), NONE),
    plan("1KiB-1000", 1_000, KIB, Closed(1), NONE),
    plan("1KiB-8000", 8_000, KIB, Closed(1), NONE),
    plan("16KiB-1", 1, 16 * KIB, Closed(1), NONE),
    plan("16KiB-64", 64, 16 * KIB, Closed(1), &[TOKIO_BIG]),
    plan("16KiB-1000", 1_000, 16 * KIB, Closed(1), NONE),
    plan("16KiB-8000", 8_000, 16 * KIB, Closed(1), NONE),
    plan("open-64", 64, 64, Open(40_000), &[HAND]),
    plan("open-1000", 1_000, 64, Open(40_000), &[HAND]),
    plan("open-8000", 8_000, 64, Open(40_000), &[HAND]),
    plan("pipelined", 64, 64, Closed(16), NONE),
    plan("connect", 64, 64, Connect, NONE),
    plan("idle", 8_000, 64, Idle, &[MEMORY]),
];

/// What pools of receive buffers are compared with.
pub const POOLS: &[Plan] = &[
    plan("64B-64", 64, 64, Closed(1), NONE),
    plan("64B-1000", 1_000, 64, Closed(1), NONE),
    plan("64B-8000", 8_000, 64, Closed(1), NONE),
    plan("1KiB-64", 64, KIB, Closed(1), NONE),
    plan("1KiB-1000", 1_000, KIB, Closed(1), NONE),
    plan("1KiB-8000", 8_000, KIB, Closed(1), NONE),
    plan("16KiB-64", 64, 16 * KIB, Closed(1), NONE),
    plan("16KiB-1000", 1_000, 16 * KIB, Closed(1), NONE),
    plan("16KiB-8000", 8_000, 16 * KIB, Closed(1), NONE),
    plan("256KiB-64", 64, 256 * KIB, Closed(1), NONE),
    plan("256KiB-1000", 1_000, 256 * KIB, Closed(1), NONE),
    plan("256KiB-8000", 8_000, 256 * KIB, Closed(1), NONE),
];

/// One of each kind, small; the first two also for pools.
pub const SMOKE: &[Plan] = &[
    plan("64B-16", 16, 64, Closed(1), NONE),
    plan("16KiB-16", 16, 16 * KIB, Closed(1), NONE),
    plan("open-16", 16, 64, Open(2_000), NONE),
    plan("pipelined", 4, 64, Closed(16), NONE),
    plan("connect", 4, 64, Connect, NONE),
    plan("idle", 100, 64, Idle, NONE),
];

const fn plan(
    name: &'static str,
    connections: usize,
    message: usize,
    work: Work,
    aims: &'static [Aim],
) -> Plan {
    Plan { name, connections, message, work, aims }
}

impl Plan {
    /// Whether it is called this, or is one of a family that is: `open` selects `open-64`.
    pub fn is(&self, name: &str) -> bool {
        self.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { connections, message, work, .. } = *self;
        let size = match message {
            KIB.. => format!("{} KiB", message / KIB),
            _ => format!("{message} B"),
        };
        let many = match connections {
            1 => "1 connection".to_owned(),
            _ => format!("{connections} connections"),
        };
        match work {
            Closed(1) => write!(f, "{many}, {size}, closed loop"),
            Closed(outstanding) => write!(f, "{many}, {size}, {outstanding} outstanding each"),
            Open(rate) => write!(f, "{many}, {size}, {rate} requests/s"),
            Connect => write!(f, "connect, {size}, close; {connections} at a time"),
            Idle => write!(f, "{many}, silent after {size}"),
        }
    }
}
