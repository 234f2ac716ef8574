//! The packet thread's loop.
//!
//! A turn takes in what arrived (datagrams, inner packets, commands), then tells the machine that
//! time has passed, then sends. The order matters: a thread that comes late, because the machine
//! was busy or the process was stopped, first hands over everything that its peers sent meanwhile,
//! so that its own lateness never looks like their silence. For that the time of a timeout is read
//! *before* the receive call that found the socket empty.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{sched_yield, set_current_timer_slack};
use vpnmesh_core::Timestamp;

use super::alert::Alert;
use super::clock::Clock;
use super::driver::{DriverConfig, Outlet, Shared};
use super::error::Error;
use super::packet::{PacketBatch, PacketIo};
use super::stats::IoCounters;
use super::udp::{Received, Sent, UdpBatch, UdpSocket};
use crate::machine::{Machine, Transmit};

/// Everything that the packet thread owns.
pub(super) struct Loop<M: Machine> {
    machine: M,
    udp: UdpSocket,
    inner: Option<Box<dyn PacketIo>>,
    outlet: Outlet<M::Event>,
    shared: Arc<Shared<M::Command>>,
    config: DriverConfig,
    clock: Clock,
    counters: IoCounters,
    datagrams: UdpBatch,
    packets: PacketBatch,
    outbox: VecDeque<Transmit>, // at most `config.send_queue`
    arrived: Vec<Range<usize>>, // inner packets in `datagrams`; emptied after each message
    commands: Vec<M::Command>,  // of one turn; at most `config.commands`
    blocked: bool,              // the socket's send buffer was full
    more_inner: bool,           // the last batch filled up
    late_weight: usize,         // received since a timeout came due, as the kernel weighs it
    errors: u32,                // receive calls that failed in a row
    rest_until: Timestamp,      // the socket is left alone until then, because it only fails
    alert: Alert,
}

/// What the wait found.
#[derive(Clone, Copy)]
struct Ready {
    datagrams: bool,
    writable: bool,
    inner: bool,
    commands: bool,
}

