//! The heartbeat stream of a client, over its own socket.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use vpnmesh_core::Timestamp;

use super::clock::sleep_until;
use super::datagram::{Datagram, HEADER, Kind, MOST};
use super::io::TimedUdp;
use super::pace::Beat;
use super::threads::{Stop, lock};
use super::{Silences, monotonic};

/// Sends until told to stop. `target`: the client's number, and the echo's address.
pub(crate) fn send(
    socket: &TimedUdp,
    state: &Mutex<Silences>,
    target: (u32, SocketAddr),
    every: Duration,
    bytes: usize,
    stop: &Stop,
) {
    let mut data = vec![0; bytes.clamp(HEADER, MOST)];
    let mut beat = Beat::new(every, monotonic());
    let mut number = 0;
    while !stop.is_set() {
        sleep_until(beat.due());
        let sent = monotonic();
        beat.handle_given(sent);
        let datagram = Datagram {
            kind: Kind::Heartbeat,
            stream: target.0,
            number,
            sent,
            echoed: Timestamp::ZERO,
        };
        datagram.encode(&mut data);
        lock(state).handle_sent(sent);
        let _ = socket.send(&data, target.1); // refused by the kernel: shows as a silence
        number += 1;
    }
}

/// Receives the replies until told to stop.
pub(crate) fn receive(socket: &TimedUdp, state: &Mutex<Silences>, stream: u32, stop: &Stop) {
    let mut buffer = [0; MOST];
    while !stop.is_set() {
        let Some(received) = socket.receive(&mut buffer) else {
            continue;
        };
        let Some(datagram) = Datagram::decode(&buffer[..received.len]) else {
            continue;
        };
        if datagram.kind == Kind::Reply && datagram.stream == stream {
            lock(state).handle_reply(datagram.sent, datagram.echoed, received.at);
        }
    }
}
