#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vpnmesh_testkit::fuzz::client(data));
