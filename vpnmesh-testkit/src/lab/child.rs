//! Processes on a host: they start in its namespace and never outlive the lab.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A process on a host. Dropping the handle kills it; it dies with this process too.
///
/// All methods take `&self`, so that one thread can wait while another kills.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    /// Refers to this very process even after it was reaped.
    pidfd: OwnedFd,
    process: Mutex<std::process::Child>,
}

impl Child {
    fn new(process: std::process::Child) -> io::Result<Self> {
        let pid = Pid::from_child(&process);
        Ok(Self {
            pid,
            pidfd: rustix::process::pidfd_open(pid, PidfdFlags::empty())?,
            process: Mutex::new(process),
        })
    }

    /// The process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Kills it at once, stopped or not (SIGKILL).
    ///
    /// # Errors
    /// The process is gone already; so for the other signals.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Freezes it (SIGSTOP): it lives, but does nothing.
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub fn stop(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it run on (SIGCONT).
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub fn cont(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end (SIGTERM).
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Whether it has not ended yet; a stopped process has not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.try_wait(), Ok(None))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.process().try_wait()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        self.ended(None)?;
        self.process().wait()
    }

    /// Waits for its end, at most `patience`; `None` if it still runs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait_at_most(&self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        self.ended(Some(patience))?;
        self.try_wait()
    }

    /// Waits until the process has ended or patience has, without holding the lock.
    fn ended(&self, patience: Option<Duration>) -> io::Result<()> {
        let until = patience.map(|patience| Instant::now() + patience);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map(drop).map_err(Into::into),
            }
        }
    }

    /// Its standard input, once, if the command piped it.
    #[must_use]
    pub fn take_stdin(&self) -> Option<std::process::ChildStdin> {
        self.process().stdin.take()
    }

    /// Its standard output, once, if the command piped it.
    #[must_use]
    pub fn take_stdout(&self) -> Option<std::process::ChildStdout> {
        self.process().stdout.take()
    }

    /// Its standard error, once, if the command piped it.
    #[must_use]
    pub fn take_stderr(&self) -> Option<std::process::ChildStderr> {
        self.process().stderr.take()
    }

    fn process(&self) -> MutexGuard<'_, std::process::Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended before; then there is nobody to kill.
        let _gone = self.kill();
        let _status = self.process().wait();
    }
}

/// The thread that starts all processes of a lab.
///
/// A process told to die with its parent dies with the *thread* that started it, so that thread
/// must live as long as the lab, whichever thread asks.
#[derive(Debug)]
pub(super) struct Spawner {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

type Order = (Command, Arc<OwnedFd>, mpsc::SyncSender<io::Result<Child>>);

impl Spawner {
    pub(super) fn start() -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>(); // as many as threads that wait in `spawn`
        let thread = std::thread::Builder::new()
            .name("lab-spawner".into())
            .spawn(move || {
                for (command, namespace, reply) in inbox {
                    let _asker_gone = reply.send(start(command, &namespace));
                }
            })?;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Starts `command` in a network namespace.
    pub(super) fn spawn(&self, command: Command, namespace: Arc<OwnedFd>) -> io::Result<Child> {
        let (reply, answer) = mpsc::sync_channel(1);
        let order = (command, namespace, reply);
        let sent = self
            .orders
            .as_ref()
            .is_some_and(|orders| orders.send(order).is_ok());
        if !sent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        answer.recv().map_err(|_| io::ErrorKind::BrokenPipe)?
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

#[allow(unsafe_code)]
fn start(mut command: Command, namespace: &Arc<OwnedFd>) -> io::Result<Child> {
    let namespace = Arc::clone(namespace);
    let parent = rustix::process::getpid();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            return Err(io::ErrorKind::BrokenPipe.into()); // the parent died before the line above
        }
        let network = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(namespace.as_fd(), network)?)
    };
    // SAFETY: between fork and exec the closure makes system calls only: no allocation, no lock.
    // The descriptor it uses is kept open by the `Arc` it owns.
    unsafe { command.pre_exec(prepare) };
    Child::new(command.spawn()?)
}
