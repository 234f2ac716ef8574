//! How many packets a second the lab's emulator carries, and how exactly it keeps delays.
//!
//! `cargo bench -p vpnmesh-testkit --bench fabric`. Senders share the machine with the emulator, so
//! the CPU time per packet is the steadier figure: its inverse is what the thread could carry alone.

#![allow(clippy::unwrap_used, reason = "a failed unwrap ends the measurement")]

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vpnmesh_testkit::lab::{self, Lab, Link};

fn main() {
    let inside = lab::enter_or_exit("the measurement");
    let lab = Lab::new(inside, 1).unwrap();
    let (from, to) = pair(&lab);
    println!(
        "{:28} {:>10} {:>10} {:>12} {:>12}",
        "case", "packets/s", "Mbit/s", "CPU/packet", "alone, p/s"
    );
    for (name, size, link) in [
        ("100 B, perfect", 100, Link::default()),
        ("1400 B, perfect", 1400, Link::default()),
        (
            "100 B, 20 ms, jitter, loss",
            100,
            Link::delay_ms(20).jitter_ms(2).loss(0.01),
        ),
        (
            "1400 B, 20 ms, jitter, loss",
            1400,
            Link::delay_ms(20).jitter_ms(2).loss(0.01),
        ),
    ] {
        lab.link("a", "b", link).unwrap();
        flood(&lab, name, &from, &to, size);
    }
    println!();
    println!(
        "{:28} {:>10} {:>10} {:>10} {:>10}",
        "round trips, 10 + 10 ms", "min", "p50", "p99", "max"
    );
    for (name, busy) in [("idle", 0), ("2 threads busy", 2), ("8 threads busy", 8)] {
        lab.link("a", "b", Link::delay_ms(10)).unwrap();
        ping(&lab, name, &from, &to, busy);
    }
}

fn pair(lab: &Lab) -> (UdpSocket, UdpSocket) {
    let [a, b] = [("a", "192.0.2.1"), ("b", "192.0.2.2")].map(|(name, address)| {
        let address: IpAddr = address.parse().unwrap();
        let host = lab.host(name, address).unwrap();
        host.run(|| UdpSocket::bind((address, 0))).unwrap().unwrap()
    });
    a.connect(b.local_addr().unwrap()).unwrap();
    b.connect(a.local_addr().unwrap()).unwrap();
    (a, b)
}

fn flood(lab: &Lab, name: &str, from: &UdpSocket, to: &UdpSocket, size: usize) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _queue_full = from.send(&[0; 1400][..size]);
            }
        });
        scope.spawn(|| {
            to.set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            while !done.load(Ordering::Relaxed) {
                let _nothing = to.recv(&mut [0; 1500]);
            }
        });
        let read = || {
            let counters = lab.fabric().counters("a", "b").unwrap();
            (counters, lab.fabric().cpu_time().unwrap(), Instant::now())
        };
        std::thread::sleep(Duration::from_millis(500));
        let (before, cpu_before, start) = read();
        std::thread::sleep(Duration::from_secs(3));
        let (after, cpu, end) = read();
        done.store(true, Ordering::Relaxed);
        let (seconds, packets) = ((end - start).as_secs_f64(), (after.tx - before.tx) as f64);
        let each = (cpu - cpu_before).as_secs_f64() / packets;
        println!(
            "{name:28} {:>10.0} {:>10.0} {:>9.2} µs {:>12.0}",
            packets / seconds,
            (after.tx_bytes - before.tx_bytes) as f64 * 8e-6 / seconds,
            each * 1e6,
            1.0 / each
        );
    });
}

fn ping(lab: &Lab, name: &str, client: &UdpSocket, server: &UdpSocket, busy: usize) {
    let done = AtomicBool::new(false);
    settle(lab, client, server);
    std::thread::scope(|scope| {
        for _ in 0..busy {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            });
        }
        scope.spawn(|| {
            server
                .set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            while !done.load(Ordering::Relaxed) {
                if server.recv(&mut [0; 8]).is_ok() {
                    server.send(&[0; 8]).unwrap();
                }
            }
        });
        let mut trips: Vec<Duration> = (0..200)
            .map(|_| {
                let start = Instant::now();
                client.send(&[0; 8]).unwrap();
                client.recv(&mut [0; 8]).unwrap();
                start.elapsed()
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        trips.sort_unstable();
        let at = |percent: usize| {
            format!(
                "{:.3} ms",
                trips[(trips.len() - 1) * percent / 100].as_secs_f64() * 1e3
            )
        };
        println!(
            "{name:28} {:>10} {:>10} {:>10} {:>10}",
            at(0),
            at(50),
            at(99),
            at(100)
        );
        let late = lab.fabric().lateness(false).unwrap();
        println!(
            "{:28} left the emulator late: mean {:?}, p99 <= {:?}, max {:?}",
            "",
            late.mean(),
            late.percentile(99),
            late.max()
        );
    });
}

/// Waits for the packets of the case before, and starts counting afresh.
fn settle(lab: &Lab, client: &UdpSocket, server: &UdpSocket) {
    for socket in [client, server] {
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        while socket.recv(&mut [0; 1500]).is_ok() {}
    }
    client.set_read_timeout(None).unwrap();
    lab.fabric().lateness(true).unwrap();
}
