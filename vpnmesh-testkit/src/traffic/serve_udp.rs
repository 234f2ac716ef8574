//! The site's datagrams: the echo of heartbeats, and numbers in both directions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use vpnmesh_core::Timestamp;

use super::clock::sleep_until;
use super::datagram::{Datagram, HEADER, Kind, MOST};
use super::io::TimedUdp;
use super::pace::Beat;
use super::threads::{Stop, lock};
use super::{
    Arrivals, Departures, ResourceConfig, ResourceTotals, ResourceWindow, Window, monotonic,
};

/// What the site keeps per client.
#[derive(Debug)]
pub(crate) struct UdpState {
    streams: BTreeMap<u32, Stream>, // at most STREAMS; more are strange
    remember: usize,
    echoed: u64,
    strange: u64,
}

#[derive(Debug)]
struct Stream {
    client: SocketAddr,
    up: Arrivals,
    down: Departures,
}

/// What to do about a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Echo(Datagram),
    Nothing,
}

impl UdpState {
    /// Nothing known yet.
    pub(crate) fn new(config: &ResourceConfig) -> Self {
        Self {
            streams: BTreeMap::new(),
            remember: config.remember,
            echoed: 0,
            strange: 0,
        }
    }

    /// What is known of `window`.
    pub(crate) fn window(&self, window: Window, now: Timestamp) -> ResourceWindow {
        let streams = || self.streams.iter();
        ResourceWindow {
            up: streams()
                .map(|(id, it)| (*id, it.up.window(window, now)))
                .collect(),
            down: streams()
                .map(|(id, it)| (*id, it.down.window(window)))
                .collect(),
        }
    }

    /// What was counted.
    pub(crate) fn totals(&self) -> ResourceTotals {
        let streams = || self.streams.iter();
        ResourceTotals {
            echoed: self.echoed,
            up: streams().map(|(id, it)| (*id, it.up.totals())).collect(),
            down_sent: streams()
                .map(|(id, it)| (*id, it.down.next_number()))
                .collect(),
            strange: self.strange,
            ..ResourceTotals::default()
        }
    }

    fn handle_datagram(&mut self, data: &[u8], from: SocketAddr, now: Timestamp) -> Answer {
        let Some(datagram) = Datagram::decode(data) else {
            self.strange += 1;
            return Answer::Nothing;
        };
        match datagram.kind {
            Kind::Heartbeat => {
                self.echoed += 1;
                Answer::Echo(Datagram {
                    kind: Kind::Reply,
                    echoed: now,
                    ..datagram
                })
            }
            Kind::Up => {
                self.handle_up(&datagram, from, now);
                Answer::Nothing
            }
            Kind::Reply | Kind::Down => {
                self.strange += 1;
                Answer::Nothing
            }
        }
    }

    fn handle_up(&mut self, datagram: &Datagram, from: SocketAddr, now: Timestamp) {
        if !self.streams.contains_key(&datagram.stream) && self.streams.len() >= STREAMS {
            self.strange += 1;
            return;
        }
        let remember = self.remember;
        let stream = self
            .streams
            .entry(datagram.stream)
            .or_insert_with(|| Stream {
                client: from,
                up: Arrivals::new(remember),
                down: Departures::new(remember),
            });
        stream.client = from;
        stream
            .up
            .handle_datagram(datagram.number, datagram.sent, now);
    }

    /// The next number of each stream and where it goes.
    fn due(&self) -> Vec<(u32, u64, SocketAddr)> {
        let streams = self.streams.iter();
        streams
            .map(|(id, it)| (*id, it.down.next_number(), it.client))
            .collect()
    }

    fn handle_sent(&mut self, stream: u32, at: Timestamp, taken: bool) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.down.handle_sent(at, taken);
        }
    }
}

/// Receives until told to stop.
pub(crate) fn receive(socket: &TimedUdp, state: &Mutex<UdpState>, stop: &Stop) {
    let mut buffer = [0; MOST];
    while !stop.is_set() {
        let Some(received) = socket.receive(&mut buffer) else {
            continue;
        };
        let data = &mut buffer[..received.len];
        let answer = lock(state).handle_datagram(data, received.from, received.at);
        match answer {
            Answer::Echo(reply) => {
                reply.encode(data);
                let _ = socket.send(data, received.from); // a lost reply is a silence at the client
            }
            Answer::Nothing => {}
        }
    }
}

/// Sends numbered datagrams to every known client until told to stop.
pub(crate) fn send(
    socket: &TimedUdp,
    state: &Mutex<UdpState>,
    config: &ResourceConfig,
    stop: &Stop,
) {
    let every = Duration::from_secs(1) / config.datagrams_per_second.clamp(1, 10_000);
    let mut data = vec![0; config.datagram_bytes.clamp(HEADER, MOST)];
    let mut beat = Beat::new(every, monotonic());
    while !stop.is_set() {
        sleep_until(beat.due());
        beat.handle_given(monotonic());
        let due = lock(state).due();
        for (stream, number, client) in due {
            let sent = monotonic();
            let datagram = Datagram {
                kind: Kind::Down,
                stream,
                number,
                sent,
                echoed: Timestamp::ZERO,
            };
            datagram.encode(&mut data);
            let taken = socket.send(&data, client);
            lock(state).handle_sent(stream, sent, taken);
        }
    }
}

// A lab has a handful of clients.
const STREAMS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn up(stream: u32, number: u64) -> Vec<u8> {
        let mut data = vec![0; 60];
        let datagram = Datagram {
            kind: Kind::Up,
            stream,
            number,
            sent: Timestamp(1),
            echoed: Timestamp::ZERO,
        };
        datagram.encode(&mut data);
        data
    }

    fn state() -> UdpState {
        UdpState::new(&ResourceConfig::default())
    }

    const CLIENT: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    #[test]
    fn a_client_gets_datagrams_once_it_sent_one() {
        let mut state = state();
        assert!(state.due().is_empty());
        state.handle_datagram(&up(7, 0), CLIENT, Timestamp(2));
        assert_eq!(state.due(), [(7, 0, CLIENT)]);
        state.handle_sent(7, Timestamp(3), true);
        assert_eq!(state.due(), [(7, 1, CLIENT)]);
        let window = state.window(Window::all(), Timestamp(9));
        assert_eq!(
            (window.up[&7].arrivals.len(), window.down[&7].count),
            (1, 1)
        );
    }

    #[test]
    fn strangers_are_counted_and_bounded() {
        let mut state = state();
        state.handle_datagram(b"garbage", CLIENT, Timestamp(2));
        for stream in 0..100 {
            state.handle_datagram(&up(stream, 0), CLIENT, Timestamp(2));
        }
        assert_eq!(state.streams.len(), STREAMS);
        assert_eq!(state.totals().strange, 1 + 100 - STREAMS as u64);
    }
}
