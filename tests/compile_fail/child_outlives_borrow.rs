//! N15, N16: a child cannot outlive what it borrows.
fn main() {
    trine::run(async || {
        trine::nursery(async |n| {
            let inner = String::from("dies with the block");
            n.spawn(async {
                println!("{inner}");
                Ok(())
            });
            drop(inner);
            Ok(())
        })
        .await
    })
    .unwrap();
}
