//! The state of a stack: an IP host whose packets go through a tunnel.
//!
//! Connections are looked at one by one: those that something happened to stand in a queue, the
//! others wait for a time. So a thousand idle connections cost nothing, and each of those that have
//! much to send gets its turn after one packet.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::task::Waker;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::HardwareAddress;

use super::StackConfig;
use super::connection::{Cause, Connection, News, Owner};
use super::datagrams::Datagrams;
use super::flow::{ACK, Flow, RST, SYN, acknowledgement, addresses, end, flags, sequence, widen};
use super::listener::Listener;
use super::wire::{IntoBatch, Outbox, Wire};
use crate::inner::{self, Inner, Layers, Rest};
use crate::io::merge::Merger;
use crate::io::packet::{InnerSent, PacketBatch};

/// Names a connection; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

/// Everything that one stack knows.
pub(super) struct Host {
    interface: Interface,
    config: StackConfig,
    connections: BTreeMap<Key, Connection>, // at most `config.connections`
    flows: HashMap<Flow, Key>,              // those of `connections` that are not over
    listeners: BTreeMap<u16, Listener>,
    ready: VecDeque<Key>, // have something to send; each at most once
    timers: BTreeSet<(Instant, Key)>, // at most one a connection
    replies: Outbox,      // resets, challenges, echoes
    datagrams: Datagrams,
    wakes: Vec<Waker>, // of one visit
    merger: Merger,
    whole: Vec<u8>,             // one packet that goes in
    nobody: SocketSet<'static>, // empty: who gets packets of no connection
    next_key: u64,
    next_port: u16,
    closed: bool,
}

impl Host {
    /// `seed` is random: sequence numbers and ports follow from it.
    pub(super) fn new(config: StackConfig, seed: u64, now: Instant) -> Self {
        let mut replies = Outbox::new(MOST_REPLIES, config.mtu);
        let datagrams = Datagrams::new(config.mtu);
        let mut settings = Config::new(HardwareAddress::Ip);
        settings.random_seed = seed;
        let mut interface = Interface::new(settings, &mut Wire::taking(&mut replies), now);
        interface.set_any_ip(true); // `config.addresses` are checked here
        Self {
            interface,
            config,
            connections: BTreeMap::new(),
            flows: HashMap::new(),
            listeners: BTreeMap::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            replies,
            datagrams,
            wakes: Vec::new(),
            merger: Merger::new(),
            whole: Vec::new(),
            nobody: SocketSet::new(Vec::new()),
            next_key: 0,
            next_port: FIRST_PORT + (seed % u64::from(PORTS)) as u16,
            closed: false,
        }
    }

