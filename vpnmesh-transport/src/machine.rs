//! The shape of every state machine here: input goes in with `now`, work comes out.
//!
//! A machine never waits, sends or reads a clock. Whoever drives it (the `io::driver` thread, the
//! simulator, a loop of your own) calls any `handle_*`, then drains every `poll_*` until each says
//! `None`.

use std::net::SocketAddr;

use vpnmesh_core::Timestamp;

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where it goes.
    pub to: SocketAddr,
    /// The UDP payload. Once sent, give it back with [`Machine::recycle`].
    pub payload: Vec<u8>,
}

/// A state machine between a UDP socket and a local source of inner IP packets.
///
/// Implementations are deterministic: the same inputs at the same times give the same outputs. No
/// input makes a machine panic: a bad datagram, packet or command ends in a counter.
pub trait Machine {
    /// What the program tells the machine to do.
    type Command;
    /// What the machine tells the program.
    type Event;

    /// One UDP datagram arrived. `data` is opened in place.
    fn handle_datagram(&mut self, from: SocketAddr, data: &mut [u8], now: Timestamp);

    /// One inner IP packet arrived from the local packet I/O (a TUN device, say).
    fn handle_inner(&mut self, packet: &[u8], now: Timestamp);

    /// The program wants something.
    fn handle_command(&mut self, command: Self::Command, now: Timestamp);

    /// It is `now`: whatever was due is done. A driver calls this only after it drained what
    /// already arrived; if `now` is much later than [`Self::poll_timeout`] asked for, it was the
    /// driver that was late, not the peers.
    fn handle_timeout(&mut self, now: Timestamp);

    /// The next datagram to send.
    fn poll_transmit(&mut self) -> Option<Transmit>;

    /// The next inner packet for the local packet I/O.
    fn poll_inner(&mut self) -> Option<Vec<u8>>;

    /// The next thing to tell the program.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// When to come back if nothing arrives before; [`Timestamp::MAX`] for never.
    fn poll_timeout(&self) -> Timestamp;

    /// Gives a spent buffer back, of a [`Transmit`] or of [`Self::poll_inner`].
    fn recycle(&mut self, buffer: Vec<u8>);
}
