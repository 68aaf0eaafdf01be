//! The same programs on the real kernel.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trine::fuzzing::cancel_real(data));
