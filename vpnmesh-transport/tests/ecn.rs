//! Congestion marks: two tunnels over real sockets, and a router between them that marks.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vpnmesh_transport::inner::{Layers, finish};
use vpnmesh_transport::io::{
    ChannelIo, Clock, Driver, DriverHandle, IoCounters, PacketIo, Received, UdpBatch, UdpSocket,
};
use vpnmesh_transport::tunnel::{TunnelCommand, TunnelConfig, TunnelEvent, TunnelMachine};
use vpnmesh_transport::{
    Ciphers, CryptoSuite, DropReason, Ecn, Identity, Incarnation, Marking, Pq, Profile,
    SeededEntropy, TrafficClass, Transmit,
};

/// Two tunnels and the router that carries their datagrams.
struct Road {
    tunnels: [DriverHandle<TunnelMachine>; 2],
    inner: [ChannelIo; 2],
    ends: [SocketAddr; 2],
    /// Each faces one end.
    router: [UdpSocket; 2],
    batch: UdpBatch,
    counters: IoCounters,
    /// What the router writes into every datagram.
    mark: Option<Ecn>,
    /// The ECN bits of all datagrams that came.
    seen: BTreeSet<u8>,
}

fn loopback() -> UdpSocket {
    UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap()
}

fn identity(seed: u64) -> Identity {
    Identity::generate(&CryptoSuite::preferred(), &mut SeededEntropy::new(seed))
}

fn tunnel(me: u64, peer_at: SocketAddr) -> TunnelMachine {
    let mut entropy = SeededEntropy::new(10 + me);
    let config = TunnelConfig {
        suite: CryptoSuite::preferred(),
        identity: identity(me),
        incarnation: Incarnation::new(1, &mut entropy),
        entropy: Box::new(entropy),
        profile: Profile::Standard,
        pq: Pq::Require,
        ciphers: Ciphers::of_this_machine(),
        peer: identity(1 - me).public(),
        endpoint: Some(peer_at),
        allow: Vec::new(),
        marking: Marking::default(),
        exports: false,
        cadence: TunnelConfig::CADENCE,
    };
    TunnelMachine::new(config, Clock.now()).unwrap()
}

/// An IPv4 UDP packet of that class, as a host sends it.
fn udp(class: u8, number: u8) -> Vec<u8> {
    let mut packet = vec![number; 128];
    packet[..28].fill(0);
    (packet[0], packet[1]) = (0x45, class);
    packet[8..10].copy_from_slice(&[64, 17]);
    packet[12..20].copy_from_slice(&[10, 9, 0, 1, 10, 9, 0, 2]);
    let layers = Layers::of(&packet, false).unwrap();
    layers.set_length(&mut packet, 128);
    finish(&mut packet, layers);
    packet
}

impl Road {
    fn new() -> Self {
        let (router, sockets) = ([loopback(), loopback()], [loopback(), loopback()]);
        let ends = [sockets[0].local_addr(), sockets[1].local_addr()];
        let (mut inner, mut tunnels) = (Vec::new(), Vec::new());
        for (me, socket) in sockets.into_iter().enumerate() {
            let (theirs, ours) = ChannelIo::pair(64).unwrap();
            let machine = tunnel(me as u64, router[me].local_addr());
            tunnels.push(Driver::spawn(machine, socket, Some(Box::new(theirs))).unwrap());
            inner.push(ours);
        }
        Self {
            tunnels: tunnels.try_into().ok().unwrap(),
            inner: inner.try_into().ok().unwrap(),
            ends,
            router,
            batch: UdpBatch::new(),
            counters: IoCounters::default(),
            mark: None,
            seen: BTreeSet::new(),
        }
    }

    /// Waits until something came to the router or to `end`, and carries it on.
    fn carry(&mut self, end: usize) {
        let readable = [
            self.router[0].as_fd(),
            self.router[1].as_fd(),
            self.inner[end].readable(),
        ];
        let mut fds = readable.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let timeout = Timespec {
            tv_sec: PATIENCE.as_secs() as i64,
            tv_nsec: 0,
        };
        assert!(poll(&mut fds, Some(&timeout)).unwrap() > 0, "nothing came");
        for side in 0..2 {
            let mut queue = VecDeque::new();
            while self.receive(side, &mut queue) == Received::More {}
            let out = &mut self.router[1 - side];
            out.send(&mut queue, &mut self.counters, |_| ());
            assert!(queue.is_empty());
        }
    }

    fn receive(&mut self, side: usize, queue: &mut VecDeque<Transmit>) -> Received {
        let found = self.router[side].recv(&mut self.batch, &mut self.counters);
        for datagram in self.batch.datagrams() {
            self.seen.insert(datagram.ecn as u8);
            let ecn = self.mark.unwrap_or(datagram.ecn);
            let alone = Transmit::one(self.ends[1 - side], datagram.data.to_vec());
            queue.push_back(Transmit {
                class: TrafficClass(ecn as u8),
                ..alone
            });
        }
        found.unwrap()
    }

    /// Sends a packet from the first end to the second.
    fn send(&mut self, packet: &[u8]) {
        self.inner[0].send_packet(packet).unwrap();
    }

    /// The next packet that comes out at the second end.
    fn arrival(&mut self) -> Vec<u8> {
        let mut buffer = [0; 2000];
        loop {
            if let Ok(len) = self.inner[1].recv_packet(&mut buffer) {
                return buffer[..len].to_vec();
            }
            self.carry(1);
        }
    }

    fn drops(&self, end: usize) -> BTreeMap<DropReason, u64> {
        self.tunnels[end].command(TunnelCommand::Report).unwrap();
        loop {
            let event = self.tunnels[end].events().recv_timeout(PATIENCE).unwrap();
            if let TunnelEvent::Report(report) = event {
                return report.drops;
            }
        }
    }
}

#[test]
fn what_a_router_marks_reaches_the_packets_inside() {
    let (ect0, ect1, ce) = (0b10, 0b01, 0b11);
    let mut road = Road::new();
    road.send(&udp(ect0, 1));
    assert_eq!(road.arrival(), udp(ect0, 1));
    road.send(&udp(0, 2));
    assert_eq!(road.arrival(), udp(0, 2));
    assert_eq!(road.seen, BTreeSet::from([0, ect0]));

    road.mark = Some(Ecn::Ce);
    for ecn in [ect0, ect1] {
        road.send(&udp(ecn, 3));
        assert_eq!(road.arrival(), udp(ce, 3), "its checksum included");
    }
    assert!(road.seen.contains(&ect1));

    road.send(&udp(0, 4));
    road.send(&udp(ect0, 5));
    assert_eq!(road.arrival(), udp(ce, 5), "one that sees no marks is lost");
    assert_eq!(road.drops(1)[&DropReason::Congested], 1);
}

/// Longer than any machine takes; a test that runs into it has failed.
const PATIENCE: Duration = Duration::from_secs(20);
