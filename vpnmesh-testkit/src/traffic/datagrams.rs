//! The numbered datagrams of a client, in both directions over one socket of their own.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use vpnmesh_core::Timestamp;

use super::clock::sleep_until;
use super::datagram::{Datagram, HEADER, Kind, MOST};
use super::io::TimedUdp;
use super::pace::Beat;
use super::threads::{Stop, lock};
use super::{Arrivals, Departures, monotonic};

/// What a client knows of its numbered datagrams.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub(crate) up: Mutex<Departures>,
    pub(crate) down: Mutex<Arrivals>,
}

impl Numbered {
    /// Remembers the newest `bound` of each direction.
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            up: Mutex::new(Departures::new(bound)),
            down: Mutex::new(Arrivals::new(bound)),
        }
    }
}

/// Sends until told to stop. `target`: the client's number, and the site's address.
pub(crate) fn send(
    socket: &TimedUdp,
    state: &Numbered,
    target: (u32, SocketAddr),
    every: Duration,
    bytes: usize,
    stop: &Stop,
) {
    let mut data = vec![0; bytes.clamp(HEADER, MOST)];
    let mut beat = Beat::new(every, monotonic());
    while !stop.is_set() {
        sleep_until(beat.due());
        let number = lock(&state.up).next_number();
        let sent = monotonic();
        beat.handle_given(sent);
        let datagram = Datagram {
            kind: Kind::Up,
            stream: target.0,
            number,
            sent,
            echoed: Timestamp::ZERO,
        };
        datagram.encode(&mut data);
        let taken = socket.send(&data, target.1);
        lock(&state.up).handle_sent(sent, taken);
    }
}

/// Receives what the site sends until told to stop.
pub(crate) fn receive(socket: &TimedUdp, state: &Numbered, stream: u32, stop: &Stop) {
    let mut buffer = [0; MOST];
    while !stop.is_set() {
        let Some(received) = socket.receive(&mut buffer) else {
            continue;
        };
        let mut down = lock(&state.down);
        match Datagram::decode(&buffer[..received.len]) {
            Some(it) if it.kind == Kind::Down && it.stream == stream => {
                down.handle_datagram(it.number, it.sent, received.at);
            }
            Some(_) | None => down.handle_corrupt(),
        }
    }
}