impl<M: Machine> Loop<M> {
    pub(super) fn new(
        machine: M,
        udp: UdpSocket,
        inner: Option<Box<dyn PacketIo>>,
        outlet: Outlet<M::Event>,
        shared: Arc<Shared<M::Command>>,
        config: DriverConfig,
    ) -> Self {
        Self {
            machine,
            udp,
            inner,
            outlet,
            shared,
            clock: Clock,
            counters: IoCounters::default(),
            datagrams: UdpBatch::new(),
            packets: PacketBatch::new(config.inner_packets, INNER_BYTES),
            outbox: VecDeque::new(),
            arrived: Vec::new(),
            commands: Vec::new(),
            blocked: false,
            more_inner: false,
            late_weight: 0,
            errors: 0,
            rest_until: Timestamp::ZERO,
            alert: Alert::new(config.alert_for, Clock.now()),
            config,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) -> M {
        // Waits end when they should, not up to 50 µs later.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        self.flush(); // the machine may have something to say before anything arrives
        let mut more = false;
        loop {
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            let ready = self.wait(more || stopping);
            more = self.turn(ready);
            self.shared.stats.publish(&self.counters);
            if stopping {
                return self.machine;
            }
        }
    }

    /// Waits for input, room to send, or the machine's timeout; not at all if `at_once`.
    fn wait(&mut self, at_once: bool) -> Ready {
        let now = self.clock.now();
        let rests = now < self.rest_until;
        let until = if rests {
            self.machine.poll_timeout().min(self.rest_until)
        } else {
            self.machine.poll_timeout()
        };
        let timeout = if at_once || self.more_inner && !self.congested() {
            Some(Duration::ZERO)
        } else {
            (until < Timestamp::MAX).then(|| until.since(now))
        };
        // A descriptor that is left out is replaced by one that is never asked for anything.
        let wake = self.shared.commands.as_fd();
        let mut fds = [
            PollFd::from_borrowed_fd(wake, PollFlags::IN),
            PollFd::from_borrowed_fd(wake, PollFlags::empty()),
            PollFd::from_borrowed_fd(wake, PollFlags::empty()),
        ];
        if !rests {
            let room = if self.blocked {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            fds[1] = PollFd::from_borrowed_fd(self.udp.as_fd(), PollFlags::IN | room);
        }
        if let Some(inner) = &self.inner
            && !self.congested()
        {
            fds[2] = PollFd::from_borrowed_fd(inner.readable(), PollFlags::IN);
        }
        self.counters.turns += 1;
        let found = look(
            &mut fds,
            timeout,
            &mut self.alert,
            &mut self.counters.system_calls,
        );
        let any = |n: usize, what| found && fds[n].revents().intersects(what);
        let failed = PollFlags::ERR | PollFlags::HUP;
        Ready {
            commands: any(0, PollFlags::IN),
            datagrams: any(1, PollFlags::IN | failed),
            writable: any(1, PollFlags::OUT | failed),
            inner: self.more_inner || any(2, PollFlags::IN | failed),
        }
    }

    /// Takes in what is ready, handles a timeout, sends. True if datagrams were left behind.
    fn turn(&mut self, ready: Ready) -> bool {
        if ready.writable {
            self.blocked = false;
            self.transmit();
        }
        let due_before = self.machine.poll_timeout();
        let mut now = self.clock.now();
        let mut drained = true;
        if ready.datagrams || due_before <= now {
            drained = self.receive(&mut now);
        }
        if ready.inner && !self.congested() {
            self.read_inner(now);
        }
        if ready.commands {
            self.take_commands(now);
        }
        self.pass_time(now, drained);
        self.flush();
        if ready.inner && self.packets.len() >= GIVE_WAY {
            sched_yield(); // the source is ahead of us: let those run who wait for what was sent
        }
        !drained
    }

    /// Hands datagrams over, batch by batch; true once the socket is empty. `now` ends up as a time
    /// before which everything that had arrived has been handed over.
    fn receive(&mut self, now: &mut Timestamp) -> bool {
        for _ in 0..self.config.receive_calls.max(1) {
            *now = self.clock.now();
            let found = match self.udp.recv(&mut self.datagrams, &mut self.counters) {
                Ok(found) => found,
                Err(_) => return self.receive_failed(*now),
            };
            self.errors = 0;
            if self.machine.poll_timeout() <= *now {
                self.late_weight += self.datagrams.weight();
            }
            for message in 0..self.datagrams.len() {
                self.take_message(message, *now);
            }
            if found == Received::Drained {
                return true;
            }
            self.flush();
        }
        false
    }

    /// Hands the datagrams of one message over, and what they brought to the packet I/O while it is
    /// warm.
    fn take_message(&mut self, message: usize, now: Timestamp) {
        for datagram in self.datagrams.message(message) {
            let (from, ecn) = (datagram.from, datagram.ecn);
            let inner = self.machine.handle_datagram(from, ecn, datagram.data, now);
            if let Some(inner) = inner {
                self.arrived
                    .push(datagram.start + inner.start..datagram.start + inner.end);
            }
        }
        if self.arrived.is_empty() {
            return;
        }
        let storage = self.datagrams.storage();
        deliver(&mut self.inner, storage, &self.arrived, &mut self.counters);
        self.arrived.clear();
    }

    /// A failed call is over with that call, unless the socket does nothing else any more.
    fn receive_failed(&mut self, now: Timestamp) -> bool {
        self.counters.rx_errors += 1;
        self.errors += 1;
        if self.errors >= PATIENCE {
            self.rest_until = now + REST;
        }
        true
    }

    fn read_inner(&mut self, now: Timestamp) {
        let Some(inner) = &mut self.inner else {
            return;
        };
        self.packets.clear();
        let outcome = inner.recv(&mut self.packets);
        self.more_inner = self.packets.room().is_none();
        self.counters.system_calls += inner.take_system_calls();
        for packet in self.packets.iter() {
            self.counters.inner_rx_packets += 1;
            self.counters.inner_rx_bytes += packet.len() as u64;
            self.machine.handle_inner(packet, now);
        }
        if let Err(error) = outcome {
            let _ = self.shared.inner_fault.set(Error::PacketIoEnded(error));
            self.inner = None;
            self.more_inner = false;
        }
    }

    fn take_commands(&mut self, now: Timestamp) {
        let _ = self.shared.commands.take_all(&mut self.commands);
        for command in self.commands.drain(..) {
            self.counters.commands += 1;
            self.machine.handle_command(command, now);
        }
    }

    /// Handles a timeout that is due, unless datagrams that were there before it still wait: those
    /// weigh at most as much as the kernel's buffer holds.
    fn pass_time(&mut self, now: Timestamp, drained: bool) {
        if self.machine.poll_timeout() > now {
            self.late_weight = 0;
        } else if drained || self.late_weight >= self.udp.receive_buffer() {
            self.late_weight = 0;
            self.counters.timeouts += 1;
            self.machine.handle_timeout(now);
        } else {
            self.counters.timeouts_deferred += 1;
        }
    }

    /// Drains all that the machine has to give.
    fn flush(&mut self) {
        while let Some(transmit) = self.machine.poll_transmit() {
            if self.outbox.len() >= SEND_FLUSH {
                self.transmit();
            }
            if self.outbox.len() < self.config.send_queue {
                self.outbox.push_back(transmit);
            } else {
                self.counters.tx_dropped_queue_full += transmit.count() as u64;
                self.machine.recycle(transmit.payload);
            }
        }
        self.transmit();
        while let Some(packet) = self.machine.poll_inner() {
            let whole = 0..packet.len();
            let packets = std::slice::from_ref(&whole);
            deliver(&mut self.inner, &packet, packets, &mut self.counters);
            self.machine.recycle(packet);
        }
        while let Some(event) = self.machine.poll_event() {
            self.counters.events_dropped += u64::from(!self.outlet.give(event));
        }
    }

    fn transmit(&mut self) {
        if self.blocked || self.outbox.is_empty() {
            return;
        }
        let machine = &mut self.machine;
        let sent = self
            .udp
            .send(&mut self.outbox, &mut self.counters, |spent| {
                machine.recycle(spent)
            });
        self.blocked = sent == Sent::Blocked;
    }

    /// Whether inner packets wait at their source until the socket has taken what is queued.
    fn congested(&self) -> bool {
        self.blocked && self.outbox.len() >= self.config.send_queue / 2
    }
}

/// Waits until one of `fds` is ready: first awake, then asleep. An interrupted wait finds nothing.
fn look(
    fds: &mut [PollFd<'_>],
    timeout: Option<Duration>,
    alert: &mut Alert,
    system_calls: &mut u64,
) -> bool {
    let mut ask = |timeout: Option<Duration>| {
        *system_calls += 1;
        poll(fds, timeout.map(timespec).as_ref()).unwrap_or(0) > 0
    };
    if timeout == Some(Duration::ZERO) {
        return ask(timeout);
    }
    let start = Clock.now();
    let until = timeout.map_or(alert.until(), |timeout| alert.until().min(start + timeout));
    let mut now = start;
    while now < until {
        sched_yield(); // whoever has the answer to give may need this processor
        if ask(Some(Duration::ZERO)) {
            alert.handle_spent(start, Clock.now());
            return true;
        }
        now = Clock.now();
    }
    if now > start {
        alert.handle_spent(start, now);
    }
    alert.handle_sleep(now);
    let left = timeout.map(|timeout| timeout.saturating_sub(now.since(start)));
    let found = ask(left);
    if found {
        alert.handle_input(Clock.now());
    }
    found
}

/// Writes inner packets to the packet I/O, if there is one.
fn deliver(
    inner: &mut Option<Box<dyn PacketIo>>,
    from: &[u8],
    packets: &[Range<usize>],
    counters: &mut IoCounters,
) {
    let Some(inner) = inner else {
        counters.inner_tx_dropped_absent += packets.len() as u64;
        return;
    };
    let sent = inner.send(from, packets);
    counters.system_calls += inner.take_system_calls();
    counters.inner_tx_packets += sent.packets as u64;
    counters.inner_tx_bytes += sent.bytes as u64;
    counters.inner_tx_dropped_full += sent.full as u64;
    counters.inner_tx_dropped_invalid += sent.invalid as u64;
}

fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    }
}

/// Bytes that a batch of inner packets may hold: a super-packet is sealed while it is warm in the
/// cache, and small packets leave room for a whole batch.
const INNER_BYTES: usize = 128 << 10;
/// Inner packets, read one by one in a turn, after which others get the processor: on one machine the
/// receivers of the packets, who lose them otherwise. Measured: 3 times as many small datagrams
/// arrive; a stream of super-packets never gets there.
const GIVE_WAY: usize = 32;
/// Datagrams that are handed to a socket that is not blocked before more are taken: one system call
/// at the most.
const SEND_FLUSH: usize = 512;
/// Failed receive calls in a row before the socket rests. Taste.
const PATIENCE: u32 = 8;
/// How long a socket rests that only fails: nothing spins, and it is tried again soon. Taste.
const REST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicBool;

