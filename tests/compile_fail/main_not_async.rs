//! A plain `main` needs no attribute.

#[trine::main]
fn main() {}
