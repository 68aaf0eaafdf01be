//! Programs with a bug planted in the crate: this target has to fail.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trine::fuzzing::canary(data));
