//! `cargo fuzz run text`: see the body, which the ordinary tests run, too.
#![no_main]

#[path = "../bodies/text.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
