//! The storage of one operation: heap held by raw pointer.

use std::any::Any;
use std::ptr::NonNull;

use super::buf::IoBufMut;

/// One value at an address that does not change until the value is taken out.
///
/// It is held by raw pointer and not in a `Box`, because moving a `Box` claims to be the only one
/// who has a pointer into it, and while an operation is in flight the kernel has one too.
pub(crate) struct Block {
    value: NonNull<dyn Any>,
}

impl Block {
    pub(crate) fn new<S: 'static>(value: S) -> Block {
        let value: Box<dyn Any> = Box::new(value);
        Block { value: NonNull::from(Box::leak(value)) }
    }

    /// Looks at the value. Only `op` may, and only while the kernel does not have it.
    pub(super) fn get_mut<S: 'static>(&mut self) -> &mut S {
        // SAFETY: the value is alive until this block is dropped or taken apart. A block that is
        // not inside a slot is not known to the kernel, and one inside a slot is not reached by
        // this function; so nobody else has a pointer to it.
        let value = unsafe { self.value.as_mut() };
        value.downcast_mut().expect("an operation finds the storage that it put in")
    }

    /// Takes the value out. The kernel has let go: blocks come out of the table only then.
    pub(crate) fn into_inner<S: 'static>(mut self) -> S {
        let _: &mut S = self.get_mut();
        let value = self.value.cast::<S>();
        std::mem::forget(self);
        // SAFETY: allocated as a `Box<S>` in `new` (the line above has checked the type), and the
        // forgotten block does not free it again.
        *unsafe { Box::from_raw(value.as_ptr()) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated by `Box` in `new` and not taken out.
        drop(unsafe { Box::from_raw(self.value.as_ptr()) });
    }
}

/// A block with how much of the buffer in it has been filled.
pub(crate) struct Storage {
    pub(super) block: Block,
    /// Bytes of the buffer that were written by the kernel or by `append`, from its start on. Only
    /// completions and `append` raise it, so the buffer's content is initialised up to here.
    pub(super) filled: usize,
}

impl Storage {
    pub(crate) fn new<S: 'static>(value: S) -> Storage {
        Storage { block: Block::new(value), filled: 0 }
    }

    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// How much there is room for in the `B`.
    pub(crate) fn room<B: IoBufMut>(&mut self) -> usize {
        self.block.get_mut::<B>().capacity() - self.filled
    }

    /// Copies bytes behind what is filled, as many as fit, and says how many.
    pub(crate) fn append<B: IoBufMut>(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room::<B>());
        let to = self.block.get_mut::<B>().as_mut_ptr().wrapping_add(self.filled);
        // SAFETY: `count` bytes of room from `filled` on, in memory that is the buffer's alone.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), count) };
        self.filled += count;
        count
    }

    /// The bytes that are filled, copied out of the `B`.
    pub(crate) fn into_bytes<B: IoBufMut>(mut self) -> Vec<u8> {
        let start = self.block.get_mut::<B>().as_mut_ptr();
        self.copy_filled(start)
    }

    /// The bytes that are filled, copied out.
    pub(super) fn copy_filled(&self, start: *const u8) -> Vec<u8> {
        // SAFETY: `start` is where the buffer of this block begins, as it was told to the kernel,
        // and its first `filled` bytes are initialised. The operation is terminal.
        unsafe { std::slice::from_raw_parts(start, self.filled) }.to_vec()
    }

    /// Takes the value out.
    pub(crate) fn into_inner<S: 'static>(self) -> S {
        self.block.into_inner()
    }

    /// Takes the buffer out, with what was filled as its content.
    pub(crate) fn into_filled<B: IoBufMut>(self) -> B {
        let mut buf: B = self.block.into_inner();
        // SAFETY: the first `filled` bytes are initialised, and they were within the capacity.
        unsafe { buf.set_len(self.filled) };
        buf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_into_a_block_stays_good_while_the_block_moves() {
        let mut block = Block::new(vec![1_u8, 2, 3].into_boxed_slice());
        let inside = block.get_mut::<Box<[u8]>>().as_mut_ptr();
        let moved = Box::new(block);
        // SAFETY: inside the boxed slice, which the block keeps at its place.
        unsafe { inside.add(1).write(7) };
        assert_eq!(*moved.into_inner::<Box<[u8]>>(), [1, 7, 3]);
    }

    #[test]
    fn dropping_a_block_drops_its_value() {
        let shared = std::rc::Rc::new(());
        drop(Block::new(std::rc::Rc::clone(&shared)));
        assert_eq!(std::rc::Rc::strong_count(&shared), 1);
    }
}
