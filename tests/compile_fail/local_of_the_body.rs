//! N15: what lives in the body is gone when the body ends, and the children go on.
fn main() {
    trine::run(async || {
        trine::nursery(async |n| {
            let inside = 7;
            let borrowed = &inside;
            n.spawn(async move {
                println!("{borrowed}");
                Ok(())
            });
            Ok(())
        })
        .await
    })
    .unwrap();
}
