//! An authentic peer that went bad: it has its keys and says what it likes.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{ClientId, NodeId, PublicKey, SessionId, Timestamp};
use vpnmesh_transport::channel::Channel;
use vpnmesh_transport::frame::Frame;
use vpnmesh_transport::handshake::{
    Attempt, Authority, Decision, Direction, Initiator, Load, Progress, Request, Responder,
    ResponderConfig, direction,
};
use vpnmesh_transport::leg::{Cadence, Leg};
use vpnmesh_transport::message;
use vpnmesh_transport::outbox::Outbox;
use vpnmesh_transport::station::{FirstBranch, Hello, Station, link_channel};
use vpnmesh_transport::trace::Sizes;
use vpnmesh_transport::wire::{HEADER, Header, Kind};
use vpnmesh_transport::{
    Cipher, Ciphers, Ecn, Established, Exchange, Machine, Pq, Profile, Profiles, SeededEntropy,
};

use super::members::{self, START, suite};
use super::script::Script;

/// A peer of the machine under test.
pub(super) struct Insider {
    me: u64,
    target: u64,
    leg: Leg,
    out: Outbox,
    now: Timestamp,
}

/// Accepts everybody and remembers what for.
#[derive(Default)]
struct Open {
    hello: Option<Hello>,
}

impl Authority for Open {
    fn knows(&mut self, _peer: &PublicKey) -> bool {
        true
    }

    fn decide(&mut self, request: &Request<'_>) -> Decision {
        self.hello = message::decode(request.payload).ok();
        Decision::Accept {
            local_index: INDEX,
            payload: Vec::new(),
        }
    }
}

impl Insider {
    /// Member `me` shakes hands with the machine, which is member `target`.
    pub(super) fn dial(
        machine: &mut impl Machine,
        (me, target): (u64, u64),
        hello: Hello,
    ) -> Option<Self> {
        let identity = members::identity(me);
        let mut entropy = SeededEntropy::new(me);
        let attempt = Attempt {
            suite: suite(),
            identity: &identity,
            peer: members::identity(target).public(),
            site_secret: None,
            profile: Profile::Standard,
            exchange: Exchange::Hybrid,
            ciphers: Ciphers::of(&Cipher::ALL),
            incarnation: members::life(me),
            counter: 1,
            local_index: INDEX,
            payload: &message::encode(&hello),
            cookie: None,
            retry: Duration::from_millis(250),
        };
        let mut initiator = Initiator::new(attempt, &mut entropy, START).ok()?;
        while let Some(mut datagram) = initiator.poll_transmit() {
            machine.handle_datagram(members::address(me), Ecn::NotEct, &mut datagram, START);
        }
        let mut established = None;
        while let Some(sent) = machine.poll_transmit() {
            for reply in sent.datagrams().filter(|_| sent.to == members::address(me)) {
                let progress = initiator.handle_datagram(reply, START);
                if let Ok(Progress::Established(session)) = progress {
                    established = Some(session);
                }
            }
        }
        let established = established?;
        let channel = channel(me, &established, hello, target)?;
        Some(Self::over(machine, (me, target), channel))
    }

    /// The machine, which is member `target`, dials a node; we are that node.
    pub(super) fn serve(machine: &mut impl Machine, target: u64) -> Option<Self> {
        let mut responders = BTreeMap::new();
        while let Some(sent) = machine.poll_transmit() {
            let Some(me) = (1..=3).find(|id| members::address(*id) == sent.to) else {
                continue;
            };
            let responder = responders.entry(me).or_insert_with(|| responder(me));
            for datagram in sent.datagrams() {
                if direction(datagram) != Some(Direction::ToResponder) {
                    continue;
                }
                let (mut open, mut entropy) = (Open::default(), SeededEntropy::new(me));
                let from = members::address(target);
                let outcome = responder.handle_datagram(
                    from,
                    datagram,
                    Load::Normal,
                    &mut open,
                    &mut entropy,
                    START,
                );
                for mut reply in outcome.replies {
                    machine.handle_datagram(members::address(me), Ecn::NotEct, &mut reply, START);
                }
                if let (Some(established), Some(hello)) = (outcome.established, open.hello) {
                    let channel = channel(me, &established, hello, me)?;
                    return Some(Self::over(machine, (me, target), channel));
                }
            }
        }
        None
    }

    fn over(machine: &mut impl Machine, (me, target): (u64, u64), channel: Channel) -> Self {
        let cadence = Cadence {
            busy: Duration::from_millis(250),
            idle: Duration::from_millis(250),
        };
        let leg = Leg::new(members::address(target), channel, cadence, START);
        let mut insider = Self {
            me,
            target,
            leg,
            out: Outbox::default(),
            now: START,
        };
        insider.exchange(machine);
        insider.leg.send_frame(Frame::Ack); // shows that we have the keys
        insider.exchange(machine);
        insider
    }

