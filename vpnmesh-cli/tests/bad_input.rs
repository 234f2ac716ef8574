//! Bad settings, files, ports, rights and disks: one clear line that names the thing and the way
//! out, and the documented exit code.
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use vpnmesh_testkit::left_out::leave_out;

const VPNMESH: &str = env!("CARGO_BIN_EXE_vpnmesh");

/// Runs the program; it must fail with `code` and one line that says all of `words`.
fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    let output = Command::new(VPNMESH).args(arguments).output().unwrap();
    check(&output, code, words);
}

fn check(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// A mesh with one node on a free port; its directory and that port.
fn mesh() -> (TempDir, PathBuf, u16) {
    let directory = tempfile::tempdir().unwrap();
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let control = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let description = format!(
        "controller = '{control}'\n[[nodes]]\nname = 'n1'\nregion = 'r'\naddress = '127.0.0.1:{port}'\n[[clients]]\nname = 'c1'\nprefixes = ['10.9.0.1/32']\n"
    );
    let file = directory.path().join("mesh.toml");
    fs::write(&file, description).unwrap();
    let mesh = directory.path().join("mesh");
    let made = Command::new(VPNMESH)
        .arg("provision")
        .arg(&file)
        .arg(&mesh)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    (directory, mesh, port)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_missing_an_unreadable_and_a_wrong_settings_file_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    refused(
        &["node", "--config", text(&missing)],
        3,
        &["missing.toml", "provision"],
    );
    refused(
        &["node", "--config", text(directory.path())],
        3,
        &["name the file in it"],
    );
    let wrong = directory.path().join("wrong.toml");
    for (content, word) in [
        ("state = '.'\nlisten = 'nowhere'\n", "line 2"),
        (
            "state = '.'\nlisten = '127.0.0.1:1'\nlissen = 1\n",
            "lissen",
        ),
        ("state = \n", "line 1"),
        ("listen = '127.0.0.1:1'\n", "state"),
    ] {
        fs::write(&wrong, content).unwrap();
        refused(
            &["node", "--config", text(&wrong)],
            3,
            &["wrong.toml", word],
        );
    }
    fs::write(&wrong, [0xff, 0xfe, 0x00]).unwrap();
    refused(
        &["node", "--config", text(&wrong)],
        3,
        &["wrong.toml", "no text"],
    );
    let policy = "state = '.'\nlisten = '127.0.0.1:1'\n[failover]\nstep_interval_ms = 1\n";
    fs::write(&wrong, policy).unwrap();
    refused(
        &["node", "--config", text(&wrong)],
        3,
        &["step_interval", "100 ms"],
    );
}

#[test]
fn a_port_in_use_is_named() {
    let (_directory, mesh, port) = mesh();
    let _holder = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let config = mesh.join("nodes/n1/node.toml");
    refused(
        &["node", "--config", text(&config)],
        4,
        &[&port.to_string(), "in use"],
    );
}

#[test]
fn a_port_of_a_controller_and_of_a_tunnel_in_use_is_named() {
    let (directory, mesh, _) = mesh();
    let config = mesh.join("controller/controller.toml");
    let settings = fs::read_to_string(&config).unwrap();
    let listen = settings.lines().find(|line| line.starts_with("listen"));
    let port = listen.unwrap().rsplit(':').next().unwrap();
    let port = port.trim_matches(|c: char| !c.is_ascii_digit());
    let _holder = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    refused(
        &["controller", "--config", text(&config)],
        4,
        &[port, "in use"],
    );
    let (key, peer) = tunnel_keys(&directory);
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = holder.local_addr().unwrap().to_string();
    let peer = format!("{peer}@127.0.0.1:9");
    let mut arguments = vec!["tunnel", "--if", "vm-port", "--key-file", text(&key)];
    arguments.extend(["--listen", &listen, "--peer", &peer]);
    refused(&arguments, 4, &[&listen, "in use"]);
}

#[test]
fn settings_and_keys_that_may_not_be_read_are_named() {
    let (directory, mesh, _) = mesh();
    let config = mesh.join("nodes/n1/node.toml");
    let (key, peer) = tunnel_keys(&directory);
    let tunnel = format!(
        "tunnel --if vm-key --key-file {} --listen 127.0.0.1:0 --peer {peer}@127.0.0.1:9",
        key.display()
    );
    let node = format!("node --config {}", config.display());
    for (file, arguments) in [(&config, node), (&key, tunnel)] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o000)).unwrap();
        // In a user namespace of its own root may not read everything.
        let script = format!("exec {VPNMESH} {arguments}");
        if let Some(output) = unshared("-U", &script) {
            check(&output, 3, &[text(file), "ermission denied"]);
        }
    }
}

#[test]
fn a_key_that_is_no_member_and_a_file_that_is_no_key_are_named() {
    let (_directory, mesh, _) = mesh();
    let home = mesh.join("nodes/n1");
    let (config, key) = (home.join("node.toml"), home.join("identity.key"));
    fs::remove_file(&key).unwrap();
    let made = Command::new(VPNMESH)
        .args(["keygen", "--out", text(&key)])
        .output()
        .unwrap();
    assert!(made.status.success());
    refused(
        &["node", "--config", text(&config)],
        3,
        &["is no node in membership"],
    );
    fs::write(&key, "not a key").unwrap();
    refused(
        &["node", "--config", text(&config)],
        3,
        &["identity.key", "keygen"],
    );
}

