#![no_main]

#[path = "../../tests/it/fuzz/orders.rs"]
mod orders;

libfuzzer_sys::fuzz_target!(|data: &[u8]| orders::run(data));
