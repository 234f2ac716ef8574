//! The emulated network without any I/O: where packets go, through which links, until when.
//!
//! A packet crosses three links: the uplink of its sender, the path between the two hosts, the
//! downlink of its receiver. The parent reads packets into [`Network::handle_packet`] and writes
//! what [`Network::poll_delivery`] hands out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;

use vpnmesh_core::Timestamp;
use vpnmesh_transport::Ecn;
use vpnmesh_transport::class::bring_in;

use super::counters::{Counters, Lateness, UplinkCounters};
use super::flight::{Buffer, Flight, Packet, Stage, destination};
use super::pipe::Pipe;
use crate::link::{Link, derive_seed};

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
        Pipe::new(derive_seed(self.seed, tag as u64))
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
            if self.pipe(into).model.link().congested {
                let packet = &mut flight.packet;
                // One that sees no marks stays as it is; a real router might drop it.
                let _unmarked = bring_in(&mut packet.buffer[..packet.len], Ecn::Ce);
            }
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

/// More hosts than a lab on one machine can run, and few enough for a table of all pairs.
pub(super) const MAX_HOSTS: usize = 128;
const MAX_ADDRESSES: usize = 1024;
/// 128 MiB of packets: 150,000 a second, 400 ms each.
const MAX_FLIGHTS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(host: usize) -> IpAddr {
        IpAddr::from([192, 0, 2, host as u8])
    }

    fn network(hosts: usize) -> Network {
        let mut network = Network::new(1);
        for host in 0..hosts {
            assert!(network.add_host() && network.add_address(address(host), host));
        }
        network
    }

    /// Sends an IPv4 packet of 100 bytes, numbered in its last byte.
    fn send(network: &mut Network, from: usize, to: IpAddr, number: u8, now: u64) {
        let mut buffer = network.buffer();
        buffer[..100].fill(0);
        buffer[0] = 0x45;
        if let IpAddr::V4(to) = to {
            buffer[16..20].copy_from_slice(&to.octets());
        }
        buffer[99] = number;
        network.handle_packet(from, Packet { buffer, len: 100 }, ms(now));
    }

    fn ms(millis: u64) -> Timestamp {
        Timestamp(millis * 1_000_000)
    }

    fn arrivals(network: &mut Network, now: u64) -> Vec<(usize, u8)> {
        let next = || network.poll_delivery(ms(now));
        std::iter::from_fn(next)
            .map(|(host, packet)| (host, packet.buffer[99]))
            .collect()
    }

    #[test]
    fn a_packet_crosses_uplink_path_and_downlink() {
        let mut network = network(3);
        network.set_link(LinkId::Up(0), Link::delay_ms(1));
        network.set_link(LinkId::Path(0, 2), Link::delay_ms(10));
        network.set_link(LinkId::Down(2), Link::delay_ms(100));
        send(&mut network, 0, address(2), 7, 0);
        assert_eq!(arrivals(&mut network, 110), []);
        assert_eq!(network.poll_timeout(), ms(111));
        assert_eq!(arrivals(&mut network, 111), [(2, 7)]);
        let path = network.counters(LinkId::Path(0, 2));
        assert_eq!((path.rx, path.tx, path.held.as_millis()), (1, 1, 111));
        assert_eq!(network.counters(LinkId::Path(0, 1)), Counters::default());
    }

    #[test]
    fn a_congested_link_marks_what_may_be_marked() {
        let mut network = network(2);
        let link = Link {
            congested: true,
            ..Link::default()
        };
        network.set_link(LinkId::Path(0, 1), link);
        for (sent, arrived) in [(0b00, 0b00), (0b01, 0b11), (0b10, 0b11), (0b11, 0b11)] {
            send(&mut network, 0, address(1), 1, 0);
            let Reverse(mut flight) = network.flights.pop().unwrap();
            flight.packet.buffer[1] = sent;
            network.flights.push(Reverse(flight));
            let (_, packet) = network.poll_delivery(ms(0)).unwrap();
            assert_eq!(packet.buffer[1], arrived);
        }
    }

    #[test]
    fn packets_due_at_once_leave_in_the_order_they_came() {
        let mut network = network(2);
        for number in 0..50 {
            send(&mut network, 0, address(1), number, 3);
        }
        let numbers: Vec<u8> = arrivals(&mut network, 3)
            .into_iter()
            .map(|(_, n)| n)
            .collect();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_cut_drops_what_is_under_way_and_a_mended_link_carries_again() {
        let mut network = network(2);
        let link = Link::delay_ms(10);
        network.set_link(LinkId::Path(0, 1), link);
        send(&mut network, 0, address(1), 1, 0);
        network.set_link(LinkId::Path(0, 1), link.cut(true));
        send(&mut network, 0, address(1), 2, 1);
        assert_eq!(arrivals(&mut network, 50), []);
        assert_eq!(network.counters(LinkId::Path(0, 1)).cut, 2);
        network.set_link(LinkId::Path(0, 1), link);
        send(&mut network, 0, address(1), 3, 50);
        assert_eq!(arrivals(&mut network, 60), [(1, 3)]);
    }

    #[test]
    fn strangers_garbage_and_too_much_are_counted() {
        let mut network = network(2);
        send(&mut network, 0, address(9), 0, 0);
        let garbage = Packet {
            buffer: network.buffer(),
            len: 0,
        };
        network.handle_packet(0, garbage, ms(0));
        let buffer = vec![0x45; 2048].into();
        network.handle_packet(0, Packet { buffer, len: 19 }, ms(0));
        assert_eq!(network.uplink_counters(0).unroutable, 3);
        for _ in 0..=MAX_FLIGHTS {
            send(&mut network, 0, address(1), 0, 0);
        }
        assert_eq!(network.uplink_counters(0).overflowed, 1);
        assert_eq!(arrivals(&mut network, 0).len(), MAX_FLIGHTS);
    }

    #[test]
    fn addresses_of_both_families_can_move() {
        let mut network = network(2);
        let v6 = [0x20_u8; 16];
        assert!(network.add_address(v6.into(), 1));
        let mut buffer = network.buffer();
        buffer[0] = 0x60;
        buffer[24..40].copy_from_slice(&v6);
        network.handle_packet(0, Packet { buffer, len: 40 }, ms(0));
        assert_eq!(arrivals(&mut network, 0).len(), 1);
        network.remove_address(address(1));
        assert!(!network.has_address(address(1)) && network.add_address(address(1), 0));
        send(&mut network, 1, address(1), 5, 1);
        assert_eq!(arrivals(&mut network, 1), [(0, 5)]);
    }

    #[test]
    fn a_full_network_takes_no_more_hosts() {
        let mut network = network(MAX_HOSTS);
        assert!(!network.add_host());
    }

    proptest! {
        #[test]
        fn every_packet_is_accounted_for(
            seed: u64,
            packets in prop::collection::vec((0_u64..3, 0_usize..3, 0_usize..3), 1..200),
        ) {
            let mut network = Network::new(seed);
            for host in 0..3 {
                network.add_host();
                network.add_address(address(host), host);
                network.set_link(LinkId::Up(host), Link::default().rate_mbps(1).queue_ms(3));
                network.set_link(LinkId::Down(host), Link::default().loss(0.1));
            }
            network.set_link(LinkId::Path(0, 1), Link::delay_ms(5).jitter_ms(4).loss(0.2));
            let (mut now, mut got) = (0, Vec::new());
            for (number, (gap, from, to)) in packets.into_iter().enumerate() {
                now += gap;
                send(&mut network, from, address(to), number as u8, now);
                if gap > 0 {
                    got.extend(arrivals(&mut network, now));
                }
            }
            got.extend(arrivals(&mut network, now + 1000));
            prop_assert_eq!(network.poll_timeout(), Timestamp::MAX);
            let of = |id| {
                let c = network.counters(id);
                prop_assert_eq!(c.rx, c.tx + c.lost + c.tail_dropped + c.cut);
                Ok(c.tx)
            };
            let mut delivered = 0;
            for host in 0..3 {
                delivered += of(LinkId::Down(host))?;
                of(LinkId::Up(host))?;
                for to in 0..3 {
                    of(LinkId::Path(host, to))?;
                }
            }
            prop_assert_eq!(delivered as usize, got.len());
        }
    }
}
