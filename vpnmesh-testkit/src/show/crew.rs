//! All processes of the show, each on its host.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::Halt;
use super::board::Board;
use super::roles::ROLE;
use crate::lab::{Child, Lab};

/// A running process of the show.
#[derive(Debug)]
struct Worker {
    child: Child,
}

/// Starts, signals and restarts the members of the mesh.
#[derive(Debug)]
pub(super) struct Crew {
    lab: Arc<Lab>,
    board: Arc<Board>,
    program: PathBuf,
    workers: BTreeMap<String, Worker>, // by name; at most one for each place
    burners: Vec<Child>,
    logs: Option<PathBuf>,
}

impl Crew {
    /// A crew of nobody yet. What members say goes to `board`, and into `logs` too.
    ///
    /// # Errors
    /// [`Halt`] if the path of this program is unknown.
    pub(super) fn new(
        lab: Arc<Lab>,
        board: Arc<Board>,
        logs: Option<PathBuf>,
    ) -> Result<Self, Halt> {
        let program = std::env::current_exe();
        Ok(Self {
            lab,
            board,
            program: program.map_err(|error| Halt::new("find this program", error))?,
            workers: BTreeMap::new(),
            burners: Vec::new(),
            logs,
        })
    }

    /// Starts the member `name` in role `kind`, with settings in `file`.
    ///
    /// # Errors
    /// [`Halt`] if it does not start.
    pub(super) fn start(&mut self, name: &str, kind: &str, file: &Path) -> Result<(), Halt> {
        self.board.look().forget_report(name);
        let child = self.spawn(name, kind, file, Stdio::piped())?;
        let (output, errors) = (child.take_stdout(), child.take_stderr());
        let mut log = self.log(name);
        if let Some(output) = output {
            let (board, name) = (Arc::clone(&self.board), name.to_owned());
            std::thread::spawn(move || {
                board.read(&name, BufReader::new(output), |line| {
                    if let Some(log) = &mut log {
                        let _a_log_is_no_must = writeln!(log, "{line}");
                    }
                });
            });
        }
        if let Some(errors) = errors {
            let (board, name) = (Arc::clone(&self.board), name.to_owned());
            std::thread::spawn(move || board.read(&name, BufReader::new(errors), |_| {}));
        }
        self.workers.insert(name.to_owned(), Worker { child });
        Ok(())
    }

    /// Starts a process of the show on the host `host`; its standard output and input are piped.
    ///
    /// # Errors
    /// [`Halt`] if it does not start.
    pub(super) fn spawn(
        &self,
        host: &str,
        kind: &str,
        file: &Path,
        errors: Stdio,
    ) -> Result<Child, Halt> {
        let mut command = Command::new(&self.program);
        command.args([ROLE, kind]).arg(file).process_group(0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let child = self.lab.spawn(host, command);
        child.map_err(|error| Halt::new(format!("start {kind} on {host}"), error))
    }

    /// Whether the process of `name` runs (or is stopped).
    #[must_use]
    pub(super) fn is_running(&self, name: &str) -> bool {
        self.workers
            .get(name)
            .is_some_and(|worker| worker.child.is_running())
    }

    /// Kills it at once (SIGKILL).
    ///
    /// # Errors
    /// [`Halt`] if there is no such process; so for all signals.
    pub(super) fn kill(&mut self, name: &str) -> Result<(), Halt> {
        let child = &self.worker(name)?.child;
        let killed = child.kill().and_then(|()| child.wait());
        killed.map_err(|error| Halt::new(format!("kill {name}"), error))?;
        self.workers.remove(name);
        self.board.look().forget_report(name);
        Ok(())
    }

    /// Freezes it (SIGSTOP).
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub(super) fn stop(&self, name: &str) -> Result<(), Halt> {
        let stopped = self.worker(name)?.child.stop();
        stopped.map_err(|error| Halt::new(format!("stop {name}"), error))
    }

    /// Lets it run on (SIGCONT).
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub(super) fn cont(&self, name: &str) -> Result<(), Halt> {
        let continued = self.worker(name)?.child.cont();
        continued.map_err(|error| Halt::new(format!("continue {name}"), error))
    }

    /// Uses up a processor in the name of `name`, as if that member did.
    ///
    /// # Errors
    /// [`Halt`] if there is no such process, or the burner does not start.
    pub(super) fn burn(&mut self, name: &str) -> Result<(), Halt> {
        let group = self.worker(name)?.child.pid();
        let mut command = Command::new(&self.program);
        command
            .args([ROLE, "burn", "-"])
            .process_group(group.cast_signed());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let burner = self.lab.spawn(name, command);
        let burner = burner.map_err(|error| Halt::new(format!("burn on {name}"), error))?;
        self.burners.push(burner);
        Ok(())
    }

    /// No processor is used up any more.
    pub(super) fn stop_burning(&mut self) {
        self.burners.clear();
    }

    fn worker(&self, name: &str) -> Result<&Worker, Halt> {
        self.workers.get(name).ok_or_else(|| absent(name))
    }

    fn log(&self, name: &str) -> Option<std::fs::File> {
        let path = self.logs.as_ref()?.join(format!("{name}.jsonl"));
        let mut options = std::fs::OpenOptions::new();
        options.create(true).append(true).open(path).ok()
    }
}

fn absent(name: &str) -> Halt {
    Halt::Missing(format!("{name} to run"))
}
