//! It takes none, and neither does its function.

#[trine::main(threads = 4)]
async fn main(_arguments: Vec<String>) {}
