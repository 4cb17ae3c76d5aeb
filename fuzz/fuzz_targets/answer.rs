#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| agentjail_fuzz::targets::answer(data));
