//! The choice tape: everything that is not determined is decided by its bytes.
//!
//! Zero is the tame choice, and past its end the tape is all zeros. So a tape that is cut, zeroed or
//! lowered is a tamer one, and the smallest that still shows a fault says what the fault needs.

use std::fmt;

/// What a choice is about. Each kind of choice has its own bytes, so that one more choice of one kind
/// does not shift those of the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// The order in which the runtime polls.
    Schedule,
    /// The order of completions, and what one pass brings.
    Order,
    /// When completions come.
    Delay,
    /// How much a transfer moves.
    Transfer,
    /// What cancels find.
    Cancel,
    /// Which faults there are, and when they strike.
    Fault,
    /// What the network does.
    Network,
    /// What the program under test does.
    Program,
}

impl Lane {
    pub(crate) const ALL: [Lane; 8] = [
        Lane::Schedule,
        Lane::Order,
        Lane::Delay,
        Lane::Transfer,
        Lane::Cancel,
        Lane::Fault,
        Lane::Network,
        Lane::Program,
    ];

    fn name(self) -> &'static str {
        match self {
            Lane::Schedule => "schedule",
            Lane::Order => "order",
            Lane::Delay => "delay",
            Lane::Transfer => "transfer",
            Lane::Cancel => "cancel",
            Lane::Fault => "fault",
            Lane::Network => "network",
            Lane::Program => "program",
        }
    }
}

/// The choices of one run: those to come, and those made.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    tracks: [Track; Lane::ALL.len()],
}

#[derive(Clone, Debug, Default)]
struct Track {
    bytes: Vec<u8>,
    /// How many were read.
    at: usize,
    /// Where more come from.
    source: Option<Random>,
}

/// Bytes that a seed yields for each lane; afterwards all is tame, so that every run ends calmly and
/// every tape can be printed.
const MOST_DRAWN: usize = 16 << 10;

impl Tape {
    /// Every choice is the tame one.
    pub fn tame() -> Tape {
        Tape::default()
    }

    /// Bytes are drawn as they are needed, and kept.
    pub fn from_seed(seed: u64) -> Tape {
        let mut tape = Tape::tame();
        for lane in Lane::ALL {
            tape.tracks[lane as usize].source = Some(Random::new(seed, lane as u64));
        }
        tape
    }

    /// Reads what [`Display`](fmt::Display) has printed.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Tape, String> {
        let mut tape = Tape::tame();
        if matches!(text.trim(), "" | "tame") {
            return Ok(tape);
        }
        for part in text.trim().split(',') {
            let (name, hex) =
                part.split_once(':').ok_or_else(|| format!("`{part}` is not `lane:bytes`"))?;
            let lane = Lane::ALL.into_iter().find(|lane| lane.name() == name);
            let lane = lane.ok_or_else(|| format!("there is no lane `{name}`"))?;
            let bytes = read_hex(hex).ok_or_else(|| format!("`{hex}` is not hexadecimal"))?;
            tape = tape.with(lane, bytes);
        }
        Ok(tape)
    }

    /// One of `options`; 0 if the tape is tame here.
    pub(crate) fn choose(&mut self, lane: Lane, options: u32) -> u32 {
        match options {
            0 | 1 => 0,
            2..=256 => u32::from(self.draw(lane)) % options,
            _ => {
                let bytes = [(); 4].map(|()| self.draw(lane));
                u32::from_le_bytes(bytes) % options
            }
        }
    }

    /// True with a probability of `chance` in 256; never if the tape is tame here.
    pub(crate) fn happens(&mut self, lane: Lane, chance: u8) -> bool {
        // What never happens costs no byte.
        chance > 0 && (1..=chance).contains(&self.draw(lane))
    }

    fn draw(&mut self, lane: Lane) -> u8 {
        let track = &mut self.tracks[lane as usize];
        if track.at == track.bytes.len() {
            match &mut track.source {
                Some(source) if track.at < MOST_DRAWN => track.bytes.push(source.next_byte()),
                _ => return 0,
            }
        }
        track.at += 1;
        track.bytes[track.at - 1]
    }

    /// The choices made so far, from the start, and tame ones after them.
    pub(crate) fn recorded(&self) -> Tape {
        let mut tape = Tape::tame();
        for lane in Lane::ALL {
            let track = &self.tracks[lane as usize];
            tape = tape.with(lane, track.bytes[..track.at].to_vec());
        }
        tape
    }

    /// The bytes of a lane without the zeros at the end.
    pub(crate) fn lane(&self, lane: Lane) -> &[u8] {
        let bytes = &self.tracks[lane as usize].bytes;
        &bytes[..bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)]
    }

    /// The same tape with other bytes in one lane, at the start.
    pub(crate) fn with(mut self, lane: Lane, bytes: Vec<u8>) -> Tape {
        self.tracks[lane as usize] = Track { bytes, at: 0, source: None };
        self
    }

    /// Bytes in all lanes, without the zeros at the ends.
    pub fn len(&self) -> usize {
        Lane::ALL.into_iter().map(|lane| self.lane(lane).len()).sum()
    }

    /// Whether it is the tame tape.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Tapes are equal if they make the same choices; one that still draws is what it has drawn.
