//! Tasks that use the tools of `sync` on the simulated kernel, beside naive twins of those.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trine::fuzzing::tools(data));
