//! L4: a cancellation cannot be forged.
fn main() {
    let _forged = trine::Cancelled::new(trine::Reason::Finished);
    let _literal = trine::Cancelled { reason: trine::Reason::Finished };
}
