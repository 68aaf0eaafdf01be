//! Descriptors under way: what a message has beside its bytes.
//!
//! Divergence: sockets that are sent through themselves are never found to be of nobody.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use crate::slots::Key;

use super::super::request::Region;
use super::files::File;
use super::machine::Machine;
use super::memory;

/// The files of the descriptors of a message, each held.
pub(super) type Rights = Vec<Key<File>>;

/// Those of a stream, in order. They come with the first byte that they were sent with.
#[derive(Default)]
pub(super) struct Enclosed {
    letters: VecDeque<Letter>,
}

/// Bytes of a stream, counted from its beginning, and what was sent with them.
struct Letter {
    begin: u64,
    end: u64,
    rights: Rights,
}

impl Enclosed {
    /// These go with the bytes from `begin` to `end`.
    pub(super) fn add(&mut self, begin: u64, end: u64, rights: Rights) {
        if !rights.is_empty() {
            self.letters.push_back(Letter { begin, end, rights });
        }
    }

    /// Where a receive ends that has room for more: behind the bytes with which rights were sent.
    pub(super) fn end(&self) -> Option<u64> {
        self.letters.front().map(|letter| letter.end)
    }

    /// What comes with the bytes up to there.
    pub(super) fn take(&mut self, up_to: u64) -> Rights {
        match self.letters.front() {
            Some(letter) if letter.begin < up_to => {
                self.letters.pop_front().map(|letter| letter.rights).unwrap_or_default()
            }
            _ => Rights::new(),
        }
    }

    pub(super) fn take_all(&mut self) -> Rights {
        self.letters.drain(..).flat_map(|letter| letter.rights).collect()
    }
}

impl Machine {
    /// The files of descriptors that are being sent, held from now on.
    pub(super) fn hold_rights(&mut self, numbers: &[RawFd]) -> Result<Rights, i32> {
        let files: Option<Rights> = numbers.iter().map(|fd| self.files.find(*fd)).collect();
        let files = files.ok_or(libc::EBADF)?;
        files.iter().for_each(|file| self.hold_file(*file));
        Ok(files)
    }

    /// Nobody gets them.
    pub(super) fn release_rights(&mut self, rights: Rights) {
        rights.into_iter().for_each(|file| self.release_file(file));
    }

    /// Gives them to whoever receives this message, with what else there is beside its bytes. Those for which
    /// there is no room, or no number, are lost, and the message says so.
    pub(super) fn deliver_rights(&mut self, message: Region, rights: Rights, segment: Option<u16>) {
        let room = memory::room_for_descriptors(message);
        let (mut numbers, mut lost) = (Vec::new(), false);
        for file in rights {
            let named =
                if lost || numbers.len() == room { None } else { self.name_file(file).ok() };
            match named {
                Some(fd) => numbers.push(fd),
                None => {
                    lost = true;
                    self.release_file(file);
                }
            }
        }
        memory::write_control(message, &numbers, lost, segment);
    }
}
