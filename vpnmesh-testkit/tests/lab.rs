//! The lab against the real kernel: delays, losses, cuts, TCP and processes between namespaces.
//!
//! No test harness: see [`lab::run_suite`]. An argument runs only the tests whose name contains it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sha2::{Digest, Sha256};
use vpnmesh_testkit::lab::{self, Error, Inside, Lab, Link};
use vpnmesh_testkit::left_out::leave_out;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == ECHO_ROLE) {
        return echo(&arguments[1]);
    }
    if arguments.first().is_some_and(|first| first == NESTED_ROLE) {
        return nested();
    }
    lab::run_suite("lab", &TESTS)
}

const TESTS: [lab::Test; 12] = [
    ("a_ping_takes_both_delays", a_ping_takes_both_delays),
    (
        "a_cut_drops_everything_and_a_mend_restores_it",
        a_cut_drops_everything,
    ),
    (
        "loss_is_counted_and_close_to_what_was_asked",
        loss_is_counted,
    ),
    (
        "packets_to_unknown_addresses_are_counted",
        unknown_addresses_are_counted,
    ),
    ("jitter_keeps_the_order", jitter_keeps_the_order),
    (
        "the_rate_bounds_a_burst_and_the_queue_drops_its_tail",
        the_rate_bounds_a_burst,
    ),
    (
        "tcp_carries_every_byte_over_a_lossy_link",
        tcp_over_a_lossy_link,
    ),
    (
        "a_process_is_stopped_continued_and_killed",
        a_process_obeys_signals,
    ),
    (
        "processes_die_with_the_program_that_made_the_lab",
        processes_die_with_their_lab,
    ),
    ("a_program_with_threads_is_refused", threads_are_refused),
    ("a_host_changes_its_address", a_host_changes_its_address),
    ("ipv6_goes_the_same_way", ipv6_goes_the_same_way),
];

const N1: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const N2: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2));
const C1: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

fn three_hosts(inside: Inside) -> Lab {
    let lab = Lab::new(inside, 7).unwrap();
    for (name, address) in [("n1", N1), ("n2", N2), ("c1", C1)] {
        lab.host(name, address).unwrap();
    }
    lab
}

/// A UDP socket on a host, at its first address.
fn udp(lab: &Lab, host: &str) -> UdpSocket {
    let host = lab.find(host).unwrap();
    let socket = host
        .run(|| UdpSocket::bind((host.address(), 0)))
        .unwrap()
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket
}

fn send_numbered(from: &UdpSocket, to: &UdpSocket, numbers: std::ops::Range<u32>) {
    let to = to.local_addr().unwrap();
    for number in numbers {
        from.send_to(&number.to_be_bytes(), to).unwrap();
    }
}

/// The numbers that arrive, up to and including `last`.
fn receive_numbered(socket: &UdpSocket, last: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    let mut bytes = [0; 4];
    while numbers.last() != Some(&last) {
        socket.recv(&mut bytes).expect("the last number arrives");
        numbers.push(u32::from_be_bytes(bytes));
    }
    numbers
}

fn a_ping_takes_both_delays(inside: Inside) {
    const DELAY: Duration = Duration::from_millis(15);
    let lab = three_hosts(inside);
    lab.link("c1", "n1", Link::delay_ms(15)).unwrap();
    let (client, server) = (udp(&lab, "c1"), udp(&lab, "n1"));
    let held = || {
        let there = lab.fabric().counters("c1", "n1").unwrap().held;
        there + lab.fabric().counters("n1", "c1").unwrap().held
    };
    let mut beyond = Duration::MAX;
    let mut best = Duration::MAX;
    for number in 0..40 {
        let (before, start) = (held(), Instant::now());
        send_numbered(&client, &server, number..number + 1);
        receive_numbered(&server, number);
        send_numbered(&server, &client, number..number + 1);
        receive_numbered(&client, number);
        let (took, accounted) = (start.elapsed(), held().saturating_sub(before));
        assert!(accounted >= 2 * DELAY, "only {accounted:?} in the emulator");
        assert!(took >= 2 * DELAY, "only {took:?} between the sockets");
        beyond = beyond.min(took.saturating_sub(accounted));
        best = best.min(took);
    }
    let lateness = lab.fabric().lateness(false).unwrap();
    println!(
        "  best round trip {best:?} of {:?}, {beyond:?} of it outside the emulator; left the emulator late by {:?} at \
         the median",
        2 * DELAY,
        lateness.percentile(50)
    );
}

