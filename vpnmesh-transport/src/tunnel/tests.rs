use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::*;
use crate::SeededEntropy;

const A: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 1);
const B: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 1);
const MS: Duration = Duration::from_millis(1);

/// Two ends, and a wire that takes a millisecond.
struct Rig {
    ends: [TunnelMachine; 2],
    at: [SocketAddr; 2],
    wire: Vec<Flight>,
    /// Datagrams of this type are lost.
    lose: Option<u8>,
    /// The key exchanges that were asked for, by their codes.
    asked: BTreeSet<u8>,
    /// What routers write into the ECN bits of every datagram.
    mark: Option<Ecn>,
    /// The classes of all datagrams, as they were sent.
    classes: BTreeSet<u8>,
    now: Timestamp,
    cut: bool,
    inner: [Vec<Vec<u8>>; 2],
    events: [Vec<TunnelEvent>; 2],
}

/// A datagram that arrives at a time, from, to, under these bits.
type Flight = (Timestamp, SocketAddr, SocketAddr, Ecn, Vec<u8>);

fn identity(seed: u64) -> Identity {
    Identity::generate(&CryptoSuite::preferred(), &mut SeededEntropy::new(seed))
}

fn end(me: usize, life: u64, allow: &[&str], now: Timestamp) -> TunnelMachine {
    end_with(me, life, allow, Pq::Require, now)
}

fn end_with(me: usize, life: u64, allow: &[&str], pq: Pq, now: Timestamp) -> TunnelMachine {
    let suite = CryptoSuite::preferred();
    let mut entropy = SeededEntropy::new(life * 100 + me as u64);
    let config = TunnelConfig {
        suite,
        identity: identity(me as u64),
        incarnation: Incarnation::new(life, &mut entropy),
        entropy: Box::new(entropy),
        profile: Profile::Standard,
        pq,
        ciphers: Ciphers::of_this_machine(),
        peer: identity(1 - me as u64).public(),
        endpoint: Some([B, A][me]),
        allow: allow.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        marking: Marking::default(),
        exports: true,
        cadence: TunnelConfig::CADENCE,
    };
    TunnelMachine::new(config, now).unwrap()
}

fn rig(allow: &[&str]) -> Rig {
    rig_with(allow, [Pq::Require; 2])
}

fn rig_with(allow: &[&str], pq: [Pq; 2]) -> Rig {
    let now = Timestamp(1_000_000_000);
    Rig {
        ends: [0, 1].map(|me| end_with(me, 5, allow, pq[me], now)),
        at: [A, B],
        wire: Vec::new(),
        lose: None,
        asked: BTreeSet::new(),
        mark: None,
        classes: BTreeSet::new(),
        now,
        cut: false,
        inner: [Vec::new(), Vec::new()],
        events: [Vec::new(), Vec::new()],
    }
}

fn packet(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(from);
    packet.extend(to);
    packet
}

