//! Two ends of a leg over any network.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{Secret, SessionId, Timestamp};
use vpnmesh_transport::channel::{Channel, ChannelId, End};
use vpnmesh_transport::inner::{Inner, Rest};
use vpnmesh_transport::leg::{Cadence, Leg, Opened};
use vpnmesh_transport::outbox::Outbox;
use vpnmesh_transport::schedule::MoveKeys;
use vpnmesh_transport::wire::{Header, OVERHEAD};
use vpnmesh_transport::{Cipher, Ecn};

use super::members::{self, START, suite};
use super::script::Script;

/// Packets and messages between two ends: what comes out went in, messages in order, packets at
/// most as often; a changed datagram brings nothing.
pub fn leg(data: &[u8]) {
    let mut script = Script::new(data);
    let mut pair = Pair::new();
    let mut steps = 0;
    while script.goes_on() && steps < MAX_OPERATIONS {
        steps += 1;
        pair.step(&mut script);
    }
}

/// One end, and what was put into it.
struct Side {
    leg: Leg,
    out: Outbox,
    /// Datagrams that it sent and that are under way.
    flying: Vec<Vec<u8>>,
    /// Inner packets that the other end has not given out, by how many there are.
    packets: BTreeMap<Vec<u8>, u32>,
    messages: Vec<Vec<u8>>,
    /// How many of them the other end has given out.
    heard: usize,
}

struct Pair {
    sides: [Side; 2],
    rekeyed: u32,
    now: Timestamp,
}

impl Pair {
    fn new() -> Self {
        let cadence = Cadence {
            busy: Duration::from_millis(250),
            idle: Duration::from_secs(15),
        };
        let [client, holder] = channels(0, START);
        let side = |id, channel| Side {
            leg: Leg::new(members::address(id), channel, cadence, START),
            out: Outbox::default(),
            flying: Vec::new(),
            packets: BTreeMap::new(),
            messages: Vec::new(),
            heard: 0,
        };
        Self {
            sides: [side(1, client), side(11, holder)],
            rekeyed: 0,
            now: START,
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let what = script.byte();
        let me = usize::from(what >> 7);
        match what % 9 {
            0 => self.sides[me].send_packet(script.text(), self.now),
            1 => self.sides[me].send_message(script.text()),
            2 => self.deliver(me, script.byte(), true),
            3 => self.deliver(me, script.byte(), false), // and it will come again
            4 => {
                let flying = &mut self.sides[me].flying;
                if let Some(place) = usize::from(script.byte()).checked_rem(flying.len()) {
                    flying.remove(place);
                }
            }
            5 => self.deliver_changed(me, script),
            6 => self.now += Duration::from_millis(script.short().into()),
            7 => self.rekey(),
            _ => self.sides[me]
                .leg
                .handle_own_delay(Duration::from_millis(5)),
        }
        for side in &mut self.sides {
            side.flush(self.now);
        }
    }

    fn deliver(&mut self, from: usize, byte: u8, last: bool) {
        let [client, holder] = &mut self.sides;
        let (sender, receiver, id) = if from == 0 {
            (client, holder, 11)
        } else {
            (holder, client, 1)
        };
        let Some(place) = usize::from(byte).checked_rem(sender.flying.len()) else {
            return;
        };
        let mut datagram = if last {
            sender.flying.remove(place)
        } else {
            sender.flying[place].clone()
        };
        let Ok(header) = Header::decode(&datagram) else {
            panic!("a leg sent what is no datagram of a session");
        };
        let opened = receiver.leg.open(
            &header,
            members::address(id),
            Ecn::NotEct,
            &mut datagram,
            self.now,
        );
        let packet = match &opened {
            Ok(Opened::Packet(packet)) => Some(packet.to_vec()),
            Ok(Opened::Joined(packet)) => Some(packet.clone()),
            Ok(Opened::Control { .. } | Opened::Nothing | Opened::Dropped(_)) | Err(_) => None,
        };
        if let Some(packet) = packet {
            let left = sender.packets.get_mut(&packet);
            let left = left.expect("what comes out went in");
            *left = left.checked_sub(1).expect("each packet comes out once");
        }
        while let Some(message) = receiver.leg.poll_message() {
            let expected = sender.messages.get(sender.heard).map(Vec::as_slice);
            assert_eq!(Some(message.as_slice()), expected);
            sender.heard += 1;
        }
    }

    fn deliver_changed(&mut self, from: usize, script: &mut Script<'_>) {
        let (byte, at, bit) = (script.byte(), script.short(), script.byte());
        let flying = &self.sides[from].flying;
        let Some(place) = usize::from(byte).checked_rem(flying.len()) else {
            return;
        };
        let mut datagram = flying[place].clone();
        let at = usize::from(at) % datagram.len();
        datagram[at] ^= 1 << (bit % 8);
        let receiver = &mut self.sides[1 - from].leg;
        if let Ok(header) = Header::decode(&datagram) {
            let opened = receiver.open(
                &header,
                members::address(3),
                Ecn::NotEct,
                &mut datagram,
                self.now,
            );
            assert!(opened.is_err(), "a changed datagram opened");
        }
    }

    /// Fresh keys at both ends.
    fn rekey(&mut self) {
        self.rekeyed += 1;
        let channels = channels(self.rekeyed, self.now);
        for (side, channel) in self.sides.iter_mut().zip(channels) {
            let retire_at = self.now + side.leg.grace();
            side.leg.add_channel(channel, retire_at);
        }
    }
}

impl Side {
    fn send_packet(&mut self, packet: &[u8], now: Timestamp) {
        let fits = packet.len() + OVERHEAD <= self.leg.max_payload();
        let cut = Inner::parse(packet).is_some_and(|it| matches!(it.rest(), Rest::Segments(..)));
        if cut && !fits {
            return; // its segments come out one by one
        }
        if self.leg.send_packet(packet, &mut self.out, now).is_ok() {
            *self.packets.entry(packet.to_vec()).or_default() += 1;
        }
    }

    fn send_message(&mut self, message: &[u8]) {
        if self.leg.send_message(message).is_ok() {
            self.messages.push(message.to_vec());
        }
    }

    fn flush(&mut self, now: Timestamp) {
        let flushed = self.leg.flush(&mut self.out, now);
        assert_eq!(flushed, Ok(()), "keys last longer than this");
        self.leg.expire(now);
        while let Some(sent) = self.out.poll_transmit() {
            self.flying.extend(sent.datagrams().map(<[u8]>::to_vec));
            self.out.recycle(sent.payload);
        }
        self.flying.truncate(MAX_FLYING);
    }
}

/// Both ends of the keys of that number.
fn channels(number: u32, now: Timestamp) -> [Channel; 2] {
    let keys = MoveKeys {
        up: Secret::take(&mut [number as u8; 32]),
        down: Secret::take(&mut [!(number as u8); 32]),
    };
    let id = ChannelId {
        session: SessionId([1; 16]),
        generation: 1,
        number,
        branch: 0,
    };
    let cipher = Cipher::ALL[number as usize % Cipher::ALL.len()];
    let make = |end, indices| Channel::new(&suite(), cipher, end, id, &keys, indices, now);
    let (client, holder) = (2 * number + 1, 2 * number + 2);
    let mut ends = [
        make(End::Client, (client, holder)),
        make(End::Holder, (holder, client)),
    ];
    ends[0].confirmed = true; // it has heard of the holder, which waits for its first packet
    ends
}

const MAX_OPERATIONS: u32 = 300;
const MAX_FLYING: usize = 128;
