//! The life of operations and their table, beside naive accounts.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trine::fuzzing::op_state(data));