impl PartialEq for Tape {
    fn eq(&self, other: &Tape) -> bool {
        Lane::ALL.into_iter().all(|lane| self.lane(lane) == other.lane(lane))
    }
}

impl fmt::Display for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for lane in Lane::ALL {
            let bytes = self.lane(lane);
            if bytes.is_empty() {
                continue;
            }
            write!(f, "{separator}{}:", lane.name())?;
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            separator = ",";
        }
        if separator.is_empty() { f.write_str("tame") } else { Ok(()) }
    }
}

fn read_hex(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        hex.chars().map(|digit| Some(digit.to_digit(16)? as u8)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// SplitMix64: small, and good enough to choose by.
#[derive(Clone, Debug)]
struct Random {
    state: u64,
    left: u64,
    bytes_left: u8,
}

impl Random {
    fn new(seed: u64, lane: u64) -> Random {
        // Neighbouring seeds must not begin alike: the state goes through the mixer once.
        let mut random = Random { state: seed ^ lane << 56, left: 0, bytes_left: 0 };
        random.state = random.next_word() ^ lane;
        random
    }

    fn next_byte(&mut self) -> u8 {
        if self.bytes_left == 0 {
            self.left = self.next_word();
            self.bytes_left = 8;
        }
        let byte = self.left as u8;
        self.left >>= 8;
        self.bytes_left -= 1;
        byte
    }

    fn next_word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDS: u32 = if cfg!(miri) { 50 } else { 200 };

    #[test]
    fn a_tape_survives_printing_and_parsing() {
        assert_eq!(Tape::tame().to_string(), "tame");
        assert_eq!(Tape::parse("tame").unwrap(), Tape::tame());
        let tape = Tape::parse("order:010300,cancel:00ff").unwrap();
        assert_eq!(tape.to_string(), "order:0103,cancel:00ff");
        assert_eq!(Tape::parse(&tape.to_string()).unwrap(), tape);
        assert_eq!(tape.len(), 4);
        assert_eq!(Tape::parse("network:0000").unwrap().to_string(), "tame");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["order", "order:1", "order:xy", "colour:01", "order:01,,"] {
            assert!(Tape::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn zero_is_tame_and_so_is_everything_past_the_end() {
        let mut tape = Tape::parse("order:0005,cancel:01").unwrap();
        assert_eq!(tape.choose(Lane::Order, 4), 0);
        assert_eq!(tape.choose(Lane::Order, 4), 1);
        assert_eq!(tape.choose(Lane::Order, 4), 0);
        assert!(!tape.happens(Lane::Cancel, 0), "no byte is read for what never happens");
        assert!(tape.happens(Lane::Cancel, 1));
        assert!(!tape.happens(Lane::Cancel, 255));
    }

    #[test]
    fn a_seed_is_replayed_by_what_was_recorded_of_it() {
        let mut first = Tape::from_seed(7);
        let mut made = Vec::new();
        for n in 1..ROUNDS {
            for lane in Lane::ALL {
                made.push(first.choose(lane, n * 7));
            }
        }
        let recorded = first.recorded();
        let mut again = Tape::parse(&recorded.to_string()).unwrap();
        let mut replayed = Vec::new();
        for n in 1..ROUNDS {
            for lane in Lane::ALL {
                replayed.push(again.choose(lane, n * 7));
            }
        }
        assert_eq!(made, replayed);
        assert_ne!(recorded, Tape::tame());
        let mut other = Tape::from_seed(8);
        for _ in 0..20 {
            other.choose(Lane::Order, 256);
        }
        assert_ne!(other.recorded().lane(Lane::Order), &recorded.lane(Lane::Order)[..20]);
    }

    #[test]
    fn a_seed_is_tame_in_the_end() {
        let mut tape = Tape::from_seed(1);
        for _ in 0..MOST_DRAWN {
            tape.choose(Lane::Order, 256);
        }
        assert!((0..1000).all(|_| tape.choose(Lane::Order, 256) == 0));
    }
}