#[test]
fn a_membership_that_is_missing_or_tampered_with_is_named() {
    let (_directory, mesh, _) = mesh();
    let home = mesh.join("clients/c1");
    let (config, membership) = (home.join("client.toml"), home.join("membership"));
    let mut bytes = fs::read(&membership).unwrap();
    bytes[20] ^= 1;
    fs::write(&membership, bytes).unwrap();
    refused(
        &["client", "--config", text(&config)],
        3,
        &["membership", "root key"],
    );
    fs::remove_file(&membership).unwrap();
    refused(
        &["client", "--config", text(&config)],
        3,
        &["no signed membership", "provision"],
    );
}

#[test]
fn a_controller_that_does_not_answer_is_named() {
    let (_directory, mesh, _) = mesh();
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (address, credentials) = (address.to_string(), mesh.join("admin/tls"));
    let arguments = [
        "status",
        "--controller",
        &address,
        "--credentials",
        text(&credentials),
    ];
    refused(&arguments, 5, &[&address, "controller"]);
}

#[test]
fn a_description_that_contradicts_itself_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (file, mesh) = (
        directory.path().join("mesh.toml"),
        directory.path().join("mesh"),
    );
    let node = "[[nodes]]\nname = 'n1'\nregion = 'r'\naddress = '127.0.0.1:1'\n";
    for (content, word) in [
        (format!("{node}{node}"), "twice"),
        (node.replace("n1", "../n1"), "letters"),
        ("nodes = []\n".to_owned(), "at least one"),
    ] {
        fs::write(&file, content).unwrap();
        refused(&["provision", text(&file), text(&mesh)], 3, &[word]);
        assert!(!mesh.exists());
    }
}

/// A shell in fresh user, mount and network namespaces; `None` where they are refused.
fn unshared(flags: &str, script: &str) -> Option<Output> {
    let enter = |program: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg(flags).args(program).output()
    };
    match enter(&["true"]) {
        Ok(probe) if probe.status.success() => return enter(&["sh", "-c", script]).ok(),
        probe => {
            let why = format!("`unshare {flags} true` is refused here: {probe:?}");
            let lacking = !fs::exists("/proc/self/ns/user").unwrap_or(false);
            let proof = lacking.then_some("/proc/self/ns/user is missing");
            assert!(!leave_out("bad input in namespaces", &why, proof), "{why}");
        }
    }
    None
}

#[test]
fn a_full_disk_is_named() {
    let (directory, mesh, _) = mesh();
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // The disk of 64 kB is entered only after it is mounted, and never more is written than fits it.
    let script = format!(
        "set -e; mount -t tmpfs -o size=64k none {disk}; cd {disk}; mountpoint -q .; \
         cp {home}/* .; dd if=/dev/zero of=filler bs=1k count=64 2>/dev/null || true; \
         exec {VPNMESH} client --config client.toml",
        disk = disk.display(),
        home = mesh.join("clients/c1").display(),
    );
    if let Some(output) = unshared("-Urm", &script) {
        check(&output, 3, &["incarnation", "full"]);
    }
}

#[test]
fn a_controller_and_a_new_key_on_a_full_disk_are_named() {
    let (directory, mesh, _) = mesh();
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let full = format!(
        "set -e; mount -t tmpfs -o size=256k none {disk}; cd {disk}; mountpoint -q .; \
         cp -r {home}/* .; dd if=/dev/zero of=filler bs=1k count=256 2>/dev/null || true; \
         exec {VPNMESH}",
        disk = disk.display(),
        home = mesh.join("controller").display(),
    );
    for (arguments, code, words) in [
        ("controller --config controller.toml", 3, ["log", "space"]),
        ("keygen --out new.key", 3, ["new.key", "full"]),
    ] {
        if let Some(output) = unshared("-Urm", &format!("{full} {arguments}")) {
            check(&output, code, &words);
        }
    }
}

/// The file of a key, and the public half of another one.
fn tunnel_keys(directory: &TempDir) -> (PathBuf, String) {
    let make = |name: &str| {
        let path = directory.path().join(name);
        let made = Command::new(VPNMESH)
            .args(["keygen", "--out", text(&path)])
            .output()
            .unwrap();
        let public = String::from_utf8(made.stdout).unwrap();
        (path, public.trim().to_owned())
    };
    (make("key").0, make("other").1)
}

#[test]
fn a_client_without_the_right_to_its_device_is_named() {
    let (_directory, mesh, _) = mesh();
    let config = mesh.join("clients/c1/client.toml");
    let settings = fs::read_to_string(&config).unwrap();
    fs::write(&config, settings + "\n[tun]\nname = 'vm-denied'\n").unwrap();
    let script = format!("exec {VPNMESH} client --config {}", config.display());
    if let Some(output) = unshared("-U", &script) {
        check(&output, 4, &["vm-denied", "CAP_NET_ADMIN"]);
    }
}

#[test]
fn a_device_without_the_right_to_it_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (key, peer) = tunnel_keys(&directory);
    let script = format!(
        "{VPNMESH} tunnel --if vm-denied --key-file {} --listen 127.0.0.1:0 --peer {peer}@127.0.0.1:9",
        key.display(),
    );
    // Root of the outer namespace has no rights here: it is nobody in a user namespace of its own.
    if let Some(output) = unshared("-U", &script) {
        check(&output, 4, &["vm-denied"]);
    }
}

#[test]
fn wrong_arguments_are_refused_before_anything_happens() {
    for arguments in [
        &[
            "tunnel",
            "--if",
            "x",
            "--key-file",
            "k",
            "--listen",
            "127.0.0.1:0",
            "--peer",
            "nobody",
        ][..],
        &["tunnel", "--suite", "rot13"],
        &["tunnel", "--dscp", "64"],
        &["tunnel", "--pq", "maybe"],
        &["node"],
        &["explode"],
    ] {
        let output = Command::new(VPNMESH).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(!output.stderr.is_empty());
    }
}