    /// Does to the machine what the script says.
    pub(super) fn drive<M: Machine>(
        &mut self,
        machine: &mut M,
        script: &mut Script<'_>,
        command: impl Fn(&mut Script<'_>) -> M::Command,
        sizes: impl Fn(&M) -> Sizes,
    ) {
        let mut steps = 0;
        while script.goes_on() && steps < MAX_OPERATIONS {
            steps += 1;
            match script.byte() % 9 {
                0 => self.throw(machine, self.me, script.text()),
                1 => {
                    let from = script.byte().into();
                    self.throw(machine, from, script.text());
                }
                2 => {
                    let _ = self.leg.send_message(script.text());
                }
                3 => self.seal(machine, Kind::Control, script.text()),
                4 => self.seal(machine, Kind::Data, script.text()),
                5 => self.seal(machine, Kind::Split, script.text()),
                6 => machine.handle_inner(script.text(), self.now),
                7 => self.wait(machine, Duration::from_millis(script.short().into())),
                _ => machine.handle_command(command(script), self.now),
            }
            self.exchange(machine);
            for (table, size) in sizes(machine) {
                assert!(size <= MAX_TABLE, "{size} entries in {table}");
            }
        }
    }

    /// Any datagram, from the address of a member.
    fn throw(&self, machine: &mut impl Machine, from: u64, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        let arrived =
            machine.handle_datagram(members::address(from), Ecn::NotEct, &mut datagram, self.now);
        assert!(arrived.is_none_or(|inner| datagram.get(inner).is_some()));
    }

    /// Any text under our keys.
    fn seal(&mut self, machine: &mut impl Machine, kind: Kind, text: &[u8]) {
        let mut datagram = [&[0; HEADER][..], text].concat();
        let sealed = self.leg.newest_mut().seal(kind, 0, &mut datagram);
        if sealed.is_ok() {
            self.throw(machine, self.me, &datagram);
        }
    }

    fn wait(&mut self, machine: &mut impl Machine, span: Duration) {
        self.now += span;
        if machine.poll_timeout() <= self.now {
            machine.handle_timeout(self.now);
        }
    }

    /// Takes out what the machine has to give and answers it, as a good peer does.
    fn exchange(&mut self, machine: &mut impl Machine) {
        for _ in 0..ROUNDS {
            let ours = self.take_out(machine);
            if let Err(reason) = self.leg.flush(&mut self.out, self.now) {
                panic!("our own keys are spent: {reason:?}");
            }
            let mut said = Vec::new();
            while let Some(sent) = self.out.poll_transmit() {
                said.extend(sent.datagrams().map(<[u8]>::to_vec));
            }
            if ours + said.len() == 0 {
                return;
            }
            for mut datagram in said {
                machine.handle_datagram(
                    members::address(self.me),
                    Ecn::NotEct,
                    &mut datagram,
                    self.now,
                );
            }
        }
    }

    /// How many datagrams were for us.
    fn take_out(&mut self, machine: &mut impl Machine) -> usize {
        let (mut ours, mut all) = (0, 0);
        while let Some(sent) = machine.poll_transmit() {
            for datagram in sent.datagrams() {
                all += 1;
                assert!(datagram.len() <= MAX_PAYLOAD, "{} bytes", datagram.len());
                let header = Header::decode(datagram);
                if let (Ok(header), true) = (header, sent.to == members::address(self.me)) {
                    ours += 1;
                    let from = members::address(self.target);
                    let mut datagram = datagram.to_vec();
                    let _ = self
                        .leg
                        .open(&header, from, Ecn::NotEct, &mut datagram, self.now);
                }
            }
            machine.recycle(sent.payload);
        }
        assert!(all <= MAX_AT_ONCE, "{all} datagrams at once");
        while let Some(packet) = machine.poll_inner() {
            machine.recycle(packet);
        }
        while machine.poll_event().is_some() {}
        while self.leg.poll_message().is_some() {}
        ours
    }
}

/// The channel that a handshake of ours gives. `holder` is its responder.
fn channel(me: u64, established: &Established, hello: Hello, holder: u64) -> Option<Channel> {
    let station = Station::new(members::station(me)).ok()?;
    match hello {
        Hello::Link { .. } => Some(link_channel(&suite(), established, &station, START)),
        Hello::Session {
            session,
            generation,
            number,
            ..
        } => {
            let holder = if established.initiator {
                (
                    NodeId(holder),
                    established.peer,
                    established.peer_incarnation,
                )
            } else {
                (
                    NodeId(holder),
                    members::identity(holder).public(),
                    members::life(holder),
                )
            };
            let names = (session, generation, number);
            Some(FirstBranch::derive(&suite(), established, names, holder, START).channel)
        }
        Hello::Receipts => None,
    }
}

fn responder(me: u64) -> Responder {
    let config = ResponderConfig {
        suite: suite(),
        identity: members::identity(me),
        site_secret: None,
        incarnation: members::life(me),
        profiles: Profiles::from_floor(Profile::Standard),
        ciphers: Ciphers::of(&Cipher::ALL),
        pq: Pq::Require,
    };
    Responder::new(config, &mut SeededEntropy::new(100 + me), START)
}

/// A client's first session.
pub(super) fn session(client: u64) -> Hello {
    Hello::Session {
        session: SessionId::new(ClientId(client), [7; 8]),
        generation: 1,
        number: 1,
        refresh: false,
    }
}

/// Our name for the keys.
const INDEX: u32 = 0x0a0b_0c0d;
const MAX_OPERATIONS: u32 = 64;
/// A question, its answer, and what follows from that.
const ROUNDS: usize = 4;
/// No datagram is longer than what the longest path carries.
const MAX_PAYLOAD: usize = 1452;
/// One step never makes more than a full control queue.
const MAX_AT_ONCE: usize = 8192;
/// In a mesh of seven members no table is larger.
const MAX_TABLE: usize = 4096;
