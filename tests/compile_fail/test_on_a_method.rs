//! A test is a function that stands for itself.

struct Server;

impl Server {
    #[trine::test]
    async fn starts(&self) {}
}

fn main() {}
