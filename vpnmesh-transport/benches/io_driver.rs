//! What the driver costs without any protocol: an echo machine over loopback.
//!
//! Run with `cargo bench -p vpnmesh-transport --bench io_driver`. One line per kind of load:
//! packets echoed per second, system calls and CPU time of the packet thread per packet (a packet
//! comes in and goes out). Client and driver share the machine, so packets per second depend on
//! what else runs; system calls and CPU time hardly do.
#![allow(clippy::unwrap_used, missing_docs, reason = "a program for developers")]

#[path = "../tests/machines/mod.rs"]
mod machines;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use machines::{Bridge, side_by_side, wait_readable};
use vpnmesh_transport::Transmit;
use vpnmesh_transport::io::{
    ChannelIo, Driver, DriverHandle, IoCounters, PacketBatch, PacketIo, Received, Sent, UdpBatch,
    UdpSocket,
};

fn main() {
    println!(
        "{:<34} {:>12} {:>15} {:>13}",
        "load", "packets/s", "syscalls/packet", "CPU ns/packet"
    );
    echo("1 peer, 1400 B, 256 under way", 1, 1400, 256);
    echo("1 peer, 100 B, 256 under way", 1, 100, 256);
    echo("64 peers, 100 B, 4 under way each", 64, 100, 4);
    echo("1 peer, 100 B, 1 under way (ping)", 1, 100, 1);
    inner("in-process 1400 B, 128 under way", 1400, 128);
}

/// `peers` sockets that each keep `window` datagrams under way.
fn echo(load: &str, peers: usize, len: usize, window: usize) {
    let udp = loopback();
    let to = udp.local_addr();
    let driver = Driver::spawn(Bridge::default(), udp, None).unwrap();
    let mut clients: Vec<_> = (0..peers).map(|_| Client::new()).collect();
    let start = Instant::now();
    while start.elapsed() < RUN {
        for client in &mut clients {
            client.send(to, len, window);
        }
        for client in &mut clients {
            client.receive(window);
        }
    }
    report(load, start.elapsed(), driver, |counters| {
        counters.rx_datagrams
    });
}

/// Inner packets into a driver and back from it.
fn inner(load: &str, len: usize, window: usize) {
    let udp = loopback();
    let (end, mut io) = ChannelIo::pair(window).unwrap();
    let bridge = Bridge::to(udp.local_addr()); // the driver is its own peer
    let driver = Driver::spawn(bridge, udp, Some(Box::new(end))).unwrap();
    let (bytes, ranges) = side_by_side(&vec![vec![0x45; len]; window]);
    let mut batch = PacketBatch::new(64, 1 << 20);
    let start = Instant::now();
    while start.elapsed() < RUN {
        assert_eq!(io.send(&bytes, &ranges).packets, window);
        let mut back = 0;
        while back < window {
            wait_readable(io.readable(), PATIENCE);
            batch.clear();
            back += io.recv(&mut batch).unwrap();
        }
    }
    report(load, start.elapsed(), driver, |counters| {
        counters.inner_tx_packets
    });
}

struct Client {
    socket: UdpSocket,
    queue: VecDeque<Transmit>,
    spare: Vec<Vec<u8>>,
    batch: UdpBatch,
    counters: IoCounters,
}

impl Client {
    fn new() -> Self {
        Self {
            socket: loopback(),
            queue: VecDeque::new(),
            spare: Vec::new(),
            batch: UdpBatch::new(),
            counters: IoCounters::default(),
        }
    }

    fn send(&mut self, to: SocketAddr, len: usize, count: usize) {
        for _ in 0..count {
            let payload = self.spare.pop().unwrap_or_else(|| vec![7; len]);
            self.queue.push_back(Transmit::one(to, payload));
        }
        let spare = &mut self.spare;
        let sent = self
            .socket
            .send(&mut self.queue, &mut self.counters, |spent| {
                spare.push(spent)
            });
        assert_eq!(sent, Sent::All);
    }

    fn receive(&mut self, count: usize) {
        let mut back = 0;
        while back < count {
            wait_readable(self.socket.as_fd(), PATIENCE);
            let found = self.socket.recv(&mut self.batch, &mut self.counters);
            assert!(matches!(found, Ok(Received::Drained | Received::More)));
            back += self.batch.datagrams().count();
        }
    }
}

fn loopback() -> UdpSocket {
    UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap()
}

fn report(
    load: &str,
    took: Duration,
    driver: DriverHandle<Bridge>,
    packets: impl Fn(&IoCounters) -> u64,
) {
    let cpu = packet_thread_ns();
    let commands = driver.commands();
    driver.stop().unwrap();
    let counters = commands.counters();
    let count = packets(&counters) as f64;
    println!(
        "{load:<34} {:>12.0} {:>15.3} {:>13.0}",
        count / took.as_secs_f64(),
        counters.system_calls as f64 / count,
        cpu / count,
    );
}

/// CPU time of the thread called `vpnmesh-io`.
fn packet_thread_ns() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let paths = tasks.map(|task| task.unwrap().path());
    let is_driver = |name: String| name.trim() == "vpnmesh-io";
    let mut drivers =
        paths.filter(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(is_driver));
    let task = drivers.next().expect("the driver still runs");
    let stat = std::fs::read_to_string(task.join("schedstat")).unwrap();
    let on_cpu = stat.split(' ').next().expect("three numbers");
    on_cpu.parse().unwrap()
}

const RUN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);
