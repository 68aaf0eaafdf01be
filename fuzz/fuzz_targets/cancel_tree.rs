//! Programs of scopes, nurseries and operations on the simulated kernel, beside the naive model.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trine::fuzzing::cancel_tree(data));
