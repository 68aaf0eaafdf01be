//! The handle is invariant in its value and in both lifetimes.
use trine::Nursery;

fn shorter_value<'s, 'e, 'short>(
    n: Nursery<'s, 'e, &'static str>,
) -> Nursery<'s, 'e, &'short str> {
    n
}

fn shorter_scope<'long: 'short, 'short, 'e: 'long>(n: Nursery<'long, 'e>) -> Nursery<'short, 'e> {
    n
}

fn main() {}