    /// Begins a connection.
    pub(super) fn connect(&mut self, remote: SocketAddr, now: Instant) -> io::Result<(Key, Flow)> {
        self.check_open()?;
        if self.is_own(remote.ip()) {
            return Err(io::ErrorKind::Unsupported.into()); // it would have to leave the tunnel again
        }
        if self.connections.len() >= self.config.connections {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let local = self.config.source_for(remote.ip());
        let local = local.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let port = self.free_port(|host, port| {
            let local = SocketAddr::new(local, port);
            !host.flows.contains_key(&Flow { local, remote })
        })?;
        let local = SocketAddr::new(local, port);
        let flow = Flow { local, remote };
        let mut connection = Connection::new(&self.config, flow, Owner::Stream);
        let begun = connection
            .socket_mut()
            .connect(self.interface.context(), remote, local);
        begun.map_err(|_| io::ErrorKind::InvalidInput)?;
        let key = self.insert(connection);
        self.settle(key, Cause::Program, now, false);
        Ok((key, flow))
    }

    /// Begins to listen at `port`, or at a free one for zero; the port.
    pub(super) fn listen(&mut self, port: u16) -> io::Result<u16> {
        self.check_open()?;
        let port = match port {
            0 => self.free_port(|host, port| !host.listeners.contains_key(&port))?,
            given => given,
        };
        if self.listeners.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.listeners.insert(port, Listener::default());
        Ok(port)
    }

    /// The listener at `port`.
    pub(super) fn listener(&mut self, port: u16) -> Option<&mut Listener> {
        self.listeners.get_mut(&port)
    }

    /// Takes the oldest connection that came to `port` and stands.
    pub(super) fn accept(&mut self, port: u16) -> Option<(Key, Flow)> {
        let key = self.listeners.get_mut(&port)?.take()?;
        let connection = self.connections.get_mut(&key)?;
        connection.owner = Owner::Stream;
        Some((key, connection.flow))
    }

    /// Ends listening; who was not accepted is reset.
    pub(super) fn stop_listening(&mut self, port: u16, now: Instant) {
        let Some(listener) = self.listeners.remove(&port) else {
            return;
        };
        for key in listener.into_waiting() {
            self.with(key, now, |connection| {
                connection.abandon(now);
                connection.socket_mut().abort();
            });
        }
    }

    /// Opens a UDP port, or a free one for zero; the port.
    pub(super) fn bind(&mut self, port: u16) -> io::Result<u16> {
        self.check_open()?;
        let port = match port {
            0 => self.free_port(|host, port| !host.datagrams.is_bound(port))?,
            given => given,
        };
        self.datagrams.bind(port)?;
        Ok(port)
    }

    /// The UDP ports.
    pub(super) fn datagrams(&mut self) -> &mut Datagrams {
        &mut self.datagrams
    }

    /// Sends a datagram from a UDP port.
    pub(super) fn send_datagram(
        &mut self,
        port: u16,
        remote: SocketAddr,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.check_open()?;
        let local = self.config.source_for(remote.ip());
        let local = local.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let local = SocketAddr::new(local, port);
        self.datagrams.send(Flow { local, remote }, bytes)
    }

    /// Does something with a connection and looks at what came of it. `None` if it is gone.
    pub(super) fn with<R>(
        &mut self,
        key: Key,
        now: Instant,
        work: impl FnOnce(&mut Connection) -> R,
    ) -> Option<R> {
        let result = work(self.connections.get_mut(&key)?);
        self.settle(key, Cause::Program, now, false);
        Some(result)
    }

    /// Says no more packets will pass, and tells everybody who waits.
    pub(super) fn close(&mut self) {
        self.closed = true;
        for connection in self.connections.values_mut() {
            connection.collect_all(&mut self.wakes);
        }
        for listener in self.listeners.values_mut() {
            self.wakes.extend(listener.waker.take());
        }
        self.datagrams.wake_all(&mut self.wakes);
    }

    /// `BrokenPipe` once no packets will pass any more.
    pub(super) fn check_open(&self) -> io::Result<()> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    /// Those to wake because of what happened since this was last asked.
    pub(super) fn take_wakes(&mut self) -> Vec<Waker> {
        mem::take(&mut self.wakes)
    }

    /// Whether there is something to send now.
    pub(super) fn is_busy(&self) -> bool {
        !self.ready.is_empty() || !self.replies.is_empty() || self.datagrams.is_busy()
    }

    /// When there may be something to do if nothing happens before.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Packets from the tunnel: the parts `packets` of `from`.
    pub(super) fn take_in(
        &mut self,
        from: &[u8],
        packets: &[Range<usize>],
        now: Instant,
    ) -> InnerSent {
        let mut sent = InnerSent::default();
        let mut rest = packets;
        while let Some(first) = rest.first() {
            let taken = match Inner::parse(&from[first.clone()]) {
                Some(inner) => self.take(inner, from, rest, now, &mut sent),
                None => {
                    sent.invalid += 1;
                    1
                }
            };
            rest = &rest[taken..];
        }
        sent
    }

    /// Takes the first of `packets`, which is `inner`, and those that continue it; how many.
    fn take(
        &mut self,
        inner: Inner<'_>,
        from: &[u8],
        packets: &[Range<usize>],
        now: Instant,
        sent: &mut InnerSent,
    ) -> usize {
        let mut whole = mem::take(&mut self.whole);
        let taken = match inner.rest() {
            Rest::Checksums(layers) | Rest::Segments(layers, _) if layers.tcp => {
                let alone = self.is_astray(inner.packet(), layers);
                let packets = if alone { &packets[..1] } else { packets };
                let taken = self.merger.gather(from, packets).max(1);
                self.merger.join(from, &mut whole);
                let (count, bytes) = self.merger.load();
                sent.count(count, bytes, &self.feed(&mut whole, now));
                taken
            }
            Rest::Nothing | Rest::Checksums(_) | Rest::Segments(..) => {
                inner.complete(|packet| {
                    whole.clear();
                    whole.extend_from_slice(packet);
                    sent.count(1, packet.len(), &self.feed_checked(&mut whole, now));
                });
                1
            }
        };
        self.whole = whole;
        taken
    }

    fn is_astray(&mut self, packet: &[u8], layers: Layers) -> bool {
        if packet.len() == layers.payload {
            return false;
        }
        let key = Flow::of(packet, layers).and_then(|flow| self.flows.get(&flow));
        let connection = key.and_then(|key| self.connections.get_mut(key));
        connection.is_some_and(|connection| connection.is_astray(sequence(packet, layers)))
    }

    /// Gives the stack a packet that came complete, so that its checksums mean something.
    fn feed_checked(&mut self, packet: &mut [u8], now: Instant) -> io::Result<()> {
        let layers = Layers::of(packet, packet[0] >> 4 == 6);
        if layers.is_some_and(|layers| !inner::is_intact(packet, layers)) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.feed(packet, now)
    }

    /// Gives the stack one packet. Its answer waits in `replies`.
    fn feed(&mut self, packet: &mut [u8], now: Instant) -> io::Result<()> {
        let v6 = packet[0] >> 4 == 6;
        let (source, destination) = addresses(packet, v6).ok_or(io::ErrorKind::InvalidData)?;
        let fragment = !v6 && u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
        if fragment || source.is_unspecified() || !self.is_own(destination) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let key = match Layers::of(packet, v6) {
            Some(layers) if layers.tcp => self.key_of(packet, layers, now)?,
            Some(layers) => {
                if let Some(flow) = self.bound_flow(packet, layers) {
                    let wakes = &mut self.wakes;
                    return self.datagrams.deliver(flow, packet, layers, wakes);
                }
                None
            }
            None => None,
        };
        let connection = key.and_then(|key| self.connections.get_mut(&key));
        let (time, set) = match connection {
            Some(connection) => (connection.time(now), &mut connection.set),
            None => (now, &mut self.nobody),
        };
        let mut wire = Wire::bringing(packet, &mut self.replies);
        self.interface.poll_ingress_single(time, &mut wire, set);
        if let Some(key) = key {
            self.settle(key, Cause::Packet, now, false);
        }
        Ok(())
    }

    /// The ends of a UDP packet, if it goes to a port that is open at the address that it goes to:
    /// answers leave from there.
    fn bound_flow(&self, packet: &[u8], layers: Layers) -> Option<Flow> {
        let flow = Flow::of(packet, layers)?;
        let own = self.config.source_for(flow.remote.ip()) == Some(flow.local.ip());
        (own && self.datagrams.is_bound(flow.local.port())).then_some(flow)
    }

    /// The connection that a TCP packet belongs to, a new one if it opens one; `None` leads to a
    /// reset.
    fn key_of(
        &mut self,
        packet: &mut [u8],
        layers: Layers,
        now: Instant,
    ) -> io::Result<Option<Key>> {
        let flow = Flow::of(packet, layers).ok_or(io::ErrorKind::InvalidData)?;
        let flags = flags(packet, layers);
        let known = self.flows.get(&flow).copied();
        let key = match known {
            None if flags & (SYN | ACK | RST) == SYN => self.admit(flow)?,
            None | Some(_) => known,
        };
        if let Some(connection) = key.and_then(|key| self.connections.get_mut(&key)) {
            if let Some(segment) = widen(packet, layers, self.config.mtu) {
                connection.segment = segment;
            }
            if let Some(end) = end(packet, layers) {
                connection.note_sequence(end);
            }
            if flags & ACK != 0 {
                let number = acknowledgement(packet, layers);
                connection.patience.handle_acknowledged(number, now);
            }
        }
        Ok(key)
    }

    /// A new connection for whoever listens; `None` if nobody does. At a full backlog, or at as many
    /// connections as there may be, the packet is dropped and the peer asks again.
    fn admit(&mut self, flow: Flow) -> io::Result<Option<Key>> {
        let port = flow.local.port();
        let room = self.connections.len() < self.config.connections;
        let Some(listener) = self.listeners.get_mut(&port) else {
            return Ok(None);
        };
        if !room || listener.waiting() >= self.config.backlog {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut connection = Connection::new(&self.config, flow, Owner::Listener(port));
        let begun = connection.socket_mut().listen(flow.local);
        begun.map_err(|_| io::ErrorKind::InvalidData)?;
        let key = self.insert(connection);
        if let Some(listener) = self.listeners.get_mut(&port) {
            listener.expect(key);
        }
        Ok(Some(key))
    }

    /// Fills the batch with what there is to send, a packet of each connection in turn.
    pub(super) fn fill(&mut self, batch: &mut PacketBatch, now: Instant) -> usize {
        let before = batch.len();
        self.replies.drain(batch, MOST_REPLIES);
        self.datagrams.drain(batch, &mut self.wakes);
        while let Some(&(at, key)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(connection) = self.connections.get_mut(&key) {
                connection.timer = None;
            }
            self.queue(key);
        }
        while batch.room().is_some()
            && let Some(key) = self.ready.pop_front()
        {
            self.transmit(key, batch, now);
        }
        self.datagrams.drain(batch, &mut self.wakes); // those that had to stand back
        batch.len() - before
    }

    /// One packet of a connection, if it has one.
    fn transmit(&mut self, key: Key, batch: &mut PacketBatch, now: Instant) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        connection.queued = false;
        if connection.keeps_data(now) {
            return self.set_timer(key, now + LATER);
        }
        if connection.gone_at.is_some_and(|at| at <= now) {
            connection.gone_at = None;
            connection.socket_mut().abort();
        }
        if connection
            .patience
            .poll_timeout()
            .is_some_and(|at| at <= now)
        {
            let time = connection.time(now);
            if let Some(due) = self.interface.poll_at(time, &connection.set) {
                connection.run_ahead(due, now);
            }
            connection.patience.handle_timeout(now);
        }
        let time = connection.time(now);
        let before = batch.len();
        let mut outgoing = IntoBatch::new(batch, self.config.mtu, connection.segment);
        let mut wire = Wire::taking(&mut outgoing);
        self.interface
            .poll_egress(time, &mut wire, &mut connection.set);
        if let Some(end) = outgoing.sent() {
            connection.patience.handle_sent(end, now);
        }
        let idle = batch.len() == before;
        self.settle(key, Cause::Time, now, idle);
    }

    /// Looks at a connection after something happened to it: who has to know, when it has to be
    /// looked at again, whether it is over. `idle`: it just had its turn and sent nothing.
    fn settle(&mut self, key: Key, cause: Cause, now: Instant, idle: bool) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        let socket = connection.socket();
        let unheard = socket.can_recv() && socket.is_active();
        if connection.owner == Owner::Nobody && unheard {
            connection.socket_mut().abort(); // nobody reads it any more: the peer shall know
        }
        let news = connection.look(cause, now);
        connection.collect(&mut self.wakes);
        let due = self
            .interface
            .poll_at(connection.time(now), &connection.set);
        let due = due.map(|at| connection.outside(at));
        let over = connection.is_over(due.is_some_and(|at| at <= now));
        let silence = connection.patience.poll_timeout();
        let due = [due, connection.gone_at, silence]
            .into_iter()
            .flatten()
            .min();
        match news {
            Some(News::Established) => self.offer(key),
            Some(News::Ended) => self.forget(key),
            None => {}
        }
        if over {
            return self.remove(key);
        }
        match due {
            Some(at) if at > now => self.set_timer(key, at),
            Some(_) if idle => self.set_timer(key, now + SOON),
            Some(_) => self.queue(key),
            None => {}
        }
    }

