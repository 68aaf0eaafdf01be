//! Descriptors, and the files behind them.
//!
//! A number names a file until it is closed; the file lives on while an operation on it is in flight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;
use std::os::fd::RawFd;

use crate::slots::{Key, Slots};

use super::journal::Deed;
use super::machine::Machine;
use super::object::Object;
use super::operations::{Interest, Op, Stage};
use super::options::Options;
use super::queue::Work;

/// The first number. So high that a real system call on one, made by mistake, gets `EBADF`.
pub(super) const FIRST_FD: RawFd = 1 << 30;

pub(super) struct Files {
    pub(super) table: Slots<File>,
    /// What the numbers from [`FIRST_FD`] on name.
    numbers: Vec<Option<Key<File>>>,
    free: BinaryHeap<Reverse<usize>>,
    most: usize,
}

/// What a descriptor names.
pub(super) struct File {
    pub(super) object: Object,
    pub(super) options: Options,
    /// The numbers, the operations in flight, and the messages under way.
    holds: u32,
    /// Operations that wait for something to be read, or room to be written to.
    waiting: [Vec<Key<Op>>; 2],
    /// Interruptions in a row that nobody asked for, of either kind of operation.
    pub(super) interrupted: [u8; 2],
}

impl Files {
    pub(super) fn new() -> Files {
        Files {
            table: Slots::new(),
            numbers: Vec::new(),
            free: BinaryHeap::new(),
            most: usize::MAX,
        }
    }

    pub(super) fn limit(&mut self, most: usize) {
        self.most = most;
    }

    pub(super) fn open(&self) -> usize {
        self.numbers.len() - self.free.len()
    }

    /// The file of an open number.
    pub(super) fn find(&self, fd: RawFd) -> Option<Key<File>> {
        let index = usize::try_from(fd.checked_sub(FIRST_FD)?).ok()?;
        *self.numbers.get(index)?
    }

    /// Every open number and its file.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RawFd, &File)> {
        let numbers = self.numbers.iter().enumerate();
        numbers.filter_map(|(index, key)| Some((number(index), self.table.get((*key)?)?)))
    }

    fn assign(&mut self, key: Key<File>) -> RawFd {
        let index = match self.free.pop() {
            Some(Reverse(index)) => index,
            None => {
                self.numbers.push(None);
                self.numbers.len() - 1
            }
        };
        self.numbers[index] = Some(key);
        number(index)
    }

    fn forget(&mut self, fd: RawFd) -> Option<Key<File>> {
        let key = self.find(fd)?;
        let index = (fd - FIRST_FD) as usize;
        self.numbers[index] = None;
        self.free.push(Reverse(index));
        Some(key)
    }
}

fn number(index: usize) -> RawFd {
    FIRST_FD + index as RawFd
}

impl Machine {
    /// Whether there is room for one more descriptor.
    pub(super) fn check_descriptors(&self) -> Result<(), i32> {
        if self.files.open() < self.files.most { Ok(()) } else { Err(libc::EMFILE) }
    }

    /// A file without a number, for whoever keeps the key.
    pub(super) fn nameless_file(&mut self, object: Object, options: Options) -> Key<File> {
        let waiting = [Vec::new(), Vec::new()];
        self.files.table.insert(File { object, options, holds: 1, waiting, interrupted: [0; 2] })
    }

    /// Gives an object the lowest free number.
    pub(super) fn open_file(
        &mut self,
        object: Object,
        options: Options,
        how: &'static str,
    ) -> Result<(RawFd, Key<File>), i32> {
        self.check_descriptors()?;
        let key = self.nameless_file(object, options);
        let fd = self.files.assign(key);
        self.record(Deed::Open, how, fd as u64, 0);
        Ok((fd, key))
    }

    /// The file of a number that its user believes to be open.
    pub(super) fn file_of(&mut self, fd: RawFd, user: &str) -> Result<Key<File>, i32> {
        self.files.find(fd).ok_or_else(|| {
            self.violation(format!("{user} on descriptor {fd}, which is not open"));
            libc::EBADF
        })
    }

    /// close(2): the number is free at once.
    pub(super) fn close_number(&mut self, fd: RawFd) -> Result<(), i32> {
        let Some(key) = self.files.forget(fd) else {
            self.violation(format!("close of descriptor {fd}, which is not open"));
            return Err(libc::EBADF);
        };
        self.record(Deed::Close, "", fd as u64, 0);
        self.release_file(key);
        Ok(())
    }

    pub(super) fn hold_file(&mut self, key: Key<File>) {
        if let Some(file) = self.files.table.get_mut(key) {
            file.holds += 1;
        }
    }

    /// Gives one hold up; with the last one the file ends.
    pub(super) fn release_file(&mut self, key: Key<File>) {
        let Some(file) = self.files.table.get_mut(key) else { return };
        file.holds -= 1;
        if file.holds > 0 {
            return;
        }
        if let Some(file) = self.files.table.remove(key) {
            self.end_object(key, file.object, file.options);
        }
    }

    /// A second number for the same file.
    pub(super) fn duplicate(&mut self, fd: RawFd) -> Result<RawFd, i32> {
        let key = self.files.find(fd).ok_or(libc::EBADF)?;
        let fd = self.name_file(key)?;
        self.hold_file(key);
        Ok(fd)
    }

    /// Gives a file that is held already the lowest free number.
    pub(super) fn name_file(&mut self, key: Key<File>) -> Result<RawFd, i32> {
        self.check_descriptors()?;
        let fd = self.files.assign(key);
        self.record(Deed::Open, "dup", fd as u64, 0);
        Ok(fd)
    }

    /// Has an operation wait for its file.
    pub(super) fn wait_for(&mut self, file: Key<File>, interest: Interest, op: Key<Op>) {
        if let Some(file) = self.files.table.get_mut(file) {
            file.waiting[interest as usize].push(op);
        }
    }

    /// It does not wait any more.
    pub(super) fn stop_waiting(&mut self, file: Key<File>, interest: Interest, op: Key<Op>) {
        if let Some(file) = self.files.table.get_mut(file) {
            file.waiting[interest as usize].retain(|waiting| *waiting != op);
        }
    }

    /// The file has changed: those who wait try again when their ring is entered.
    pub(super) fn wake(&mut self, file: Option<Key<File>>, interest: Interest) {
        let Some(file) = file.and_then(|key| self.files.table.get_mut(key)) else { return };
        let waiting = &mut file.waiting[interest as usize];
        if waiting.is_empty() {
            return;
        }
        let mut woken = mem::take(waiting);
        for &key in &woken {
            let Some(op) = self.ops.get_mut(key) else { continue };
            op.stage = Stage::Woken;
            if let Some(ring) = self.rings.get_mut(op.ring) {
                ring.work.push_back(Work::Retry(key));
            }
        }
        // The list keeps its memory.
        woken.clear();
        *waiting = woken;
    }

    pub(super) fn wake_both(&mut self, file: Option<Key<File>>) {
        self.wake(file, Interest::Read);
        self.wake(file, Interest::Write);
    }
}
