//! What was set on a socket. It is remembered, and means nothing here but for a linger of zero.

use std::time::Duration;

use super::super::socket::{OptionName, OptionValue};

/// The options of a socket; what is accepted inherits them from the listener.
#[derive(Clone, Default)]
pub(super) struct Options {
    set: Vec<(OptionName, OptionValue)>,
}

/// The options whose value is not zero until somebody sets it, as a plain Linux has them.
const UNUSUAL: [(OptionName, libc::c_int); 12] = [
    (socket(libc::SO_RCVBUF), 131_072),
    (socket(libc::SO_SNDBUF), 16_384),
    (OptionName { level: libc::IPPROTO_IP, name: libc::IP_TTL }, 64),
    (OptionName { level: libc::IPPROTO_IPV6, name: libc::IPV6_UNICAST_HOPS }, 64),
    (OptionName { level: libc::IPPROTO_IP, name: libc::IP_MULTICAST_TTL }, 1),
    (OptionName { level: libc::IPPROTO_IPV6, name: libc::IPV6_MULTICAST_HOPS }, 1),
    (OptionName { level: libc::IPPROTO_IP, name: libc::IP_MULTICAST_LOOP }, 1),
    (OptionName { level: libc::IPPROTO_IPV6, name: libc::IPV6_MULTICAST_LOOP }, 1),
    (tcp(libc::TCP_KEEPIDLE), 7200),
    (tcp(libc::TCP_KEEPINTVL), 75),
    (tcp(libc::TCP_KEEPCNT), 9),
    (tcp(libc::TCP_QUICKACK), 1),
];

/// The congestion controls that are there without asking for a module, the usual one first.
const CONGESTION_CONTROLS: [&[u8]; 2] = [b"cubic", b"reno"];

/// What `net.core.rmem_max` and `wmem_max` usually are.
const MOST_BUFFER: libc::c_int = 212_992;

const LINGER: OptionName = socket(libc::SO_LINGER);

impl Options {
    /// Of a socket for datagrams or within the machine, whose buffers begin larger.
    pub(super) fn of_datagrams() -> Options {
        let buffer = OptionValue::number(MOST_BUFFER);
        Options {
            set: [libc::SO_RCVBUF, libc::SO_SNDBUF].map(|name| (socket(name), buffer)).into(),
        }
    }

    pub(super) fn get(&self, of: OptionName) -> OptionValue {
        let set = self.set.iter().find(|(name, _)| *name == of);
        set.map_or_else(|| unset(of), |(_, value)| *value)
    }

    pub(super) fn set(&mut self, of: OptionName, value: OptionValue) -> Result<(), i32> {
        let value = taken(of, value)?;
        match self.set.iter_mut().find(|(name, _)| *name == of) {
            Some((_, former)) => *former = value,
            None => self.set.push((of, value)),
        }
        Ok(())
    }

    pub(super) fn is_on(&self, of: OptionName) -> bool {
        self.get(of).as_number() != 0
    }

    pub(super) fn linger(&self) -> Option<Duration> {
        let [on, seconds] = self.get(LINGER).as_pair();
        (on != 0).then_some(Duration::from_secs(seconds.unsigned_abs().into()))
    }

    /// Closing will reset the connection.
    pub(super) fn reset_on_close(&mut self) {
        self.set.push((LINGER, OptionValue::pair([1, 0])));
    }
}

fn unset(of: OptionName) -> OptionValue {
    if of == tcp(libc::TCP_CONGESTION) {
        return OptionValue::new(CONGESTION_CONTROLS[0]);
    }
    let unusual = UNUSUAL.iter().find(|(name, _)| *name == of);
    OptionValue::pair([unusual.map_or(0, |(_, value)| *value), 0])
}

/// What Linux makes of a value.
fn taken(of: OptionName, value: OptionValue) -> Result<OptionValue, i32> {
    const SECONDS: std::ops::RangeInclusive<libc::c_int> = 1..=32_767;
    let number = value.as_number();
    let fits = match (of.level, of.name) {
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE | libc::TCP_KEEPINTVL) => SECONDS.contains(&number),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => (1..=127).contains(&number),
        (libc::IPPROTO_IP, libc::IP_TTL) => (1..=255).contains(&number) || number == -1,
        (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL)
        | (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS | libc::IPV6_MULTICAST_HOPS) => {
            (-1..=255).contains(&number)
        }
        (libc::SOL_UDP, libc::UDP_SEGMENT) => (0..=0xffff).contains(&number),
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => {
            let known = CONGESTION_CONTROLS.contains(&value.as_bytes());
            return known.then_some(value).ok_or(libc::ENOENT);
        }
        // Twice as much, for what it needs besides the bytes.
        (libc::SOL_SOCKET, libc::SO_RCVBUF) => {
            return Ok(OptionValue::number((number.clamp(0, MOST_BUFFER) * 2).max(2_304)));
        }
        (libc::SOL_SOCKET, libc::SO_SNDBUF) => {
            return Ok(OptionValue::number((number.clamp(0, MOST_BUFFER) * 2).max(4_608)));
        }
        _ => true,
    };
    fits.then_some(value).ok_or(libc::EINVAL)
}

const fn socket(name: libc::c_int) -> OptionName {
    OptionName { level: libc::SOL_SOCKET, name }
}

const fn tcp(name: libc::c_int) -> OptionName {
    OptionName { level: libc::IPPROTO_TCP, name }
}
