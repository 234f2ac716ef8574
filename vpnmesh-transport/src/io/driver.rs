//! Runs a machine on a thread of its own.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::error::Error;
use super::packet::PacketIo;
use super::queue::{Queue, Refused};
use super::stats::{IoCounters, IoStats};
use super::turn::Loop;
use super::udp::UdpSocket;
use crate::machine::Machine;

/// Starts the thread that drives a machine over a UDP socket and a local packet I/O.
#[derive(Debug, Clone, Copy)]
pub struct Driver;

/// How a driver works. Each bound is also what is dropped at it, with a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverConfig {
    /// Name of the thread, as `top -H` shows it (15 bytes).
    pub thread_name: String,
    /// Commands that may wait. Beyond it [`CommandError::Full`].
    pub commands: usize,
    /// Events that may wait. Beyond it events are dropped and counted; too small loses news.
    pub events: usize,
    /// Datagrams that may wait for a full socket. From half of it on no inner packet is read; beyond
    /// it datagrams are dropped and counted.
    pub send_queue: usize,
    /// Receive calls in one turn, each up to 32 messages. Large: inner packets wait longer under
    /// load. Small: more system calls.
    pub receive_calls: usize,
    /// Inner packets in one turn, likewise.
    pub inner_packets: usize,
    /// After input that came out of an idle time the thread looks for the answer so long before it
    /// sleeps: waking up again would take longer than most answers do. It spends at most one
    /// hundredth of the time on this. Zero: it always sleeps.
    pub alert_for: Duration,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            thread_name: "vpnmesh-io".to_owned(),
            commands: 1024,
            events: 4096,
            send_queue: 4096,
            receive_calls: 8,
            inner_packets: 64,
            alert_for: Duration::from_micros(300),
        }
    }
}

/// Where a machine's events go.
pub enum EventSink<E> {
    /// Into a bounded queue, taken out with [`DriverHandle::events`].
    Queue,
    /// To a function on the packet thread, which must not wait; false if it had to drop the event.
    Call(Box<dyn FnMut(E) -> bool + Send>),
}

impl<E> fmt::Debug for EventSink<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queue => "Queue",
            Self::Call(_) => "Call",
        })
    }
}

/// Why a command was not taken. The command comes back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError<C> {
    /// Too many commands wait. Try again later.
    #[error("too many commands wait for the packet thread")]
    Full(C),
    /// The driver has stopped.
    #[error("the packet thread has stopped")]
    Stopped(C),
}

impl Driver {
    /// Starts a driver with the defaults.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn spawn<M>(
        machine: M,
        udp: UdpSocket,
        packet_io: Option<Box<dyn PacketIo>>,
    ) -> Result<DriverHandle<M>, Error>
    where
        M: Machine<Command: Send, Event: Send> + Send + 'static,
    {
        Self::spawn_with(
            machine,
            udp,
            packet_io,
            EventSink::Queue,
            DriverConfig::default(),
        )
    }

    /// Starts a driver.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn spawn_with<M>(
        machine: M,
        udp: UdpSocket,
        packet_io: Option<Box<dyn PacketIo>>,
        sink: EventSink<M::Event>,
        config: DriverConfig,
    ) -> Result<DriverHandle<M>, Error>
    where
        M: Machine<Command: Send, Event: Send> + Send + 'static,
    {
        let shared = Arc::new(Shared {
            commands: Queue::new(config.commands.max(1)).map_err(Error::Start)?,
            stopping: AtomicBool::new(false),
            stats: IoStats::default(),
            inner_fault: OnceLock::new(),
        });
        let (sender, events) = sync_channel(config.events.max(1));
        let outlet = match sink {
            EventSink::Queue => Outlet::Queue(sender),
            EventSink::Call(call) => Outlet::Call(call),
        };
        let name = config.thread_name.clone();
        let work = Loop::new(machine, udp, packet_io, outlet, Arc::clone(&shared), config);
        let thread = Builder::new()
            .name(name)
            .spawn(move || work.run())
            .map_err(Error::Start)?;
        Ok(DriverHandle {
            shared,
            events,
            thread: Some(thread),
        })
    }
}

