//! `vpnmesh psk` beside a WireGuard of others.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use vpnmesh_testkit::lab::{Child, Inside};

use crate::rig::{End, Pair, Tunnel, until};

/// Two wireguard-go whose pre-shared keys differ do not speak with each other, until ours are in.
pub(crate) fn a_wireguard_gets_our_secret(inside: Inside) {
    let pair = Pair::new(inside);
    let sockets = Command::new("mount")
        .args(["-t", "tmpfs", "none", "/run"])
        .status();
    assert!(
        sockets.unwrap().success(),
        "the sockets of wireguard-go get a place of their own"
    );
    fs::create_dir_all("/run/wireguard").unwrap();
    let (a, b) = (
        WireGuard::new(&pair, &pair.a, "wga"),
        WireGuard::new(&pair, &pair.b, "wgb"),
    );
    a.set_up(&pair.a, &b, &pair.b);
    b.set_up(&pair.b, &a, &pair.a);
    let ping = format!("ping -q -c 1 -W 2 {}", pair.b.inner);
    assert!(pair.a.run(&ping).is_none(), "their keys differ");

    let ours = [
        a.protect(&pair.a, &b, &pair.b),
        b.protect(&pair.b, &a, &pair.a),
    ];
    for end in &ours {
        assert_eq!(end.event("rotated")["count"], 1);
    }
    until("a ping through WireGuard", || pair.a.run(&ping).is_some());
    assert_eq!(a.psk(&pair.a), b.psk(&pair.b));
    ours.into_iter().for_each(Tunnel::ends_well);
}

/// A wireguard-go and its keys.
struct WireGuard {
    name: &'static str,
    secret: String,
    public: String,
    _process: Child,
}

impl WireGuard {
    fn new(pair: &Pair, end: &End, name: &'static str) -> Self {
        let secret = end.run("wg genkey").unwrap().trim().to_owned();
        let mut wg = Command::new("wg");
        let mut wg = wg
            .arg("pubkey")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wg.stdin
            .take()
            .unwrap()
            .write_all(secret.as_bytes())
            .unwrap();
        let public = String::from_utf8(wg.wait_with_output().unwrap().stdout).unwrap();
        for (what, text) in [
            ("key", secret.clone()),
            ("psk", end.run("wg genpsk").unwrap()),
        ] {
            fs::write(pair.directory.path().join(format!("{name}.{what}")), text).unwrap();
        }
        let process = end.spawn(&format!("wireguard-go -f {name}"));
        let socket = format!("/run/wireguard/{name}.sock");
        until("wireguard-go", || fs::exists(&socket).unwrap());
        Self {
            name,
            secret,
            public: public.trim().to_owned(),
            _process: process,
        }
    }

    fn set_up(&self, here: &End, other: &Self, there: &End) {
        assert_ne!(self.secret, other.secret);
        let name = self.name;
        let file = |what: &str| format!("{}.{what}", name);
        let folder = here.folder();
        let lines = [
            format!(
                "wg set {name} listen-port 51900 private-key {folder}/{}",
                file("key")
            ),
            format!(
                "wg set {name} peer {} endpoint {}:51900 allowed-ips 0.0.0.0/0 preshared-key {folder}/{}",
                other.public,
                there.outer,
                file("psk"),
            ),
            format!("ip addr add {}/24 dev {name}", here.inner),
            format!("ip link set dev {name} up"),
        ];
        for line in lines {
            here.run(&line).expect(&line);
        }
    }

    fn protect(&self, here: &End, other: &Self, there: &End) -> Tunnel {
        let what = [
            "psk",
            "--if",
            self.name,
            "--wg-peer",
            &other.public,
            "--json",
        ];
        here.begin(there, &what, |_| {})
    }

    fn psk(&self, here: &End) -> String {
        let shown = here
            .run(&format!("wg show {} preshared-keys", self.name))
            .unwrap();
        shown.split_whitespace().nth(1).unwrap().to_owned()
    }
}
