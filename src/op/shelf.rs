//! Freed blocks, to be used again: every write needs one for as long as it lasts, and to ask the
//! allocator each time costs as much as all else that is done for it.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;

/// Blocks of the common size.
#[derive(Default)]
pub(crate) struct Shelf {
    blocks: RefCell<Vec<NonNull<u8>>>,
}

/// What holds most buffers, and what is known about them: these are headers, their bytes are elsewhere.
const COMMON: Layout = match Layout::from_size_align(128, 16) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

/// How many are kept. Miri is to see each use of freed memory, so there none is.
const MOST: usize = if cfg!(miri) { 0 } else { 1024 };

/// What is allocated for a `T`.
const fn layout_of<T>() -> Layout {
    let layout = Layout::new::<T>();
    assert!(layout.size() > 0, "nothing needs no memory");
    if layout.size() <= COMMON.size() && layout.align() <= COMMON.align() { COMMON } else { layout }
}

impl Shelf {
    /// Memory for a `T`.
    #[inline]
    pub(super) fn take<T>(&self) -> NonNull<T> {
        let layout = const { layout_of::<T>() };
        let kept = if layout == COMMON { self.blocks.borrow_mut().pop() } else { None };
        kept.unwrap_or_else(|| allocate(layout)).cast()
    }

    /// Takes back the memory of a `T`, which has been moved out or dropped.
    ///
    /// # Safety
    /// It is of [`take`](Shelf::take) for the same type, of whatever shelf, and nobody uses it.
    #[inline]
    pub(super) unsafe fn put<T>(&self, block: NonNull<T>) {
        let layout = const { layout_of::<T>() };
        let blocks = &mut *self.blocks.borrow_mut();
        if layout == COMMON && blocks.len() < MOST {
            return blocks.push(block.cast());
        }
        // SAFETY: allocated with this layout.
        unsafe { dealloc(block.cast().as_ptr(), layout) };
    }
}

#[cold]
fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout here is of size zero (see `layout_of`).
    let memory = unsafe { alloc(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Drop for Shelf {
    fn drop(&mut self) {
        for block in self.blocks.get_mut().drain(..) {
            // SAFETY: allocated with this layout, and nobody uses what is on a shelf.
            unsafe { dealloc(block.as_ptr(), COMMON) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_back_is_used_again_if_it_is_of_the_common_size() {
        let shelf = Shelf::default();
        let (small, large) = (shelf.take::<[u64; 9]>(), shelf.take::<[u64; 90]>());
        // SAFETY: taken for these types, and not used.
        unsafe {
            shelf.put(small);
            shelf.put(large);
        }
        let kept = shelf.blocks.borrow().len();
        assert_eq!(kept, MOST.min(1));
        let again = shelf.take::<u8>();
        assert!(kept == 0 || again.cast() == small);
        // SAFETY: as above; it goes to another shelf, which may.
        unsafe { Shelf::default().put(again) };
    }
}
