//! What a machine spends on a packet, without any kernel: for counting instructions.
//!
//! Run with `cargo bench -p vpnmesh-transport --bench packet_cost` for nanoseconds, which mean
//! little on a shared machine, or with `benches/instructions`, which counts instructions under
//! valgrind and compares them with those on record: these hardly depend on what else runs.
//! With the arguments `CASE ROUNDS` it only does that.
#![allow(clippy::unwrap_used, missing_docs, reason = "a program for developers")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use vpnmesh_core::Timestamp;
use vpnmesh_transport::tunnel::{TunnelConfig, TunnelMachine};
use vpnmesh_transport::{
    Cipher, Ciphers, CryptoSuite, Ecn, Identity, Incarnation, Machine, Marking, Pq, Profile,
    SeededEntropy, Transmit, inner,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [case, rounds] = &arguments[..]
        && let Some(case) = CASES.iter().find(|known| known.name == case)
    {
        return case.run(rounds.parse().unwrap());
    }
    println!("{:<32} {:>10} {:>12}", "case", "packets", "ns/packet");
    for case in &CASES {
        let start = Instant::now();
        case.run(ROUNDS);
        let packets = ROUNDS * case.packets;
        let each = start.elapsed().as_nanos() / packets as u128;
        println!("{:<32} {packets:>10} {each:>12}", case.name);
    }
}

/// Something done again and again.
struct Case {
    name: &'static str,
    /// IP packets of one round.
    packets: usize,
    /// The inner packet, in any of its forms.
    inner: fn() -> Vec<u8>,
    /// Whether the other end opens what was sealed.
    opens: bool,
}

const CASES: [Case; 6] = [
    Case {
        name: "seal-super-packet",
        packets: SEGMENTS,
        inner: super_packet,
        opens: false,
    },
    Case {
        name: "seal-and-open-super-packet",
        packets: SEGMENTS,
        inner: super_packet,
        opens: true,
    },
    Case {
        name: "seal-1400",
        packets: 1,
        inner: || udp(1372),
        opens: false,
    },
    Case {
        name: "seal-and-open-1400",
        packets: 1,
        inner: || udp(1372),
        opens: true,
    },
    Case {
        name: "seal-100",
        packets: 1,
        inner: || udp(72),
        opens: false,
    },
    Case {
        name: "seal-and-open-100",
        packets: 1,
        inner: || udp(72),
        opens: true,
    },
];

impl Case {
    fn run(&self, rounds: usize) {
        let mut ends = connected();
        let packet = (self.inner)();
        for _ in 0..rounds {
            ends[0].handle_inner(black_box(&packet), NOW);
            while let Some(mut sent) = ends[0].poll_transmit() {
                if self.opens {
                    for datagram in sent.payload.chunks_mut(sent.segment) {
                        let from = ADDRESSES[0];
                        black_box(ends[1].handle_datagram(from, Ecn::NotEct, datagram, NOW))
                            .unwrap();
                    }
                }
                ends[0].recycle(sent.payload);
            }
        }
    }
}

/// Two ends after their handshake.
fn connected() -> [TunnelMachine; 2] {
    let mut ends = [0, 1].map(end);
    for _ in 0..10 {
        for me in 0..2 {
            let sent: Vec<Transmit> = std::iter::from_fn(|| ends[me].poll_transmit()).collect();
            for transmit in sent {
                for datagram in transmit.datagrams() {
                    let mut datagram = datagram.to_vec();
                    let from = ADDRESSES[me];
                    ends[1 - me].handle_datagram(from, Ecn::NotEct, &mut datagram, NOW);
                }
            }
        }
    }
    ends
}

fn end(me: usize) -> TunnelMachine {
    let suite = CryptoSuite::preferred();
    let identity = |seed| Identity::generate(&suite, &mut SeededEntropy::new(seed));
    let mut entropy = SeededEntropy::new(me as u64 + 10);
    let config = TunnelConfig {
        suite,
        identity: identity(me as u64),
        incarnation: Incarnation::new(1, &mut entropy),
        entropy: Box::new(entropy),
        profile: Profile::Standard,
        pq: Pq::Require,
        ciphers: Ciphers::of(&[Cipher::Aes256Gcm]),
        peer: identity(1 - me as u64).public(),
        endpoint: Some(ADDRESSES[1 - me]),
        allow: Vec::new(),
        marking: Marking::default(),
        exports: false,
        cadence: TunnelConfig::CADENCE,
    };
    TunnelMachine::new(config, NOW).unwrap()
}

/// An IPv4 UDP packet with a payload of that length.
fn udp(payload: usize) -> Vec<u8> {
    let mut packet = vec![0; 28 + payload];
    packet[0] = 0x45;
    packet[8..10].copy_from_slice(&[64, 17]);
    packet[12..20].copy_from_slice(&[10, 9, 0, 1, 10, 9, 0, 2]);
    let layers = inner::Layers::of(&packet, false).unwrap();
    layers.set_length(&mut packet, 28 + payload);
    packet
}

/// As much UDP as one send takes, in full packets.
fn super_packet() -> Vec<u8> {
    [
        &inner::super_head(PAYLOAD as u16)[..],
        &udp(PAYLOAD * SEGMENTS),
    ]
    .concat()
}

const ADDRESSES: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 1),
];
const NOW: Timestamp = Timestamp(Duration::from_secs(1).as_nanos() as u64);
const PAYLOAD: usize = 1392;
const SEGMENTS: usize = 45;
const ROUNDS: usize = 10_000;
