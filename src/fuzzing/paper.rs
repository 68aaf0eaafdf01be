//! A file that is written to and read from in several places at a time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Result;
use crate::exec;
use crate::fs::{self, File, OpenOptions};

use super::adapters::Local;
use super::links::Link;
use super::model::Model;

/// Each write fills its place with a byte of its own, so each byte says who wrote it last.
pub(super) struct Paper {
    model: Rc<Model>,
    number: usize,
    file: File,
    /// What each byte may be.
    may_be: RefCell<Vec<BTreeSet<u8>>>,
    /// All writes that were begun.
    begun: RefCell<Vec<Begun>>,
    /// Transfers that were begun, of whichever kind.
    transfers: Cell<usize>,
}

/// A write.
struct Begun {
    with: u8,
    place: Range<usize>,
    /// It has not ended, and if it was dropped it may yet take place.
    is_open: bool,
}

const SIZE: usize = 512;
/// Of one transfer.
const MOST: usize = 100;

impl Paper {
    /// One that has no name any more, so that nothing is left of it.
    pub(super) async fn open(model: Rc<Model>, number: usize) -> Result<Paper> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("trine-paper-{}-{unique}", std::process::id());
        let path = exec::current()?.host().temp_dir().join(name);
        let options = OpenOptions::new().read(true).write(true).create_new(true);
        let file = options.open(&path).await?;
        fs::remove_file(&path).await?;
        file.write_all_at(vec![0; SIZE], 0).await?;
        let may_be = RefCell::new(vec![BTreeSet::from([0]); SIZE]);
        let (begun, transfers) = (RefCell::default(), Cell::new(0));
        Ok(Paper { model, number, file, may_be, begun, transfers })
    }

    /// Where the next transfer happens: all over the file, and often where another one does.
    fn place(&self, size: u32) -> Range<usize> {
        let transfers = self.transfers.replace(self.transfers.get() + 1);
        let size = (size as usize).min(MOST);
        let at = transfers * 67 % (SIZE - size);
        at..at + size
    }

    async fn read_from(&self, place: Range<usize>, exact: bool) -> Result {
        let (buffer, at) = (Vec::with_capacity(place.len()), place.start as u64);
        let (before, known) =
            (self.may_be.borrow()[place.clone()].to_vec(), self.begun.borrow().len());
        let read = match exact {
            true => self.file.read_exact_at(buffer, at).await,
            false => self.file.read_at(buffer, at).await,
        };
        let read = read?;
        self.model.check(!read.is_empty(), || "a read brought nothing".to_owned());
        for ((at, byte), before) in place.zip(&read).zip(before) {
            // Whoever has begun meanwhile may have been overwritten again.
            let begun = self.begun.borrow();
            let meanwhile = begun[known..].iter().any(|write| write.is(*byte, at));
            let is_right = meanwhile || before.contains(byte);
            self.model.check(is_right, || {
                let Paper { number, .. } = self;
                format!("D2, D4: byte {at} of pipe{number} is {byte}, not one of {before:?}")
            });
        }
        Ok(())
    }

    async fn write_to(&self, place: Range<usize>, all: bool) -> Result {
        let which = self.begun.borrow().len();
        let with = 1 + (which % 255) as u8;
        let bytes = vec![with; place.len()];
        self.begun.borrow_mut().push(Begun { with, place: place.clone(), is_open: true });
        let begin = |may_be: &mut BTreeSet<u8>| may_be.insert(with);
        let new: Vec<bool> =
            self.may_be.borrow_mut()[place.clone()].iter_mut().map(begin).collect();
        // Others that are under way may come before or after it.
        let open_before: Vec<usize> =
            (0..which).filter(|other| self.begun.borrow()[*other].is_open).collect();
        let at = place.start as u64;
        let done = if all {
            self.file.write_all_at(bytes, at).await.map(|bytes| bytes.len())
        } else {
            self.file.write_at(bytes, at).await.map(|(count, _)| count)
        };
        let (done, error) = match done {
            Ok(done) => (done, None),
            Err(failed) => (failed.done, Some(failed.error)),
        };
        self.begun.borrow_mut()[which].is_open = false;
        let begun = self.begun.borrow();
        let others: Vec<&Begun> =
            open_before.iter().map(|at| &begun[*at]).chain(&begun[which + 1..]).collect();
        let mut may_be = self.may_be.borrow_mut();
        for (at, is_new) in place.clone().zip(new) {
            if others.iter().any(|other| other.place.contains(&at)) {
                continue;
            }
            if at < place.start + done {
                may_be[at] = BTreeSet::from([with]);
            } else if is_new {
                may_be[at].remove(&with);
            }
        }
        error.map_or(Ok(()), Err)
    }
}

impl Begun {
    fn is(&self, byte: u8, at: usize) -> bool {
        self.with == byte && self.place.contains(&at)
    }
}

impl Link for Paper {
    fn recv(&self) -> Local<'_, Result> {
        Box::pin(self.read_from(self.place(MOST as u32), false))
    }

    fn read(&self, size: u32, exact: bool) -> Local<'_, Result> {
        Box::pin(self.read_from(self.place(size), exact))
    }

    fn write(&self, size: u32, all: bool) -> Local<'_, Result> {
        Box::pin(self.write_to(self.place(size), all))
    }

    fn shutdown(&self) -> Local<'_, Result> {
        Box::pin(self.file.sync_all())
    }

    fn keeps_going(&self) -> bool {
        false
    }

    fn settle(&self) -> Local<'_, Result> {
        Box::pin(self.read_from(0..SIZE, true))
    }

    fn close(self: Box<Self>) -> Local<'static, Result> {
        Box::pin(self.file.close())
    }
}
