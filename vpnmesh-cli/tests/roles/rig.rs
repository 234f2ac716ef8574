//! A mesh in a directory, and its processes.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// One node that runs, one that does not, and a client.
pub(crate) struct Mesh {
    pub(crate) directory: TempDir,
    control: String,
}

/// A running role.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let control = TcpListener::bind("127.0.0.1:0").unwrap();
        let control = control.local_addr().unwrap().to_string();
        let node = |name: &str| {
            let free = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap();
            format!("[[nodes]]\nname = '{name}'\nregion = 'r'\naddress = '{address}'\n")
        };
        let description = format!(
            "controller = '{control}'\n{}{}[[clients]]\nname = 'c1'\nprefixes = ['10.9.0.1/32']\n",
            node("n1"),
            node("n2"),
        );
        let mesh = Self { directory, control };
        let (file, made) = (mesh.path("mesh.toml"), mesh.path("mesh"));
        std::fs::write(&file, description).unwrap();
        run(VPNMESH, &["provision", &file, &made]);
        for part in ["controller", "nodes", "clients", "admin"] {
            run(
                "mv",
                &[&mesh.path(&format!("mesh/{part}")), &mesh.path(part)],
            );
        }
        mesh
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn start(&self, role: &str, settings: &str) -> Process {
        let mut command = Command::new(VPNMESH);
        command.args([role, "--json", "--config", &self.path(settings)]);
        Process::spawn(command)
    }

    /// An administrator orders something about the node that does not run.
    pub(crate) fn admin(&self, order: &str) {
        let credentials = self.path("admin/tls");
        let at = ["--controller", &self.control, "--credentials", &credentials];
        run(VPNMESH, &[&[order, "n2"], &at[..]].concat());
    }
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel(); // as much as a test makes it say
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _nobody_listens = sender.send(line);
            }
        });
        Self { child, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next event of that name.
    pub(crate) fn event(&self, name: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect(name);
            let record: Value = serde_json::from_str(&line).unwrap();
            if record["event"] == name {
                return record;
            }
        }
    }

    /// A report made from now on.
    pub(crate) fn report(&self) -> Value {
        while self.lines.try_recv().is_ok() {}
        self.event("report")
    }

    /// SIGTERM ends it with code 0.
    pub(crate) fn ends_well(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(2)); // polls; nothing depends on how long
        };
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

pub(crate) const VPNMESH: &str = env!("CARGO_BIN_EXE_vpnmesh");
const PATIENCE: Duration = Duration::from_secs(60);
