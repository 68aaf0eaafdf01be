//! What happened, in order: a hash over all of it, and the last part as text.

use std::collections::VecDeque;
use std::fmt::{self, Write};

use crate::clock::Instant;

use super::super::Token;

/// What an entry is about. Two numbers go with each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    /// An operation was taken: its token, its descriptor.
    Submit,
    /// A cancel was taken: the token of its target, and 0 or the error that answers it.
    Cancel,
    /// A completion became visible: its token, its result.
    Complete,
    /// The same, and more will follow.
    Result,
    /// A descriptor was made.
    Open,
    /// A descriptor was closed.
    Close,
    /// A connection was established: its index, the port of the client.
    Connect,
    /// A connection was refused or given up: its index, the error.
    Refuse,
    /// Bytes went into a connection: its index and side, how many.
    Send,
    /// Bytes were taken out of a connection.
    Receive,
    /// Bytes went into a pipe: its index, how many.
    Fill,
    /// Bytes were taken out of one.
    Drain,
    /// Bytes arrived, or an end (-1), or a reset (-2).
    Arrive,
    /// A datagram was sent, has arrived, was received or lost: the port, how many bytes.
    Datagram,
    /// The kernel scribbled over memory that it has: the token.
    Scribble,
    /// A program's own words: their number.
    Note,
}

#[derive(Clone, Copy)]
struct Entry {
    at: Instant,
    deed: Deed,
    what: &'static str,
    subject: u64,
    number: i64,
}

pub(super) struct Journal {
    hash: u64,
    last: VecDeque<Entry>,
    notes: VecDeque<String>,
    /// How many notes were dropped at the front.
    notes_gone: u64,
    start: Instant,
}

/// Entries that the timeline shows.
const KEPT: usize = 400;

impl Journal {
    pub(super) fn new(start: Instant) -> Journal {
        Journal {
            hash: 0x51_7c_c1_b7_27_22_0a_95,
            last: VecDeque::with_capacity(KEPT),
            notes: VecDeque::new(),
            notes_gone: 0,
            start,
        }
    }

    /// `what` is for the reader only; the hash is of the rest.
    pub(super) fn record(
        &mut self,
        at: Instant,
        deed: Deed,
        what: &'static str,
        subject: u64,
        number: i64,
    ) {
        let time = at.saturating_duration_since(self.start).as_nanos() as u64;
        self.mix(time << 8 | deed as u64);
        self.mix(subject);
        self.mix(number as u64);
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(Entry { at, deed, what, subject, number });
    }

    pub(super) fn note(&mut self, at: Instant, text: String) {
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        let number = self.notes_gone + self.notes.len() as u64;
        self.notes.push_back(text);
        if self.notes.len() > KEPT {
            self.notes.pop_front();
            self.notes_gone += 1;
        }
        self.record(at, Deed::Note, "", number, 0);
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash ^ self.hash >> 32
    }

    /// The last entries, one a line, each with the time since the start.
    pub(super) fn timeline(&self) -> String {
        let mut text = String::new();
        for entry in &self.last {
            let since = entry.at.saturating_duration_since(self.start);
            let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
            let words = Words { entry, journal: self };
            writeln!(text, "{seconds}.{nanos:09} s  {words}").expect("a string takes everything");
        }
        text
    }
}

struct Words<'a> {
    entry: &'a Entry,
    journal: &'a Journal,
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { deed, what, subject, number, .. } = *self.entry;
        let token = Token::from_bits(subject);
        let operation = format_args!("{}.{}", token.index(), token.generation()).to_string();
        let side = if subject & 1 == 0 { "client" } else { "server" };
        let end = format_args!("connection {} {side}", subject >> 1).to_string();
        match deed {
            Deed::Submit if number < 0 => write!(f, "{operation} {what} submitted"),
            Deed::Submit => write!(f, "{operation} {what} submitted for descriptor {number}"),
            Deed::Cancel if number == 0 => write!(f, "{operation} cancelled"),
            Deed::Cancel => write!(f, "{operation} cancel answered {}", name(number)),
            Deed::Complete => write!(f, "{operation} ended with {}", name(number)),
            Deed::Result => write!(f, "{operation} answered {}, more to come", name(number)),
            Deed::Open => write!(f, "descriptor {subject} made: {what}"),
            Deed::Close => write!(f, "descriptor {subject} closed"),
            Deed::Connect => {
                write!(f, "connection {} established from port {number}", subject >> 1)
            }
            Deed::Refuse => write!(f, "connection {} failed: {}", subject >> 1, name(number)),
            Deed::Send => write!(f, "{end} sends {number}"),
            Deed::Receive => write!(f, "{end} receives {number}"),
            Deed::Fill => write!(f, "{number} go into pipe {subject}"),
            Deed::Drain => write!(f, "{number} come out of pipe {subject}"),
            Deed::Arrive if number == -1 => write!(f, "{end}: the end arrives"),
            Deed::Arrive if number == -2 => write!(f, "{end}: a reset arrives"),
            Deed::Arrive => write!(f, "{end}: {number} arrive"),
            Deed::Datagram => write!(f, "a datagram of {number} {what} port {subject}"),
            Deed::Scribble => write!(f, "{operation} has its memory scribbled over"),
            Deed::Note => {
                let at = subject.checked_sub(self.journal.notes_gone);
                let note = at.and_then(|at| self.journal.notes.get(at as usize));
                f.write_str(note.map_or("(a note)", String::as_str))
            }
        }
    }
}

/// The errors that operations answer with, by their names.
fn name(result: i64) -> String {
    let errno = i32::try_from(-result).unwrap_or(0);
    let name = match errno {
        libc::EAFNOSUPPORT => "EAFNOSUPPORT",
        libc::EALREADY => "EALREADY",
        libc::EBADF => "EBADF",
        libc::ECANCELED => "ECANCELED",
        libc::ECONNABORTED => "ECONNABORTED",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::ECONNRESET => "ECONNRESET",
        libc::EINTR => "EINTR",
        libc::EINVAL => "EINVAL",
        libc::EMFILE => "EMFILE",
        libc::ENOBUFS => "ENOBUFS",
        libc::ENOENT => "ENOENT",
        libc::ENOTCONN => "ENOTCONN",
        libc::EPIPE => "EPIPE",
        libc::ETIMEDOUT => "ETIMEDOUT",
        _ => return result.to_string(),
    };
    name.to_owned()
}