fn a_cut_drops_everything(inside: Inside) {
    let lab = three_hosts(inside);
    let (client, server, other) = (udp(&lab, "c1"), udp(&lab, "n1"), udp(&lab, "n2"));
    lab.link("c1", "n1", Link::delay_ms(30)).unwrap();
    send_numbered(&client, &server, 0..10); // under way when the link is cut
    lab.fabric().cut("c1", "n1", true).unwrap();
    send_numbered(&client, &server, 10..20);
    send_numbered(&client, &other, 0..10); // another path is not touched
    assert_eq!(receive_numbered(&other, 9).len(), 10);
    lab.fabric().cut("c1", "n1", false).unwrap();
    send_numbered(&client, &server, 20..30);
    let arrived = receive_numbered(&server, 29);
    let counters = lab.fabric().counters("c1", "n1").unwrap();
    assert!(counters.cut >= 10, "{counters:?}");
    assert_eq!(counters.cut + counters.tx, 30);
    assert_eq!(arrived.len() as u64, counters.tx);
    assert!(
        arrived.iter().all(|number| !(10..20).contains(number)),
        "{arrived:?}"
    );

    lab.link("c1", "n1", Link::default()).unwrap();
    lab.fabric().cut_host("n1", true).unwrap();
    send_numbered(&client, &server, 30..40);
    send_numbered(&client, &other, 10..11);
    receive_numbered(&other, 10); // the packets before it were judged before it
    lab.fabric().cut_host("n1", false).unwrap();
    send_numbered(&client, &server, 40..41);
    assert_eq!(receive_numbered(&server, 40), [40]);
    let cut = lab.fabric().uplink_counters("n1").unwrap().down.cut;
    assert_eq!(cut, 10);
}

fn loss_is_counted(inside: Inside) {
    let lab = three_hosts(inside);
    let (client, server) = (udp(&lab, "c1"), udp(&lab, "n1"));
    lab.fabric()
        .set("c1", "n1", Link::default().loss(0.2))
        .unwrap();
    let mut arrived = 0;
    for round in 0..100 {
        send_numbered(&client, &server, round * 51..round * 51 + 50);
        // The last of each round must come through, so that nothing piles up or is waited for.
        lab.fabric()
            .adjust("c1", "n1", |link| link.loss = vpnmesh_core::Ratio::ZERO)
            .unwrap();
        send_numbered(&client, &server, round * 51 + 50..round * 51 + 51);
        arrived += receive_numbered(&server, round * 51 + 50).len() as u64;
        lab.fabric()
            .set("c1", "n1", Link::default().loss(0.2))
            .unwrap();
    }
    let counters = lab.fabric().counters("c1", "n1").unwrap();
    assert_eq!((counters.rx, counters.tx), (5100, arrived));
    assert_eq!(counters.lost, 5100 - arrived);
    assert!(counters.lost > 0 && counters.lost < 1500, "{counters:?}");
}

fn unknown_addresses_are_counted(inside: Inside) {
    let lab = three_hosts(inside);
    let client = udp(&lab, "c1");
    for _ in 0..5 {
        client.send_to(b"nobody", "192.0.2.1:9").unwrap();
    }
    let server = udp(&lab, "n1");
    send_numbered(&client, &server, 0..1);
    receive_numbered(&server, 0);
    assert_eq!(lab.fabric().uplink_counters("c1").unwrap().unroutable, 5);
    assert!(matches!(
        lab.fabric().counters("c1", "x"),
        Err(Error::UnknownHost { .. })
    ));
    assert!(matches!(
        lab.host("n1", "192.0.2.9".parse().unwrap()),
        Err(Error::Taken { .. })
    ));
    assert!(matches!(lab.host("n9", N1), Err(Error::Taken { .. })));
}

