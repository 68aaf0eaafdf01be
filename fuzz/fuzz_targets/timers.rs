//! The heap of deadlines, beside a sorted vector.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trine::fuzzing::timers(data));
