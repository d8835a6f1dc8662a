#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| paceline_fuzz::check(paceline_fuzz::laws::safetensors, bytes));