fn jitter_keeps_the_order(inside: Inside) {
    let lab = three_hosts(inside);
    lab.link("c1", "n1", Link::delay_ms(5).jitter_ms(4))
        .unwrap();
    let (client, server) = (udp(&lab, "c1"), udp(&lab, "n1"));
    for round in 0..20 {
        send_numbered(&client, &server, round * 50..round * 50 + 50);
        let arrived = receive_numbered(&server, round * 50 + 49);
        assert_eq!(arrived, (round * 50..round * 50 + 50).collect::<Vec<_>>());
    }
}

fn the_rate_bounds_a_burst(inside: Inside) {
    let lab = three_hosts(inside);
    let (client, server) = (udp(&lab, "c1"), udp(&lab, "n1"));
    // 1028 bytes at 1 Mbit/s are 8.2 ms each: about 12 find room in 100 ms.
    lab.fabric()
        .set("c1", "n1", Link::default().rate_mbps(1).queue_ms(100))
        .unwrap();
    let start = Instant::now();
    for _ in 0..100 {
        client
            .send_to(&[0; 1000], server.local_addr().unwrap())
            .unwrap();
    }
    let mut buffer = [0; 2000];
    server.recv(&mut buffer).unwrap();
    let mut arrived = 1;
    let settled = |c: lab::Counters| c.rx == 100 && c.rx == c.tx + c.tail_dropped;
    while !settled(lab.fabric().counters("c1", "n1").unwrap()) {
        server.recv(&mut buffer).unwrap();
        arrived += 1;
    }
    let counters = lab.fabric().counters("c1", "n1").unwrap();
    assert!(counters.tail_dropped > 0, "{counters:?}");
    let least = Duration::from_micros(8224) * u32::try_from(counters.tx).unwrap();
    assert!(
        start.elapsed() >= least,
        "{arrived} packets in {:?}",
        start.elapsed()
    );
}

fn tcp_over_a_lossy_link(inside: Inside) {
    const BYTES: usize = 4 << 20;
    let lab = three_hosts(inside);
    lab.link(
        "c1",
        "n1",
        Link::delay_ms(5).jitter_ms(1).loss(0.01).rate_mbps(200),
    )
    .unwrap();
    let server = lab.find("n1").unwrap();
    let listener = server.run(|| TcpListener::bind((N1, 0))).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let serve = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let content: Vec<u8> = (0..BYTES)
            .map(|n| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        stream.write_all(&content).unwrap();
        Sha256::digest(&content)
    });
    let client = lab.find("c1").unwrap();
    let mut stream = client.run(|| TcpStream::connect(address)).unwrap().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut content = Vec::new();
    stream.read_to_end(&mut content).unwrap();
    assert_eq!(content.len(), BYTES);
    assert_eq!(Sha256::digest(&content), serve.join().unwrap());
    assert!(lab.fabric().counters("n1", "c1").unwrap().lost > 0);
}

fn a_process_obeys_signals(inside: Inside) {
    let lab = three_hosts(inside);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg(ECHO_ROLE)
        .arg("203.0.113.1:7")
        .stdout(Stdio::piped());
    // Started by a thread that ends at once: the process must not die with it.
    let server = std::thread::scope(|scope| {
        scope
            .spawn(|| lab.spawn("n1", command).unwrap())
            .join()
            .unwrap()
    });
    let mut ready = [0; 6];
    server
        .take_stdout()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    let address: SocketAddr = "203.0.113.1:7".parse().unwrap();
    let client = udp(&lab, "c1");
    let ask = |number: u32| client.send_to(&number.to_be_bytes(), address).unwrap();
    ask(0);
    receive_numbered(&client, 0);

    server.stop().unwrap();
    ask(1);
    // It stays silent: what it would say arrives only after it runs on.
    assert!(server.is_running());
    client.set_nonblocking(true).unwrap();
    let silent = client.recv(&mut [0; 4]).unwrap_err();
    assert_eq!(silent.kind(), io::ErrorKind::WouldBlock);
    client.set_nonblocking(false).unwrap();
    server.cont().unwrap();
    receive_numbered(&client, 1);

    server.stop().unwrap();
    server.kill().unwrap(); // a stopped process dies too
    let status = server.wait().unwrap();
    assert!(!status.success() && !server.is_running());
    assert!(server.terminate().is_err());
    assert!(matches!(
        lab.spawn("n1", Command::new("/does/not/exist")),
        Err(Error::Spawn { .. })
    ));
}

