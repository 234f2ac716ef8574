//! Replays what is committed in `fuzz/corpus`: the seeds, and every input that once broke a target.
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod plant;
mod scripts;
mod values;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use vpnmesh_testkit::fuzz::{TARGETS, Target};

/// The folder of a target's inputs.
fn folder(target: &Target) -> PathBuf {
    let testkit = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    testkit.join("../fuzz/corpus").join(target.name)
}

#[test]
fn every_committed_input_passes_its_target() {
    let mut inputs = 0;
    for target in TARGETS {
        let folder = folder(target);
        let listed = fs::read_dir(&folder);
        let listed = listed.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{} has no seed", target.name);
        for file in files {
            // Named before it runs: a panic in a body says which input it was.
            println!("{}", file.display());
            (target.body)(&fs::read(&file).unwrap());
            inputs += 1;
        }
    }
    let text = format!("{inputs} inputs of {} targets\n", TARGETS.len());
    let _ = std::io::stderr().write_all(text.as_bytes()); // nobody reads it then
}

#[test]
fn every_target_has_a_program_and_every_program_a_target() {
    let fuzz = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let programs = fs::read_dir(fuzz.join("fuzz_targets")).unwrap();
    let mut programs: Vec<String> = programs
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned())
        .map(|name| name.into_string().unwrap())
        .collect();
    programs.sort();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(programs, names);
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn nothing_and_noise_pass_every_target() {
    for target in TARGETS {
        (target.body)(&[]);
        for seed in 0..8_u32 {
            let mut word = seed;
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); // Knuth's LCG
                (word >> 24) as u8
            })
            .take(600)
            .collect();
            (target.body)(&noise);
        }
    }
}

/// Writes the seeds anew: `cargo test -p vpnmesh-testkit --features fuzz --test corpora -- --ignored`.
#[test]
#[ignore = "writes fuzz/corpus"]
fn plant_the_seeds() {
    for (name, seed) in plant::seeds() {
        let target = TARGETS.iter().find(|target| target.name == name);
        let folder = folder(target.unwrap_or_else(|| panic!("{name} is no target")));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(&seed.name), &seed.bytes).unwrap();
    }
}
