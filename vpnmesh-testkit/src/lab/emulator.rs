//! The emulator's thread: moves packets between the hosts' uplinks and the [`Network`].

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vpnmesh_core::Timestamp;

use super::device::Tun;
use super::flight::Packet;
use super::network::Network;
use super::pace::Pace;
use super::priority::wake_on_time;

/// Work another thread wants done between two packets.
pub(super) type Request = Box<dyn FnOnce(&mut Emulator) + Send>;

/// Reads, holds and writes the packets of all hosts.
#[derive(Debug)]
pub(super) struct Emulator {
    network: Network,
    /// By number of the host.
    uplinks: Vec<Tun>,
    started: Instant,
    pace: Pace,
    woke: Timestamp,
    stopped: bool,
}

impl Emulator {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            network: Network::new(seed),
            uplinks: Vec::new(),
            started: Instant::now(),
            pace: Pace::default(),
            woke: Timestamp::ZERO,
            stopped: false,
        }
    }

    pub(super) const fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Adds a host; `false` if there is no room.
    pub(super) fn add_host(&mut self, uplink: Tun, address: IpAddr) -> bool {
        let host = self.uplinks.len();
        if !self.network.add_host() {
            return false;
        }
        self.uplinks.push(uplink);
        self.network.add_address(address, host)
    }

    pub(super) const fn stop(&mut self) {
        self.stopped = true;
    }

    /// Runs until stopped. Whoever puts a request in the inbox rings the bell afterwards.
    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Request>, bell: &Arc<OwnedFd>) {
        wake_on_time();
        while !self.stopped {
            self.rest();
            let (rung, ready) = self.wait(bell);
            self.woke = self.now();
            for host in ready {
                self.receive(host);
            }
            self.deliver();
            if rung {
                let mut count = [0; 8];
                let _already_silent = rustix::io::read(bell, &mut count);
                for request in inbox.try_iter() {
                    request(&mut self);
                }
            }
        }
    }

    /// Lets packets gather when many flow.
    fn rest(&mut self) {
        let rest = self.pace.rest(self.woke, self.now());
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
    }

    /// Sleeps until a packet is due, sent, or the bell rings: whether it did, and who sent.
    fn wait(&self, bell: &OwnedFd) -> (bool, Vec<usize>) {
        let due = self.network.poll_timeout();
        let left = (due < Timestamp::MAX).then(|| due.since(self.now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let watch = |uplink| PollFd::new(uplink, PollFlags::IN);
        let mut fds = vec![PollFd::new(bell, PollFlags::IN)];
        fds.extend(self.uplinks.iter().map(watch));
        match poll(&mut fds, left.as_ref()) {
            Ok(0) | Err(_) => (false, Vec::new()), // a signal: come back
            Ok(_) => {
                let mut ready = fds.iter().map(|fd| fd.revents().contains(PollFlags::IN));
                let rung = ready.next().unwrap_or(false);
                let ready = ready.enumerate().filter(|(_, ready)| *ready);
                (rung, ready.map(|(host, _)| host).collect())
            }
        }
    }

    /// Reads what a host sent, but not so much that others wait.
    fn receive(&mut self, host: usize) {
        for _ in 0..BATCH {
            let mut buffer = self.network.buffer();
            match rustix::io::read(&self.uplinks[host], &mut buffer[..]) {
                Ok(len) => {
                    self.pace.handle_packet();
                    let now = self.now();
                    self.network
                        .handle_packet(host, Packet { buffer, len }, now);
                }
                Err(_nothing_more) => return self.network.recycle(buffer),
            }
        }
    }

    /// Writes every packet that is due.
    fn deliver(&mut self) {
        while let Some((host, packet)) = self.network.poll_delivery(self.now()) {
            if rustix::io::write(&self.uplinks[host], &packet.buffer[..packet.len]).is_err() {
                self.network.handle_refused(host);
            }
            self.network.recycle(packet.buffer);
            self.pace.handle_packet();
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.started.elapsed()
    }
}

/// Packets read from one host before the others get their turn.
const BATCH: usize = 64;
