//! The pool of receive buffers on the simulated kernel, beside a ledger.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trine::fuzzing::buffers(data));
