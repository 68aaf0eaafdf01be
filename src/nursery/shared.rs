//! The nursery's core behind raw pointers, and children under an erased lifetime.
//!
//! The only file outside of `ring` and `op` with unsafe code. What makes it sound:
//! - The core is on the heap, and only the nursery's own future ([`Owner`]) frees it, after the body
//!   and all children have been dropped. Forgetting that future leaks the core and them.
//! - A handle lives in the body, in children, or in something that borrows `'scope`. The body works
//!   for every `'scope`, so no type outside of it can name that lifetime and keep a handle.
//! - A child is polled through the owner only, so while it is polled, what it borrows is alive: the
//!   owner's type says so. It is dropped by the owner or never.

#![allow(unsafe_code)]

use std::future::Future;
use std::mem;
use std::ops::Deref;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use super::core::Core;

/// Owns a core.
pub(super) struct Owner<T, E: 'static> {
    core: NonNull<Core<T, E>>,
}

impl<T, E> Owner<T, E> {
    pub(super) fn new(core: Core<T, E>) -> Owner<T, E> {
        Owner { core: NonNull::from(Box::leak(Box::new(core))) }
    }

    pub(super) fn handle(&self) -> Handle<T, E> {
        Handle { core: self.core }
    }
}

impl<T, E: 'static> Deref for Owner<T, E> {
    type Target = Core<T, E>;

    fn deref(&self) -> &Core<T, E> {
        // SAFETY: made by `Box::leak`, freed by our drop only; only shared references to it exist.
        unsafe { self.core.as_ref() }
    }
}

impl<T, E> Drop for Owner<T, E> {
    fn drop(&mut self) {
        // SAFETY: made by `Box::leak`. The body is gone (`Carry` drops it first, or it never was), the
        // children are gone (`Opened`, which exists before the body is called, drops them first),
        // and with them every handle that could be used.
        drop(unsafe { Box::from_raw(self.core.as_ptr()) });
    }
}

/// Reaches a core from the body and the children.
pub(super) struct Handle<T, E: 'static> {
    core: NonNull<Core<T, E>>,
}

impl<T, E> Handle<T, E> {
    pub(super) fn core(&self) -> &Core<T, E> {
        // SAFETY: whoever has a handle is the body, a child, or a borrower of `'scope`; the owner
        // frees the core after those (see above).
        unsafe { self.core.as_ref() }
    }
}

impl<T, E> Clone for Handle<T, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, E> Copy for Handle<T, E> {}

type ChildFuture<'a, E> = dyn Future<Output = Result<(), E>> + 'a;

/// A child's future under an erased lifetime, held by raw pointer so that moving it claims nothing.
pub(super) struct Erased<E: 'static> {
    future: NonNull<ChildFuture<'static, E>>,
}

impl<E: 'static> Erased<E> {
    pub(super) fn new<'scope>(future: impl Future<Output = Result<(), E>> + 'scope) -> Erased<E> {
        let boxed: Box<ChildFuture<'scope, E>> = Box::new(future);
        let future = NonNull::from(Box::leak(boxed));
        // SAFETY: only the lifetime changes. The future is polled and dropped by the owner only, and
        // the owner is a future that cannot be used after `'scope` has ended.
        let future = unsafe {
            mem::transmute::<NonNull<ChildFuture<'scope, E>>, NonNull<ChildFuture<'static, E>>>(
                future,
            )
        };
        Erased { future }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        // SAFETY: alive until our drop, reached through `&mut self` only, and never moved: pinned.
        unsafe { Pin::new_unchecked(self.future.as_mut()) }.poll(cx)
    }
}

impl<E: 'static> Drop for Erased<E> {
    fn drop(&mut self) {
        // SAFETY: made by `Box::leak`, dropped once, in place.
        drop(unsafe { Box::from_raw(self.future.as_ptr()) });
    }
}