/// A lab in a lab: its program is killed, so nobody is left to end what it started.
fn processes_die_with_their_lab(inside: Inside) {
    let lab = three_hosts(inside);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(NESTED_ROLE).stdout(Stdio::piped());
    let program = lab.spawn("n1", command).unwrap();
    let mut lines = BufReader::new(program.take_stdout().unwrap()).lines();
    let started: i32 = lines.next().unwrap().unwrap().parse().unwrap();
    let started = Pid::from_raw(started).unwrap();
    let started = pidfd_open(started, PidfdFlags::empty()).unwrap();
    program.kill().unwrap();
    let patience = Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    let ended = poll(&mut [PollFd::new(&started, PollFlags::IN)], Some(&patience));
    assert_eq!(ended.unwrap(), 1, "the process outlived its lab");
}

fn threads_are_refused(inside: Inside) {
    let _lab = three_hosts(inside); // it has threads
    assert_eq!(lab::enter(), Err(lab::Refusal::Threads));
}

fn a_host_changes_its_address(inside: Inside) {
    let lab = three_hosts(inside);
    let new: IpAddr = "198.51.100.77".parse().unwrap();
    lab.add_address("c1", new).unwrap();
    lab.remove_address("c1", C1).unwrap();
    let server = udp(&lab, "n1");
    let client = lab.find("c1").unwrap();
    let client = client
        .run(|| UdpSocket::bind("0.0.0.0:0"))
        .unwrap()
        .unwrap();
    send_numbered(&client, &server, 0..1);
    let (_, from) = server.recv_from(&mut [0; 4]).unwrap();
    assert_eq!(from.ip(), new);
    server.send_to(b"gone", (C1, from.port())).unwrap();
    send_numbered(&client, &server, 1..2);
    receive_numbered(&server, 1);
    assert_eq!(lab.fabric().uplink_counters("n1").unwrap().unroutable, 1);
}

fn ipv6_goes_the_same_way(inside: Inside) {
    if !std::fs::exists("/proc/net/if_inet6").unwrap_or(false) {
        let _proven = leave_out("lab ipv6", "no IPv6", Some("/proc/net/if_inet6 is missing"));
        return;
    }
    let lab = Lab::new(inside, 7).unwrap();
    lab.host("a", "2001:db8::a".parse().unwrap()).unwrap();
    lab.host("b", N2).unwrap();
    lab.add_address("b", "2001:db8::b".parse().unwrap())
        .unwrap();
    let server = lab.find("b").unwrap();
    let server = server
        .run(|| UdpSocket::bind("[2001:db8::b]:0"))
        .unwrap()
        .unwrap();
    let client = udp(&lab, "a");
    send_numbered(&client, &server, 0..3);
    server
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(receive_numbered(&server, 2), [0, 1, 2]);
}

const ECHO_ROLE: &str = "--echo-role";

const NESTED_ROLE: &str = "--nested-role";

/// A program with a lab of its own and a process in it, until somebody kills it.
fn nested() -> ExitCode {
    let lab = three_hosts(lab::enter().unwrap());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg(ECHO_ROLE)
        .arg("203.0.113.1:7")
        .stdout(Stdio::null());
    let child = lab.spawn("n1", command).unwrap();
    println!("{}", child.pid());
    child.wait().unwrap();
    ExitCode::FAILURE
}

/// A process of its own: sends every datagram back.
fn echo(address: &str) -> ExitCode {
    let socket = UdpSocket::bind(address).unwrap();
    println!("ready");
    let mut buffer = [0; 2000];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        socket.send_to(&buffer[..len], from).unwrap();
    }
    ExitCode::FAILURE
}
