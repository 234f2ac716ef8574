//! A running role.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use vpnmesh_core::Timestamp;
use vpnmesh_transport::Machine;
use vpnmesh_transport::io::{CommandError, CommandSender, IoCounters};

use super::keeper::Input;
use super::{Metric, Names, Role};
use crate::Error;

/// Something with the time at which the packet thread, or the keeper, said it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamped<T> {
    /// On `CLOCK_MONOTONIC`.
    pub at: Timestamp,
    /// What was said.
    pub what: T,
}

/// A running role. Dropping it stops the role.
pub struct Handle<R: Role> {
    pub(super) name: String,
    pub(super) events: Receiver<Stamped<R::Event>>,
    pub(super) shared: Arc<Shared<R::Report>>,
    pub(super) inputs: SyncSender<Input<R>>,
    pub(super) commands: CommandSender<<R::Machine as Machine>::Command>,
    pub(super) keeper: Option<JoinHandle<()>>,
}

/// What the keeper shares with the handle.
#[derive(Debug)]
pub(super) struct Shared<T> {
    pub(super) stopping: AtomicBool,
    pub(super) events_dropped: AtomicU64,
    pub(super) names: Mutex<Names>,
    pub(super) report: Mutex<Option<Stamped<T>>>,
}

impl<T> Shared<T> {
    pub(super) fn new(names: Names) -> Self {
        Self {
            stopping: AtomicBool::new(false),
            events_dropped: AtomicU64::new(0),
            names: Mutex::new(names),
            report: Mutex::new(None),
        }
    }
}

/// The figures of the newest report.
pub(super) fn metrics<R: Role>(shared: &Shared<R::Report>) -> Vec<Metric> {
    let names = lock(&shared.names).clone();
    let report = lock(&shared.report);
    let report = report.as_ref().map(|report| &report.what);
    report.map_or_else(Vec::new, |report| R::metrics(report, &names))
}

impl<R: Role> Handle<R> {
    /// What an exporter reads.
    #[cfg(feature = "prometheus")]
    pub(super) fn shared(&self) -> Arc<Shared<R::Report>> {
        Arc::clone(&self.shared)
    }

    /// The member's name in the membership.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What happens. At 4096 events that nobody takes out, further ones are dropped and counted.
    #[must_use]
    pub fn events(&self) -> &Receiver<Stamped<R::Event>> {
        &self.events
    }

    /// Events dropped because nobody took them out.
    #[must_use]
    pub fn events_dropped(&self) -> u64 {
        self.shared.events_dropped.load(Ordering::Relaxed)
    }

    /// The newest report; the first one comes within 250 ms.
    #[must_use]
    pub fn report(&self) -> Option<Stamped<R::Report>> {
        lock(&self.shared.report).clone()
    }

    /// The figures of the newest report; none before the first.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        metrics::<R>(&self.shared)
    }

    /// What the members are called.
    #[must_use]
    pub fn names(&self) -> Names {
        lock(&self.shared.names).clone()
    }

    /// The counters of the packet thread.
    #[must_use]
    pub fn counters(&self) -> IoCounters {
        self.commands.counters()
    }

    /// Hands a command to the machine.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many commands wait; [`Error::Stopped`] if the packet thread has
    /// stopped.
    pub fn command(&self, command: <R::Machine as Machine>::Command) -> Result<(), Error> {
        let (sent, role) = (self.commands.command(command), R::NAME);
        sent.map_err(|refused| match refused {
            CommandError::Full(_) => Error::Busy { role },
            _ => Error::Stopped { role },
        })
    }

    /// Whether the role has ended by itself: its packet thread is gone.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.keeper.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops the role and waits for its threads.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        let _ = self.inputs.try_send(Input::Wake); // a full queue wakes the keeper too
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join(); // a keeper that panicked has stopped as well
        }
    }
}

impl<R: Role> Drop for Handle<R> {
    fn drop(&mut self) {
        self.join();
    }
}

impl<R: Role> fmt::Debug for Handle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("role", &R::NAME)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What is locked here is replaced whole: a panic elsewhere leaves it sound.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
