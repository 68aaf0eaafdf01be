//! Nobody could say with what to call it.

#[trine::test]
async fn a_test_of_something(_number: u32) {}

#[trine::test]
async fn a_test_of_anything<T>() {}

fn main() {}
