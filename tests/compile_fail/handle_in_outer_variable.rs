//! N16: the handle cannot leave the nursery through a variable outside.
fn main() {
    trine::run(async || {
        let mut leaked = None;
        trine::nursery(async |n| {
            leaked = Some(n);
            Ok(())
        })
        .await?;
        leaked.unwrap().spawn(async { Ok(()) });
        Ok(())
    })
    .unwrap();
}
