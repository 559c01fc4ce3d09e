#![no_main]

#[path = "../../tests/it/fuzz/form.rs"]
mod form;

libfuzzer_sys::fuzz_target!(|data: &[u8]| form::run(data));