    /// A connection stands: its listener may hand it out.
    fn offer(&mut self, key: Key) {
        let owner = self
            .connections
            .get(&key)
            .map(|connection| connection.owner);
        if let Some(Owner::Listener(port)) = owner
            && let Some(listener) = self.listeners.get_mut(&port)
        {
            listener.offer(key);
            self.wakes.extend(listener.waker.take());
        }
    }

    /// The ports of a connection are free again.
    fn forget(&mut self, key: Key) {
        if let Some(connection) = self.connections.get(&key)
            && self.flows.get(&connection.flow) == Some(&key)
        {
            self.flows.remove(&connection.flow);
        }
    }

    fn insert(&mut self, connection: Connection) -> Key {
        let key = Key(self.next_key);
        self.next_key += 1;
        self.flows.insert(connection.flow, key);
        self.connections.insert(key, connection);
        key
    }

    fn remove(&mut self, key: Key) {
        self.forget(key);
        let Some(connection) = self.connections.remove(&key) else {
            return;
        };
        if let Some(at) = connection.timer {
            self.timers.remove(&(at, key));
        }
        if let Owner::Listener(port) = connection.owner
            && let Some(listener) = self.listeners.get_mut(&port)
        {
            listener.forget(key);
        }
    }

    fn queue(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(&key)
            && !mem::replace(&mut connection.queued, true)
        {
            self.ready.push_back(key);
        }
    }

