//! Each operation that the crate has, cancelled before it begins, while it waits and after it has ended,
//! dropped, and orphaned: on both kernels. The table of operations is `src/fuzzing/fates`.

mod common;

use std::sync::LazyLock;

use trine::fuzzing::{self, Fate, Fates};

use common::{fewer, within};

/// What the obedient kernel does, and what cancels find otherwise.
static SIMULATED: LazyLock<Fates> = LazyLock::new(|| {
    let few = &[Fate::During, Fate::Orphaned][..];
    fuzzing::simulated_fates(fewer(&Fate::ALL[..], few), fewer(2, 1), cfg!(not(miri)))
});

static REAL: LazyLock<Fates> = LazyLock::new(|| within(600, || fuzzing::real_fates(2)));

mod whatever_becomes_of_an_operation_its_effect_is_what_was_said {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "there is no real kernel")]
    fn real() {
        assert!(REAL.tried > 600, "{} times", REAL.tried);
    }

    #[test]
    fn sim() {
        assert!(SIMULATED.tried > fewer(5000, 100), "{} times", SIMULATED.tried);
    }

    #[test]
    #[cfg_attr(miri, ignore = "the one above is enough there")]
    fn sim_whatever_else_the_kernel_does() {
        let fates = fuzzing::wild_fates(0..10);
        assert!(fates.tried > 3000, "{} times", fates.tried);
    }

    // The simulated kernel is kept honest by the real one.
    #[test]
    #[cfg_attr(miri, ignore = "there is no real kernel")]
    fn sim_has_shown_all_that_the_real_kernel_has() {
        let impossible = fuzzing::impossible(&REAL, &SIMULATED);
        assert!(impossible.is_empty(), "{impossible:?}");
    }

    // Which is of both kernels, since some operations are only on one.
    #[test]
    #[cfg_attr(miri, ignore = "there is no real kernel")]
    fn sim_and_real_have_rows_for_all_that_can_be_submitted() {
        let (kinds, requests) = fuzzing::known();
        assert!(kinds.len() > 25 && requests.len() > 25, "{kinds:?} {requests:?}");
        let seen = REAL.clone().and(SIMULATED.clone());
        let without: Vec<_> = kinds.iter().filter(|kind| !seen.kinds.contains(*kind)).collect();
        assert!(without.is_empty(), "no row of the table is of the kinds {without:?}");
        let without: Vec<_> =
            requests.iter().filter(|name| !seen.requests.contains(**name)).collect();
        assert!(without.is_empty(), "no row of the table asks the kernel for {without:?}");
    }
}
