//! Each operation that the crate has, cancelled before it begins, while it waits and after it has ended,
//! dropped, and orphaned: on both kernels. The table of operations is `src/fuzzing/fates`.

mod common;

use std::sync::LazyLock;

use trine::fuzzing::{self, Fate, Fates};

use common::{fewer, within};

/// What the obedient kernel does, and what cancels find otherwise.
fn simulated() -> &'static Fates {
    static SEEN: LazyLock<Fates> = LazyLock::new(|| {
        let few = &[Fate::During, Fate::Orphaned][..];
        fuzzing::simulated_fates(fewer(&Fate::ALL[..], few), fewer(2, 1), cfg!(not(miri)))
    });
    &SEEN
}

#[test]
fn whatever_becomes_of_an_operation_its_effect_is_what_was_said() {
    let fates = simulated();
    println!("{} times", fates.tried);
    assert!(fates.tried > fewer(5000, 100), "{} times", fates.tried);
}

#[test]
#[cfg_attr(miri, ignore = "the test above is enough there")]
fn nor_does_it_depend_on_what_else_the_kernel_does() {
    let fates = fuzzing::wild_fates(0..10);
    println!("{} times", fates.tried);
    assert!(fates.tried > 3000, "{} times", fates.tried);
}

// The simulated kernel is kept honest by the real one. And nothing that the crate can submit is without a
// row.
#[test]
#[cfg_attr(miri, ignore = "there is no real kernel")]
fn on_linux_it_is_the_same_and_every_operation_is_in_the_table() {
    let real = within(120, || fuzzing::real_fates(2));
    println!("{} times: {:#?}", real.tried, real.endings);
    let simulated = simulated();
    let impossible = fuzzing::impossible(&real, simulated);
    assert!(impossible.is_empty(), "the simulated kernel has not shown {impossible:?}");

    let (kinds, requests) = fuzzing::known();
    assert!(kinds.len() > 25 && requests.len() > 25, "{kinds:?} {requests:?}");
    let seen = real.and(simulated.clone());
    let without: Vec<_> = kinds.iter().filter(|kind| !seen.kinds.contains(*kind)).collect();
    assert!(without.is_empty(), "no row of the table is of the kinds {without:?}");
    let without: Vec<_> = requests.iter().filter(|name| !seen.requests.contains(**name)).collect();
    assert!(without.is_empty(), "no row of the table asks the kernel for {without:?}");
}