/// A running driver. Dropping it stops the driver.
pub struct DriverHandle<M: Machine> {
    shared: Arc<Shared<M::Command>>,
    events: Receiver<M::Event>,
    thread: Option<JoinHandle<M>>,
}

impl<M: Machine> DriverHandle<M> {
    /// Hands a command to the machine.
    ///
    /// # Errors
    /// [`CommandError`], with the command.
    pub fn command(&self, command: M::Command) -> Result<(), CommandError<M::Command>> {
        self.shared.command(command)
    }

    /// A sender of commands for other threads and tasks.
    #[must_use]
    pub fn commands(&self) -> CommandSender<M::Command> {
        CommandSender(Arc::clone(&self.shared))
    }

    /// The machine's events; nothing comes here if the driver was given [`EventSink::Call`].
    #[must_use]
    pub fn events(&self) -> &Receiver<M::Event> {
        &self.events
    }

    /// The counters as of the last turn.
    #[must_use]
    pub fn counters(&self) -> IoCounters {
        self.shared.stats.snapshot()
    }

    /// Why the local packet I/O ended, if it did. The machine runs on without it.
    #[must_use]
    pub fn inner_fault(&self) -> Option<&Error> {
        self.shared.inner_fault.get()
    }

    /// Whether the thread ended without being told to: the machine panicked.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Handles the commands that wait, sends what they lead to, stops, and gives the machine back.
    ///
    /// # Errors
    /// [`Error::DriverDied`] if the machine panicked.
    pub fn stop(mut self) -> Result<M, Error> {
        self.join().unwrap_or(Err(Error::DriverDied))
    }

    fn join(&mut self) -> Option<Result<M, Error>> {
        let thread = self.thread.take()?;
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.commands.close();
        Some(thread.join().map_err(|_| Error::DriverDied))
    }
}

impl<M: Machine> Drop for DriverHandle<M> {
    fn drop(&mut self) {
        self.join();
    }
}

impl<M: Machine> fmt::Debug for DriverHandle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

/// Hands commands to a driver from any thread.
pub struct CommandSender<C>(Arc<Shared<C>>);

impl<C> CommandSender<C> {
    /// Hands a command to the machine.
    ///
    /// # Errors
    /// [`CommandError`], with the command.
    pub fn command(&self, command: C) -> Result<(), CommandError<C>> {
        self.0.command(command)
    }

    /// The counters as of the driver's last turn.
    #[must_use]
    pub fn counters(&self) -> IoCounters {
        self.0.stats.snapshot()
    }
}

impl<C> Clone for CommandSender<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for CommandSender<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSender").finish_non_exhaustive()
    }
}

/// What the packet thread shares with the handles.
pub(super) struct Shared<C> {
    pub(super) commands: Queue<C>,
    pub(super) stopping: AtomicBool,
    pub(super) stats: IoStats,
    pub(super) inner_fault: OnceLock<Error>,
}

impl<C> Shared<C> {
    fn command(&self, command: C) -> Result<(), CommandError<C>> {
        self.commands
            .push(command)
            .map_err(|(refused, command)| match refused {
                Refused::Full => CommandError::Full(command),
                Refused::Closed => CommandError::Stopped(command),
            })
    }
}

/// The packet thread's end of an [`EventSink`].
pub(super) enum Outlet<E> {
    Queue(SyncSender<E>),
    Call(Box<dyn FnMut(E) -> bool + Send>),
}

impl<E> Outlet<E> {
    /// False if the event had to be dropped.
    pub(super) fn give(&mut self, event: E) -> bool {
        match self {
            Self::Queue(sender) => sender.try_send(event).is_ok(),
            Self::Call(call) => call(event),
        }
    }
}