    use super::super::queue::Queue;
    use super::super::stats::IoStats;
    use super::*;
    use crate::Ecn;

    /// Has datagrams to send and counts the buffers that come back.
    struct Talker {
        to: SocketAddr,
        left: usize,
        returned: usize,
    }

    impl Machine for Talker {
        type Command = ();
        type Event = ();
        fn handle_datagram(
            &mut self,
            _: SocketAddr,
            _: Ecn,
            _: &mut [u8],
            _: Timestamp,
        ) -> Option<Range<usize>> {
            None
        }
        fn handle_inner(&mut self, _: &[u8], _: Timestamp) {}
        fn handle_command(&mut self, (): (), _: Timestamp) {}
        fn handle_timeout(&mut self, _: Timestamp) {}
        fn poll_transmit(&mut self) -> Option<Transmit> {
            self.left = self.left.checked_sub(1)?;
            Some(Transmit::one(self.to, vec![1; 100]))
        }
        fn poll_inner(&mut self) -> Option<Vec<u8>> {
            None
        }
        fn poll_event(&mut self) -> Option<()> {
            None
        }
        fn poll_timeout(&self) -> Timestamp {
            Timestamp::MAX
        }
        fn recycle(&mut self, _: Vec<u8>) {
            self.returned += 1;
        }
    }

