//! Bytes that have come and that nobody has taken yet.

use std::collections::VecDeque;
use std::io::BufRead;
use std::mem;

use crate::op::Chunk;

/// They stay in the chunks in which they came, but for little ones: those are copied together, so that
/// a peer who sends a byte at a time does not fill the memory with chunks of one byte.
#[derive(Default)]
pub(super) struct Pieces {
    chunks: VecDeque<Chunk>,
    /// What came behind them in little pieces.
    tail: Vec<u8>,
    len: usize,
}

/// Up to so many bytes are copied: less work than to keep them in a place of their own.
const LITTLE: usize = 1024;

impl Pieces {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, chunk: Chunk) {
        self.len += chunk.len();
        if chunk.len() < LITTLE && self.len > chunk.len() {
            self.tail.extend_from_slice(&chunk);
        } else if !chunk.is_empty() {
            self.close_tail();
            self.chunks.push_back(chunk);
        }
    }

    /// They may lie here for long: then a few bytes are no reason to keep a buffer of the pool.
    pub(super) fn settle(&mut self) {
        if self.len < LITTLE && !self.chunks.is_empty() {
            self.tail = self.copy(self.len);
            self.chunks.clear();
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(Chunk::from_vec(mem::take(&mut self.tail)));
        }
    }

    /// Takes what lies together at the front, if there is anything.
    pub(super) fn take_first(&mut self) -> Option<Chunk> {
        if self.chunks.is_empty() {
            self.close_tail();
        }
        let first = self.chunks.pop_front()?;
        self.len -= first.len();
        Some(first)
    }

    /// Takes the first `count` bytes; they are copied only if they lie in several pieces.
    pub(super) fn take(&mut self, count: usize) -> Chunk {
        if self.chunks.is_empty() {
            self.close_tail();
        }
        match self.chunks.front_mut() {
            Some(first) if first.len() > count => {
                self.len -= count;
                first.split_to(count)
            }
            Some(first) if first.len() == count => self.take_first().expect("it was seen"),
            _ => {
                let bytes = self.copy(count);
                self.skip(count);
                Chunk::from_vec(bytes)
            }
        }
    }

    /// Forgets the first `count` bytes.
    pub(super) fn skip(&mut self, mut count: usize) {
        assert!(count <= self.len, "cannot skip {count} of {} bytes", self.len);
        self.len -= count;
        while let Some(first) = self.chunks.front_mut() {
            let here = first.len().min(count);
            first.advance(here);
            count -= here;
            if !first.is_empty() {
                return;
            }
            self.chunks.pop_front();
        }
        self.tail.drain(..count);
    }

    /// A copy of the first `count` bytes.
    pub(super) fn copy(&self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count);
        for piece in self.slices() {
            let here = piece.len().min(count - bytes.len());
            bytes.extend_from_slice(&piece[..here]);
        }
        bytes
    }

    /// The pieces, in order.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(|chunk| &**chunk).chain([&self.tail[..]])
    }

    /// Where the first delimiter ends that ends after `from` and not after `limit`.
    pub(super) fn find(&self, delimiter: &[u8], from: usize, limit: usize) -> Option<usize> {
        let last = *delimiter.last().expect("a delimiter has a byte at least");
        let mut begin = 0;
        for piece in self.slices() {
            let piece = &piece[..piece.len().min(limit.saturating_sub(begin))];
            let mut at = piece.len().min(from.saturating_sub(begin));
            while at < piece.len() {
                at += (&piece[at..]).skip_until(last).expect("reading memory does not fail");
                if piece[at - 1] != last {
                    break;
                }
                if piece[..at].ends_with(delimiter) || self.ends_across(delimiter, begin + at, at) {
                    return Some(begin + at);
                }
            }
            begin += piece.len();
        }
        None
    }

    /// Whether a delimiter ends at `end` that begins before the last `here` bytes of that.
    fn ends_across(&self, delimiter: &[u8], end: usize, here: usize) -> bool {
        let Some(begin) = end.checked_sub(delimiter.len()) else { return false };
        here < delimiter.len()
            && self.slices().flatten().skip(begin).take(delimiter.len()).eq(delimiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(of: &[&[u8]]) -> Pieces {
        let mut pieces = Pieces::default();
        for piece in of {
            pieces.chunks.push_back(Chunk::from_vec(piece.to_vec()));
            pieces.len += piece.len();
        }
        pieces
    }

    #[test]
    fn little_pieces_are_copied_together_and_large_ones_are_not() {
        let mut pieces = Pieces::default();
        for size in [10, 20, 30, 5000, 7, 2000, 9] {
            pieces.push(Chunk::from_vec(vec![size as u8; size]));
        }
        let sizes: Vec<_> = pieces.slices().map(<[u8]>::len).collect();
        assert_eq!(sizes, [10, 50, 5000, 7, 2000, 9]);
        assert_eq!(pieces.len(), 7076);
        assert_eq!(pieces.take(60).len(), 60);
        pieces.skip(5000);
        assert_eq!(*pieces.take_first().expect("there is more"), [7; 7]);
        pieces.skip(1500);
        pieces.settle();
        assert_eq!((pieces.chunks.len(), pieces.tail.len(), pieces.len()), (0, 509, 509));
        assert_eq!(pieces.take(509)[500..], [9; 9]);
        assert!(pieces.take_first().is_none());
    }

    /// Against looking at every place, however the bytes lie.
    /// Miri takes its time over each.
    const FEWER: usize = if cfg!(miri) { 6 } else { 1 };

    #[test]
    fn a_delimiter_is_found_wherever_it_is_cut() {
        let text = b"aab.abaab..ab";
        for delimiter in [&b"."[..], b"ab", b"aab", b"..", b"aab.abaab..ab", b"x", b"b."] {
            let cuts = || (0..=13_usize).step_by(FEWER);
            for (first, second) in cuts().flat_map(|n| cuts().map(move |m| (n, n.max(m)))) {
                let pieces = pieces(&[&text[..first], &text[first..second], &text[second..]]);
                let each = || (0..14).step_by(FEWER);
                for (from, limit) in each().flat_map(|n| each().map(move |m| (n, m))) {
                    let naive = (delimiter.len()..=13).find(|&end| {
                        end > from && end <= limit && text[..end].ends_with(delimiter)
                    });
                    assert_eq!(pieces.find(delimiter, from, limit), naive, "{delimiter:?}");
                }
            }
        }
    }
}
