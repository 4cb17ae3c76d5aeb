#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| agentjail_fuzz::targets::git_config(data));
