//! The emulated network without any I/O: where packets go, through which links, until when.
//!
//! A packet crosses three links: the uplink of its sender, the path between the two hosts, the
//! downlink of its receiver. The parent reads packets into [`Network::handle_packet`] and writes
//! what [`Network::poll_delivery`] hands out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;

use vpnmesh_core::{ByteCount, Timestamp};

use super::counters::{Counters, Lateness, UplinkCounters};
use crate::link::{Link, LinkDrop, LinkModel, Verdict, derive_seed};

/// The network between all hosts.
#[derive(Debug)]
pub(super) struct Network {
    seed: u64,
    sites: Vec<Site>,
    /// At most [`MAX_ADDRESSES`].
    addresses: HashMap<IpAddr, usize>,
    /// At most [`MAX_FLIGHTS`].
    flights: BinaryHeap<Reverse<Flight>>,
    entered: u64,
    /// Spent buffers, at most [`MAX_FLIGHTS`].
    spare: Vec<Buffer>,
    lateness: Lateness,
}

/// What belongs to one host.
#[derive(Debug)]
struct Site {
    up: Pipe,
    down: Pipe,
    /// To each host, by number.
    paths: Vec<Pipe>,
    counters: UplinkCounters,
}

/// A link and what went through it.
#[derive(Debug)]
struct Pipe {
    model: LinkModel,
    counters: Counters,
}

/// A packet on its way.
#[derive(Debug)]
struct Flight {
    at: Timestamp,
    /// Ties are broken by the order of entering.
    order: u64,
    entered: Timestamp,
    from: usize,
    to: usize,
    passed: Stage,
    packet: Packet,
}

/// The link a packet has just come out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nothing,
    Up,
    Path,
    Down,
}

/// One IP packet.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) buffer: Buffer,
    pub(super) len: usize,
}

/// Room for any packet that fits an uplink.
pub(super) type Buffer = Box<[u8]>;