    /// Looks at a connection at a time, or before: an earlier one stays, as most are put off with
    /// each packet.
    fn set_timer(&mut self, key: Key, at: Instant) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        if connection.timer.is_some_and(|set| set <= at) {
            return;
        }
        if let Some(set) = connection.timer.replace(at) {
            self.timers.remove(&(set, key));
        }
        self.timers.insert((at, key));
    }

    fn is_own(&self, address: IpAddr) -> bool {
        let mut own = self.config.addresses.iter();
        own.any(|prefix| prefix.contains(address))
    }

    /// The next port of the dynamic range for which `is_free` holds.
    fn free_port(&mut self, is_free: impl Fn(&Self, u16) -> bool) -> io::Result<u16> {
        for _ in 0..PORTS {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if is_free(self, port) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("connections", &self.connections.len())
            .field("listeners", &self.listeners.keys())
            .finish_non_exhaustive()
    }
}

/// The dynamic ports. RFC 6335, section 6.
const FIRST_PORT: u16 = 49_152;
const PORTS: u16 = 16_384;
/// Answers that may wait for the packet thread: some batches. Taste.
const MOST_REPLIES: usize = 256;
/// A connection that is due but sent nothing is looked at again after this time. Taste.
const SOON: Duration = Duration::from_millis(1);
/// A socket that keeps unread data is looked at again after this time. Taste.
const LATER: Duration = Duration::from_secs(1);