    fn talker(left: usize, send_queue: usize) -> Loop<Talker> {
        let udp = UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let machine = Talker {
            to: udp.local_addr(),
            left,
            returned: 0,
        };
        let shared = Arc::new(Shared {
            commands: Queue::new(1).unwrap(),
            stopping: AtomicBool::new(false),
            stats: IoStats::default(),
            inner_fault: OnceLock::new(),
        });
        let config = DriverConfig {
            send_queue,
            ..DriverConfig::default()
        };
        Loop::new(
            machine,
            udp,
            None,
            Outlet::Call(Box::new(|()| true)),
            shared,
            config,
        )
    }

    #[test]
    fn a_full_socket_keeps_a_bounded_queue_and_sends_it_once_there_is_room() {
        let mut work = talker(25, 20);
        work.blocked = true;
        work.flush();
        assert_eq!(work.outbox.len(), 20);
        assert_eq!(work.counters.tx_dropped_queue_full, 5);
        assert!(work.congested(), "inner packets wait at their source");

        let ready = work.wait(false);
        assert!(ready.writable);
        work.turn(ready);
        assert_eq!(work.counters.tx_datagrams, 20);
        assert_eq!(work.machine.returned, 25, "every buffer comes back");
        assert!(!work.congested());
    }

    #[test]
    fn a_burst_beyond_the_queue_is_sent_whole_while_the_socket_takes_it() {
        let mut work = talker(5000, 600);
        work.flush();
        assert_eq!(work.counters.tx_datagrams, 5000);
        assert_eq!(work.counters.tx_dropped_queue_full, 0);
        assert!(work.counters.system_calls <= 11, "{:?}", work.counters);
    }

    #[test]
    fn a_socket_that_only_fails_is_left_alone_for_a_while() {
        let mut work = talker(0, 1);
        let now = work.clock.now();
        for _ in 0..PATIENCE {
            assert!(work.rest_until <= now);
            assert!(work.receive_failed(now));
        }
        assert_eq!(work.rest_until, now + REST);
    }
}
