//! Roles as processes on a host that mistreats them: its disk fills up, its clock goes back.
//!
//! No test harness: see [`lab::run_suite`], which brings mounts and a loopback of its own.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../clock_shim/mod.rs"]
mod clock_shim;
mod rig;

use std::fs;
use std::process::{Command, ExitCode};

use vpnmesh_testkit::lab::{self, Inside};

use clock_shim::{ClockShim, DAY, now};
use rig::{Mesh, Process, VPNMESH, run};

fn main() -> ExitCode {
    lab::run_suite("roles", &TESTS)
}

const TESTS: [lab::Test; 3] = [
    (
        "a_disk_that_fills_up_is_named_and_the_session_lives_on",
        a_disk_that_fills_up,
    ),
    (
        "a_clock_that_went_back_between_two_starts_is_survived",
        a_clock_that_went_back,
    ),
    ("a_role_leaves_no_core_dump", a_role_leaves_no_core_dump),
];

fn a_role_leaves_no_core_dump(_: Inside) {
    let mesh = Mesh::new();
    let controller = mesh.start("controller", "controller/controller.toml");
    let node = mesh.start("node", "nodes/n1/node.toml");
    for process in [controller, node] {
        process.event("started");
        let of_it = |file: &str| format!("/proc/{}/{file}", process.pid());
        let limits = fs::read_to_string(of_it("limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "soft and hard limit");
        process.ends_well();
    }
}

fn a_disk_that_fills_up(_: Inside) {
    let mesh = Mesh::new();
    let disk = mesh.path("disk");
    fs::create_dir(&disk).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=1m", "none", &disk]);
    for home in ["nodes/n1", "clients/c1"] {
        run("cp", &["-r", &mesh.path(home), &disk]);
    }
    let _controller = mesh.start("controller", "controller/controller.toml");
    let node = mesh.start("node", "disk/n1/node.toml");
    let client = mesh.start("client", "disk/c1/client.toml");
    client.event("attached");
    node.event("controller_up");
    let filler = format!("{disk}/filler");
    let zeros = ["if=/dev/zero", &format!("of={filler}"), "bs=4k"];
    let filled = Command::new("dd").args(zeros).output().unwrap();
    assert!(!filled.status.success(), "the disk has an end");

    let kept = fs::read(format!("{disk}/n1/membership")).unwrap();
    mesh.admin("drain"); // a new membership
    for process in [&node, &client] {
        let trouble = process.event("trouble");
        let text = trouble["text"].as_str().unwrap();
        assert!(text.contains("membership"), "{text}");
        assert!(text.contains("space") || text.contains("full"), "{text}");
    }
    assert!(client.report()["active"].is_string(), "the session is gone");
    let still = fs::read(format!("{disk}/n1/membership")).unwrap();
    assert!(still == kept, "what was on disk stays whole");

    fs::remove_file(filler).unwrap();
    mesh.admin("undrain");
    while fs::read(format!("{disk}/n1/membership")).unwrap() == kept {
        node.report(); // comes every 250 ms
    }
    client.ends_well();
    node.ends_well();
}

/// Roles number their lives by a counter on disk, so the calendar does not matter to sessions.
fn a_clock_that_went_back(_: Inside) {
    let mesh = Mesh::new();
    let shim = ClockShim::build(mesh.directory.path());
    let start = |seconds: u64| -> [Process; 2] {
        let settings = [
            ("node", "nodes/n1/node.toml"),
            ("client", "clients/c1/client.toml"),
        ];
        settings.map(|(role, settings)| {
            let mut command = Command::new(VPNMESH);
            command.args([role, "--json", "--config", &mesh.path(settings)]);
            shim.set_back(&mut command, seconds);
            Process::spawn(command)
        })
    };
    for seconds in [0, DAY, now() + DAY] {
        // The last one is before 1970.
        let [node, client] = start(seconds);
        client.event("attached");
        node.ends_well();
        client.ends_well();
    }
}