/// Which link of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkId {
    Up(usize),
    Path(usize, usize),
    Down(usize),
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            sites: Vec::new(),
            addresses: HashMap::new(),
            flights: BinaryHeap::new(),
            entered: 0,
            spare: Vec::new(),
            lateness: Lateness::default(),
        }
    }

    /// Adds a host, whose number is that of the hosts before; `false` if the network is full.
    pub(super) fn add_host(&mut self) -> bool {
        let host = self.sites.len();
        if host == MAX_HOSTS {
            return false;
        }
        for from in 0..host {
            let pipe = self.pipe_for(LinkId::Path(from, host));
            self.sites[from].paths.push(pipe);
        }
        let paths = (0..=host)
            .map(|to| self.pipe_for(LinkId::Path(host, to)))
            .collect();
        self.sites.push(Site {
            up: self.pipe_for(LinkId::Up(host)),
            down: self.pipe_for(LinkId::Down(host)),
            paths,
            counters: UplinkCounters::default(),
        });
        true
    }

    fn pipe_for(&self, id: LinkId) -> Pipe {
        let tag = match id {
            LinkId::Up(host) => host << 32,
            LinkId::Down(host) => (host << 32) + 1,
            LinkId::Path(from, to) => (from << 32) + (to << 2) + 2,
        };
        Pipe {
            model: LinkModel::new(Link::default(), derive_seed(self.seed, tag as u64)),
            counters: Counters::default(),
        }
    }

    /// Packets to `address` go to `host` from now on; `false` if there is no room.
    pub(super) fn add_address(&mut self, address: IpAddr, host: usize) -> bool {
        let room = self.addresses.len() < MAX_ADDRESSES;
        if room {
            self.addresses.insert(address, host);
        }
        room
    }

    pub(super) fn remove_address(&mut self, address: IpAddr) {
        self.addresses.remove(&address);
    }

    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address)
    }

    pub(super) fn link(&self, id: LinkId) -> Link {
        self.pipe(id).model.link()
    }

    pub(super) fn set_link(&mut self, id: LinkId, link: Link) {
        self.pipe_mut(id).model.set(link);
    }

    pub(super) fn counters(&self, id: LinkId) -> Counters {
        self.pipe(id).counters
    }

    pub(super) fn uplink_counters(&self, host: usize) -> UplinkCounters {
        UplinkCounters {
            up: self.sites[host].up.counters,
            down: self.sites[host].down.counters,
            ..self.sites[host].counters
        }
    }

    pub(super) const fn lateness(&self) -> &Lateness {
        &self.lateness
    }

    pub(super) fn forget_lateness(&mut self) {
        self.lateness = Lateness::default();
    }

    /// A buffer to read the next packet into.
    pub(super) fn buffer(&mut self) -> Buffer {
        self.spare.pop().unwrap_or_else(|| vec![0; 2048].into())
    }

    /// Gives a spent buffer back.
    pub(super) fn recycle(&mut self, buffer: Buffer) {
        if self.spare.len() < MAX_FLIGHTS {
            self.spare.push(buffer);
        }
    }

    /// Host `from` sent a packet.
    pub(super) fn handle_packet(&mut self, from: usize, packet: Packet, now: Timestamp) {
        let counters = &mut self.sites[from].counters;
        let to = destination(&packet.buffer[..packet.len]).map(|to| self.addresses.get(&to));
        let Some(Some(&to)) = to else {
            counters.unroutable += 1;
            return self.recycle(packet.buffer);
        };
        if self.flights.len() >= MAX_FLIGHTS {
            counters.overflowed += 1;
            return self.recycle(packet.buffer);
        }
        self.entered += 1;
        self.flights.push(Reverse(Flight {
            at: now,
            order: self.entered,
            entered: now,
            from,
            to,
            passed: Stage::Nothing,
            packet,
        }));
    }

    /// The next packet that has arrived by `now`, and the host it is for.
    pub(super) fn poll_delivery(&mut self, now: Timestamp) -> Option<(usize, Packet)> {
        while self.poll_timeout() <= now {
            let Reverse(flight) = self.flights.pop()?;
            if let Some(arrived) = self.advance(flight) {
                let late = now.since(arrived.at);
                self.lateness.record(late);
                let path = &mut self.sites[arrived.from].paths[arrived.to].counters;
                path.held += now.since(arrived.entered);
                path.late_max = path.late_max.max(late);
                return Some((arrived.to, arrived.packet));
            }
        }
        None
    }

    /// When to come back if nothing is sent before; [`Timestamp::MAX`] for never.
    pub(super) fn poll_timeout(&self) -> Timestamp {
        self.flights
            .peek()
            .map_or(Timestamp::MAX, |Reverse(flight)| flight.at)
    }

    /// The kernel of `host` did not take a packet that was delivered.
    pub(super) fn handle_refused(&mut self, host: usize) {
        self.sites[host].counters.refused += 1;
    }

    /// Moves a packet through all links that hold it no longer; back if it arrived.
    fn advance(&mut self, mut flight: Flight) -> Option<Flight> {
        let (from, to) = (flight.from, flight.to);
        loop {
            let (came_out_of, next) = match flight.passed {
                Stage::Nothing => (None, Some((LinkId::Up(from), Stage::Up))),
                Stage::Up => (
                    Some(LinkId::Up(from)),
                    Some((LinkId::Path(from, to), Stage::Path)),
                ),
                Stage::Path => (
                    Some(LinkId::Path(from, to)),
                    Some((LinkId::Down(to), Stage::Down)),
                ),
                Stage::Down => (Some(LinkId::Down(to)), None),
            };
            let size = flight.packet.len as u64;
            if came_out_of.is_some_and(|id| !self.pipe_mut(id).comes_out(size)) {
                self.recycle(flight.packet.buffer);
                return None;
            }
            let Some((into, passed)) = next else {
                return Some(flight);
            };
            let Some(out) = self.pipe_mut(into).offer(size, flight.at) else {
                self.recycle(flight.packet.buffer);
                return None;
            };
            flight.passed = passed;
            if out > flight.at {
                flight.at = out;
                self.flights.push(Reverse(flight));
                return None;
            }
        }
    }

    fn pipe(&self, id: LinkId) -> &Pipe {
        match id {
            LinkId::Up(host) => &self.sites[host].up,
            LinkId::Path(from, to) => &self.sites[from].paths[to],
            LinkId::Down(host) => &self.sites[host].down,
        }
    }

    fn pipe_mut(&mut self, id: LinkId) -> &mut Pipe {
        match id {
            LinkId::Up(host) => &mut self.sites[host].up,
            LinkId::Path(from, to) => &mut self.sites[from].paths[to],
            LinkId::Down(host) => &mut self.sites[host].down,
        }
    }
}

impl Pipe {
    /// A packet goes in; when it comes out, if it does.
    fn offer(&mut self, size: u64, now: Timestamp) -> Option<Timestamp> {
        self.counters.rx += 1;
        self.counters.rx_bytes += size;
        match self.model.offer(ByteCount(size), now) {
            Verdict::Deliver(at) => return Some(at),
            Verdict::Drop(LinkDrop::Loss) => self.counters.lost += 1,
            Verdict::Drop(LinkDrop::Tail) => self.counters.tail_dropped += 1,
            Verdict::Drop(LinkDrop::Cut) => self.counters.cut += 1,
        }
        None
    }

    /// A packet comes out; `false` if the link was cut under it.
    fn comes_out(&mut self, size: u64) -> bool {
        if self.model.link().cut {
            self.counters.cut += 1;
            return false;
        }
        self.counters.tx += 1;
        self.counters.tx_bytes += size;
        true
    }
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Flight {}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The destination of an IP packet; `None` if it is none.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => <[u8; 4]>::try_from(packet.get(16..20)?)
            .ok()
            .map(IpAddr::from),
        6 => <[u8; 16]>::try_from(packet.get(24..40)?)
            .ok()
            .map(IpAddr::from),
        _ => None,
    }
}

/// More hosts than a lab on one machine can run, and few enough for a table of all pairs.
pub(super) const MAX_HOSTS: usize = 128;
const MAX_ADDRESSES: usize = 1024;
/// 128 MiB of packets: 150,000 a second, 400 ms each.
const MAX_FLIGHTS: usize = 65_536;
