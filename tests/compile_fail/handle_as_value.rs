//! N16: the handle cannot leave the nursery as its value, however it is wrapped.
fn main() {
    trine::run(async || {
        let _leaked = trine::nursery(async |n| {
            let spawn: Box<dyn FnOnce()> = Box::new(move || n.spawn(async { Ok(()) }));
            Ok(spawn)
        })
        .await?;
        Ok(())
    })
    .unwrap();
}
