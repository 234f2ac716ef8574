//! Two hosts, a wire between them, and a tunnel process on each.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use vpnmesh_testkit::lab::{Child, Host, Inside, Lab};

/// Two hosts with a key each.
pub(crate) struct Pair {
    pub(crate) a: End,
    pub(crate) b: End,
    pub(crate) directory: TempDir,
    pub(crate) lab: Lab, // ends last: it kills what still runs
}

/// One host.
pub(crate) struct End {
    pub(crate) host: Host,
    pub(crate) inner: &'static str,
    /// Its address on the wire.
    pub(crate) outer: IpAddr,
    key: PathBuf,
    public: String,
}

/// A running `vpnmesh tunnel`.
pub(crate) struct Tunnel {
    child: Child,
    lines: Receiver<String>,
}

impl Pair {
    pub(crate) fn new(inside: Inside) -> Self {
        let mut pair = Self::over_the_lab(inside);
        pair.join();
        pair
    }

    /// Two hosts that only the lab's own link connects.
    pub(crate) fn over_the_lab(inside: Inside) -> Self {
        let lab = Lab::new(inside, 1).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let a = End::new(&lab, &directory, "a", "10.77.0.1");
        let b = End::new(&lab, &directory, "b", "10.77.0.2");
        Self {
            a,
            b,
            directory,
            lab,
        }
    }

    /// A veth pair where the kernel has it, else the lab's own link.
    fn join(&mut self) {
        let anchor = self.b.spawn("sleep 60");
        let veth = format!(
            "ip link add eth0 type veth peer name eth0 netns {}",
            anchor.pid()
        );
        if self.a.run(&veth).is_none() {
            println!("  no veth here: the lab's emulated link it is");
            return;
        }
        for (end, address) in [(&mut self.a, "192.0.2.1"), (&mut self.b, "192.0.2.2")] {
            end.run(&format!("ip addr add {address}/24 dev eth0"))
                .unwrap();
            end.run("ip link set dev eth0 up").unwrap();
            end.outer = address.parse().unwrap();
        }
    }

    fn ends(&self) -> [&End; 2] {
        [&self.a, &self.b]
    }

    /// Devices of the administrator's, which outlive the tunnels.
    pub(crate) fn make_devices(&self) {
        for end in self.ends() {
            end.run("ip tuntap add dev vm0 mode tun").unwrap();
        }
        self.configure();
    }

    /// Addresses on the devices.
    pub(crate) fn configure(&self) {
        for end in self.ends() {
            end.run(&format!("ip addr add {}/24 dev vm0", end.inner))
                .unwrap();
            end.run("ip link set dev vm0 up").unwrap();
        }
    }

    /// Plugs the wire in or out.
    pub(crate) fn wire(&self, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        let set = self.a.run(&format!("ip link set dev eth0 {state}"));
        if set.is_none() {
            self.lab.fabric().cut("a", "b", !plugged).unwrap();
        }
    }

    /// An echo through the tunnel, repeated until it is answered.
    pub(crate) fn ping(&self) {
        let line = format!("ping -q -c 1 -W 1 {}", self.b.inner);
        until("a ping", || self.a.run(&line).is_some());
    }
}

impl End {
    fn new(lab: &Lab, directory: &TempDir, name: &'static str, inner: &'static str) -> Self {
        let last = inner.rsplit('.').next().unwrap();
        let outer: IpAddr = format!("203.0.113.{last}").parse().unwrap();
        let key = directory.path().join(name);
        let made = Command::new(VPNMESH)
            .args(["keygen", "--out"])
            .arg(&key)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self {
            host: lab.host(name, outer).unwrap(),
            inner,
            outer,
            key,
            public: String::from_utf8(made.stdout).unwrap().trim().to_owned(),
        }
    }

    /// Where its key lies.
    pub(crate) fn folder(&self) -> String {
        self.key.parent().unwrap().display().to_string()
    }

    /// What a program prints; `None` if it fails.
    pub(crate) fn run(&self, line: &str) -> Option<String> {
        let mut command = words(line);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let child = self.host.spawn(command).unwrap();
        let said = std::io::read_to_string(child.take_stdout().unwrap()).unwrap();
        child.wait().unwrap().success().then_some(said)
    }

    /// A program that runs on.
    pub(crate) fn spawn(&self, line: &str) -> Child {
        let mut command = words(line);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.host.spawn(command).unwrap()
    }

    pub(crate) fn start(&self, peer: &Self, more: &[&str]) -> Tunnel {
        self.start_with(peer, more, |_| {})
    }

    /// Starts a tunnel whose process is `changed` before.
    pub(crate) fn start_with(
        &self,
        peer: &Self,
        more: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Tunnel {
        self.begin(peer, &[&["tunnel", "--if", "vm0"], more].concat(), change)
    }

    /// Starts one end of something that both ends do.
    pub(crate) fn begin(
        &self,
        peer: &Self,
        what: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Tunnel {
        let mut command = Command::new(VPNMESH);
        command
            .args(what)
            .arg("--key-file")
            .arg(&self.key)
            .args(["--listen", &format!("{}:{PORT}", self.outer)])
            .args(["--peer", &format!("{}@{}:{PORT}", peer.public, peer.outer)])
            .stdout(Stdio::piped());
        change(&mut command);
        let child = self.host.spawn(command).unwrap();
        let output = BufReader::new(child.take_stdout().unwrap());
        let (sender, lines) = channel(); // as much as a test makes it say
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _nobody_listens = sender.send(line);
            }
        });
        Tunnel { child, lines }
    }
}

impl Tunnel {
    /// The next line that it prints.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    /// The next event of that name.
    pub(crate) fn event(&self, name: &str) -> Value {
        loop {
            let record: Value = serde_json::from_str(&self.line()).unwrap();
            if record["event"] == name {
                return record;
            }
        }
    }

    /// The drops for that reason, by a report made from now on.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.report()["drops"][reason].as_u64().unwrap_or(0)
    }

    /// A report made from now on; one comes every second.
    pub(crate) fn report(&self) -> Value {
        while self.lines.try_recv().is_ok() {}
        self.event("report")
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_running()
    }

    /// SIGTERM ends it with code 0.
    pub(crate) fn ends_well(self) {
        self.child.terminate().unwrap();
        assert_eq!(self.end().code(), Some(0));
    }

    /// SIGKILL.
    pub(crate) fn dies(self) {
        self.child.kill().unwrap();
        assert_eq!(self.end().signal(), Some(9));
    }

    fn end(&self) -> ExitStatus {
        let ended = self.child.wait_at_most(PATIENCE).unwrap();
        ended.expect("it ends")
    }
}

pub(crate) fn until(what: &str, mut look: impl FnMut() -> bool) {
    let start = Instant::now();
    while !look() {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        thread::sleep(Duration::from_millis(2)); // polls; nothing depends on how long
    }
}

fn words(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

const VPNMESH: &str = env!("CARGO_BIN_EXE_vpnmesh");
const PORT: u16 = 51820;
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
