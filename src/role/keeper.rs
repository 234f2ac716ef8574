//! The thread beside the packet thread: whatever must not keep packets waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use vpnmesh_core::{Membership, Timestamp};
use vpnmesh_transport::io::{
    Clock, CommandSender, Driver, DriverConfig, DriverHandle, EventSink, PacketIo, UdpSocket,
};
use vpnmesh_transport::{Incarnation, Machine};

use super::handle::{Shared, Stamped, lock};
use super::{Handle, Names, Role};
use crate::{Error, Member};

/// What a keeper wakes up for.
pub(super) enum Input<R: Role> {
    /// The machine told something.
    Machine(Timestamp, <R::Machine as Machine>::Event),
    /// Somebody else has something for the duty; look there.
    Wake,
}

/// What one role does beside its packets.
pub(super) trait Duty<R: Role>: Send + 'static {
    /// The machine told something.
    fn handle_event(
        &mut self,
        event: <R::Machine as Machine>::Event,
        at: Timestamp,
        desk: &mut Desk<R>,
    );

    /// Somebody woke the keeper: there is news for this duty.
    fn handle_wake(&mut self, _now: Timestamp, _desk: &mut Desk<R>) {}

    /// A period ended.
    fn handle_timeout(&mut self, now: Timestamp, desk: &mut Desk<R>);

    /// When to come back.
    fn poll_timeout(&self) -> Timestamp;
}

/// What a duty works with.
pub(super) struct Desk<R: Role> {
    pub(super) commands: CommandSender<<R::Machine as Machine>::Command>,
    events: SyncSender<Stamped<R::Event>>,
    shared: Arc<Shared<R::Report>>,
    member: Member,
}

/// What a role is started with.
pub(super) struct Start<M> {
    pub(super) member: Member,
    pub(super) machine: M,
    pub(super) udp: UdpSocket,
    pub(super) packet_io: Option<Box<dyn PacketIo>>,
    pub(super) name: String,
}

impl<R: Role> Desk<R> {
    /// Tells the owner of the role.
    pub(super) fn emit(&self, what: R::Event, at: Timestamp) {
        if self.events.try_send(Stamped { at, what }).is_err() {
            self.shared.events_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Publishes the newest report.
    pub(super) fn publish(&self, what: R::Report, at: Timestamp) {
        *lock(&self.shared.report) = Some(Stamped { at, what });
    }

    /// Keeps a membership that the machine took over.
    pub(super) fn keep(&mut self, signed: &[u8]) -> Result<(), Error> {
        let kept = self.member.keep(signed);
        *lock(&self.shared.names) = Names::from(self.member.membership());
        kept
    }

    /// Begins a new life above what peers have seen: the disk was rolled back.
    pub(super) fn begin_again(&mut self, seen: u64) -> Result<Incarnation, Error> {
        self.member.begin_again(seen)
    }

    /// The newest membership that is on disk.
    pub(super) fn membership(&self) -> &Membership {
        self.member.membership()
    }

    /// Asks the machine for something. A full queue means that it is far behind: it is asked again
    /// in the next period.
    pub(super) fn ask(&self, command: <R::Machine as Machine>::Command) {
        let _ = self.commands.command(command);
    }
}

/// Starts the packet thread and its keeper.
pub(super) fn spawn<R: Role>(
    start: Start<R::Machine>,
    duty: impl FnOnce(&SyncSender<Input<R>>) -> Result<Box<dyn Duty<R>>, Error>,
) -> Result<Handle<R>, Error> {
    let (inputs, queue) = sync_channel(MAX_INPUTS);
    let (sender, events) = sync_channel(MAX_EVENTS);
    let shared = Arc::new(Shared::new(Names::from(start.member.membership())));
    let mut duty = duty(&inputs)?;
    let driver = drive::<R>(start.machine, start.udp, start.packet_io, &inputs, &shared)?;
    let commands = driver.commands();
    let mut desk = Desk {
        commands: commands.clone(),
        events: sender,
        shared: Arc::clone(&shared),
        member: start.member,
    };
    let work = move || keep(&mut *duty, &mut desk, &driver, &queue);
    let keeper = Builder::new().name("vpnmesh-keeper".into()).spawn(work);
    Ok(Handle {
        name: start.name,
        events,
        shared,
        inputs,
        commands,
        keeper: Some(keeper.map_err(Error::system("start the keeper thread"))?),
    })
}

fn drive<R: Role>(
    machine: R::Machine,
    udp: UdpSocket,
    packet_io: Option<Box<dyn PacketIo>>,
    inputs: &SyncSender<Input<R>>,
    shared: &Arc<Shared<R::Report>>,
) -> Result<DriverHandle<R::Machine>, Error> {
    let (inputs, shared) = (inputs.clone(), Arc::clone(shared));
    let call = move |event| {
        let taken = inputs.try_send(Input::Machine(Clock.now(), event)).is_ok();
        if !taken {
            shared.events_dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    };
    let sink = EventSink::Call(Box::new(call));
    Ok(Driver::spawn_with(
        machine,
        udp,
        packet_io,
        sink,
        DriverConfig::default(),
    )?)
}

fn keep<R: Role>(
    duty: &mut dyn Duty<R>,
    desk: &mut Desk<R>,
    driver: &DriverHandle<R::Machine>,
    queue: &Receiver<Input<R>>,
) {
    while !desk.shared.stopping.load(Ordering::Acquire) && !driver.is_finished() {
        let wait = duty.poll_timeout().since(Clock.now()).min(MAX_WAIT);
        match queue.recv_timeout(wait) {
            Ok(Input::Machine(at, event)) => duty.handle_event(event, at, desk),
            Ok(Input::Wake) => duty.handle_wake(Clock.now(), desk),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Clock.now();
        if now >= duty.poll_timeout() {
            duty.handle_timeout(now, desk);
        }
    }
}

/// The next of a row of moments `every` apart, without catching up on those that were missed.
pub(super) fn next_after(due: Timestamp, every: Duration, now: Timestamp) -> Timestamp {
    let next = due + every;
    if next > now { next } else { now + every }
}

const MAX_INPUTS: usize = 8192;
const MAX_EVENTS: usize = 4096;
/// A packet thread that died is noticed within this time.
const MAX_WAIT: Duration = Duration::from_millis(250);