impl Rig {
    fn drain(&mut self) {
        for me in 0..2 {
            while let Some(sent) = self.ends[me].poll_transmit() {
                self.classes.insert(sent.class.0);
                if let [0x01, _, _, mode, ..] = sent.payload[..] {
                    self.asked.insert(mode);
                }
                let lost = |data: &[u8]| self.cut || data.first().copied() == self.lose;
                let datagrams = sent.datagrams().filter(|data| !lost(data));
                let ecn = self.mark.unwrap_or(sent.class.ecn());
                let (at, from, to) = (self.now + MS, self.at[me], sent.to);
                let on_wire = |data: &[u8]| (at, from, to, ecn, data.to_vec());
                self.wire.extend(datagrams.map(on_wire));
            }
            while let Some(packet) = self.ends[me].poll_inner() {
                self.inner[me].push(packet);
            }
            while let Some(event) = self.ends[me].poll_event() {
                self.events[me].push(event);
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        self.drain();
        while self.now < until {
            self.now += MS;
            let (due, later) = self.wire.drain(..).partition(|(at, ..)| *at <= self.now);
            self.wire = later;
            let due: Vec<Flight> = due;
            for (_, from, to, ecn, mut payload) in due {
                if let Some(me) = self.at.iter().position(|at| *at == to) {
                    let inner = self.ends[me].handle_datagram(from, ecn, &mut payload, self.now);
                    self.inner[me].extend(inner.map(|inner| payload[inner].to_vec()));
                }
            }
            for me in 0..2 {
                if self.ends[me].poll_timeout() <= self.now {
                    self.ends[me].handle_timeout(self.now);
                }
            }
            self.drain();
        }
    }

    /// Sends a packet of that class; the classes of what arrives.
    fn send_class(&mut self, class: u8) -> Vec<u8> {
        let mut sent = packet([10, 9, 0, 0], [10, 9, 0, 1]);
        sent[1] = class;
        self.ends[0].handle_inner(&sent, self.now);
        self.run(MS * 5);
        self.inner[1].drain(..).map(|packet| packet[1]).collect()
    }

    fn exchange(&mut self, me: usize) -> bool {
        let sent = packet([10, 9, 0, me as u8], [10, 9, 0, 1 - me as u8]);
        self.ends[me].handle_inner(&sent, self.now);
        self.run(MS * 5);
        self.inner[1 - me].pop() == Some(sent)
    }

    fn count(&self, me: usize, wanted: fn(&TunnelEvent) -> bool) -> usize {
        self.events[me].iter().filter(|event| wanted(event)).count()
    }
}

#[test]
fn both_ends_become_ready_once_and_carry_packets_both_ways() {
    let mut rig = rig(&[]);
    rig.run(MS * 100);
    for me in 0..2 {
        assert_eq!(
            rig.count(me, |event| matches!(event, TunnelEvent::Ready { .. })),
            1
        );
        assert!(rig.exchange(me));
    }
}

#[test]
fn packets_sent_before_the_first_keys_arrive_after_them() {
    let mut rig = rig(&[]);
    let first = packet([10, 9, 0, 0], [10, 9, 0, 1]);
    rig.ends[0].handle_inner(&first, rig.now);
    rig.run(MS * 500);
    assert_eq!(rig.inner[1], [first]);
}

#[test]
fn what_is_not_allowed_or_no_packet_is_counted() {
    let mut rig = rig(&["10.9.0.0/24"]);
    rig.run(MS * 500);
    assert!(rig.exchange(0));
    let stranger = packet([10, 8, 0, 1], [10, 9, 0, 1]);
    rig.ends[0].handle_inner(&stranger, rig.now);
    rig.ends[0].handle_inner(&packet([10, 9, 0, 0], [10, 8, 0, 1]), rig.now);
    rig.ends[0].handle_inner(b"garbage", rig.now);
    rig.run(MS * 5);
    assert!(rig.inner[1].is_empty());
    let drops = rig.ends[0].report(rig.now).drops;
    assert_eq!(drops[&DropReason::NoRoute], 1);
    assert_eq!(drops[&DropReason::Malformed], 1);
    assert_eq!(
        rig.ends[1].report(rig.now).drops[&DropReason::NotAllowedSource],
        1
    );
}

#[test]
fn keys_are_renewed_without_a_lost_packet() {
    let mut rig = rig(&[]);
    rig.run(MS * 500);
    let mut lost = 0;
    for _ in 0..260 {
        lost += usize::from(!rig.exchange(0)) + usize::from(!rig.exchange(1));
        rig.run(MS * 990);
    }
    assert_eq!(lost, 0);
    let renewed = rig.count(0, |event| *event == TunnelEvent::Rekeyed);
    assert_eq!(renewed, 2, "every two minutes, by one end only");
}

#[test]
fn a_peer_that_moved_is_followed() {
    let mut rig = rig(&[]);
    rig.run(MS * 500);
    rig.at[0] = "10.0.0.9:77".parse().unwrap();
    assert!(rig.exchange(0));
    assert!(rig.exchange(1));
}

#[test]
fn a_peer_that_started_anew_is_back_within_seconds() {
    let mut rig = rig(&[]);
    rig.run(MS * 500);
    for me in 0..2 {
        rig.ends[me] = end(me, 6, &[], rig.now);
        rig.run(MS * 3000);
        assert!(rig.exchange(1 - me) && rig.exchange(me));
        assert_eq!(
            rig.count(1 - me, |event| *event == TunnelEvent::Restarted),
            1
        );
    }
}

#[test]
fn a_cut_wire_heals_by_itself() {
    let mut rig = rig(&[]);
    rig.run(MS * 500);
    rig.cut = true;
    assert!(!rig.exchange(0));
    rig.run(MS * 5000);
    assert_eq!(rig.count(0, |event| *event == TunnelEvent::Silent), 1);
    rig.cut = false;
    rig.run(MS * 2500);
    assert!(rig.exchange(0) && rig.exchange(1));
}

#[test]
fn a_clock_that_went_backwards_is_repaired_by_the_peer() {
    let mut rig = rig(&[]);
    rig.run(MS * 500);
    for me in 0..2 {
        rig.ends[me] = end(me, 1, &[], rig.now);
        rig.run(MS * 4000);
        assert!(rig.exchange(1 - me) && rig.exchange(me), "end {me}");
    }
}

#[test]
fn two_ends_agree_on_a_key_exchange_or_say_why_not() {
    let choices = [Pq::Require, Pq::Prefer, Pq::Off];
    let pairs = choices.map(|one| choices.map(|other| (one, other)));
    for (one, other) in pairs.into_iter().flatten() {
        let mut rig = rig_with(&[], [one, other]);
        rig.run(MS * 5000);
        let refused = |event: &TunnelEvent| *event == TunnelEvent::Refused(Refusal::Exchange);
        let told = [rig.count(0, refused), rig.count(1, refused)];
        let served = one.serves(other.asks_for()) || other.serves(one.asks_for());
        assert_eq!(
            rig.exchange(0) && rig.exchange(1),
            served,
            "{one:?}, {other:?}"
        );
        assert_eq!(
            told,
            if served { [0, 0] } else { [1, 1] },
            "{one:?}, {other:?}"
        );
        let without = one == Pq::Off || other == Pq::Off;
        assert_eq!(rig.asked.contains(&1), without, "{one:?}, {other:?}");
    }
}

#[test]
fn an_end_that_prefers_ml_kem_goes_without_it_on_the_word_of_its_peer() {
    let lower = usize::from(identity(1).public() < identity(0).public()); // it dials first
    let mut pq = [Pq::Off; 2];
    pq[lower] = Pq::Prefer;
    let mut rig = rig_with(&[], pq);
    rig.run(MS * 100);
    assert!(rig.exchange(0) && rig.exchange(1));
    assert_eq!(rig.asked, BTreeSet::from([0, 1]));
}

#[test]
fn both_ends_report_what_protects_their_packets() {
    for (pq, exchange) in [(Pq::Require, "x25519+ml-kem-768"), (Pq::Off, "x25519")] {
        let mut rig = rig_with(&[], [pq; 2]);
        assert_eq!(rig.ends[0].security_report(rig.now), None);
        rig.run(MS * 500);
        for me in 0..2 {
            let told = rig.events[me].iter().find_map(|event| match event {
                TunnelEvent::Ready { security, .. } => Some(*security),
                _ => None,
            });
            let (told, now) = (
                told.unwrap(),
                rig.ends[me].security_report(rig.now).unwrap(),
            );
            assert_eq!(now.key_exchange(), exchange);
            assert_eq!(now.post_quantum_confidentiality(), pq == Pq::Require);
            assert_eq!((now.peer, now.floor), (PeerProof::StaticKey, None));
            assert!(now.key_age > told.key_age && now.key_age <= MS * 500);
            let key_age = now.key_age;
            assert_eq!(SecurityReport { key_age, ..told }, now);
        }
        rig.run(MS * 119_000);
        let before = rig.ends[0].security_report(rig.now).unwrap().key_age;
        rig.run(MS * 2000);
        let after = rig.ends[0].security_report(rig.now).unwrap().key_age;
        assert!(
            after < before,
            "fresh keys are young: {after:?}, {before:?}"
        );
    }
}

#[test]
fn what_is_lost_on_the_way_leads_to_no_weaker_exchange() {
    for lose in [0x02, 0x03] {
        let mut rig = rig_with(&[], [Pq::Prefer; 2]);
        rig.lose = Some(lose);
        rig.run(MS * 20_000);
        assert!(!rig.exchange(0));
        rig.lose = None;
        rig.run(MS * 3000);
        assert!(rig.exchange(0) && rig.exchange(1));
        assert_eq!(rig.asked, BTreeSet::from([0]), "without {lose:#x}");
    }
}

#[test]
fn the_inner_ecn_bits_go_out_and_a_mark_comes_in() {
    let mut rig = rig(&[]);
    rig.run(MS * 500);
    assert_eq!(rig.classes, BTreeSet::from([0]), "handshake and control");
    let (dscp, ect0, ect1, ce) = (46 << 2, 0b10, 0b01, 0b11);
    for ecn in [0, ect0, ect1, ce] {
        rig.classes.clear();
        assert_eq!(rig.send_class(dscp | ecn), [dscp | ecn]);
        rig.classes.remove(&0); // control
        let out: Vec<u8> = rig.classes.iter().copied().collect();
        assert_eq!(out, if ecn == 0 { vec![] } else { vec![ecn] });
    }
    rig.mark = Some(Ecn::Ce);
    assert_eq!(rig.send_class(dscp | ect0), [dscp | ce]);
    assert_eq!(rig.send_class(dscp | ect1), [dscp | ce]);
}

#[test]
fn a_mark_that_no_sender_would_see_costs_one_packet() {
    let mut rig = rig(&[]);
    rig.run(MS * 500);
    rig.mark = Some(Ecn::Ce);
    assert!(rig.send_class(0).is_empty());
    assert_eq!(rig.ends[1].report(rig.now).drops[&DropReason::Congested], 1);
    rig.mark = None;
    assert_eq!(rig.send_class(0), [0]);
}

#[test]
fn a_recorded_handshake_takes_no_packets_away_from_the_peer() {
    let mut rig = rig(&[]);
    let recorded: Vec<_> = rig.ends[0]
        .poll_transmit()
        .into_iter()
        .chain(std::iter::from_fn(|| rig.ends[0].poll_transmit()))
        .flat_map(|sent| sent.datagrams().map(<[u8]>::to_vec).collect::<Vec<_>>())
        .collect();
    assert_eq!(recorded.len(), 2);
    // An end that has just started remembers nobody, and its peer does not answer for a while.
    rig.cut = true;
    for mut datagram in recorded {
        rig.ends[1].handle_datagram(A, Ecn::NotEct, &mut datagram, rig.now);
    }
    let sent = packet([10, 9, 0, 1], [10, 9, 0, 0]);
    rig.ends[1].handle_inner(&sent, rig.now);
    rig.ends[0] = end(0, 6, &[], rig.now);
    rig.run(MS * 50);
    rig.cut = false;
    rig.run(MS * 3000);
    assert_eq!(rig.inner[0], [sent]);
    assert_eq!(
        rig.count(1, |event| *event == TunnelEvent::Restarted),
        0,
        "nobody was there before"
    );
}

#[test]
fn both_ends_export_the_same_fresh_secrets_in_the_same_order() {
    let mut rig = rig(&[]);
    rig.run(Duration::from_secs(300));
    let exported = |me: usize| -> Vec<_> {
        let events = rig.events[me].iter();
        events
            .filter_map(|event| match event {
                TunnelEvent::Exported(secret) => Some(*secret.expose()),
                _ => None,
            })
            .collect()
    };
    let [near, far] = [0, 1].map(exported);
    assert!(
        near.len() >= 3,
        "one at the start, then one every two minutes"
    );
    assert_eq!(near, far);
    assert!(near.windows(2).all(|pair| pair[0] != pair[1]));
}
