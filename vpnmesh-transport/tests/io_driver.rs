//! The driver thread over real sockets and in-process packet I/O.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod machines;

use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::sync::mpsc::channel;
use std::time::Duration;

use machines::{Bridge, Call, Order, Script, side_by_side};
use vpnmesh_transport::io::{
    ChannelIo, CommandError, Driver, DriverConfig, DriverHandle, Error, EventSink, PacketBatch,
    PacketIo, UdpSocket,
};

/// Longer than any machine takes; a test that runs into it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn loopback() -> UdpSocket {
    UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap()
}

fn client() -> StdSocket {
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn spawn(script: Script, change: impl FnOnce(&mut DriverConfig)) -> DriverHandle<Script> {
    let mut config = DriverConfig::default();
    change(&mut config);
    Driver::spawn_with(script, loopback(), None, EventSink::Queue, config).unwrap()
}

/// Packets read from `io`, waiting until there are `count`.
fn receive(io: &mut ChannelIo, count: usize) -> Vec<Vec<u8>> {
    let (mut all, mut batch) = (Vec::new(), PacketBatch::new(64, 1 << 20));
    while all.len() < count {
        machines::wait_readable(io.readable(), PATIENCE);
        batch.clear();
        io.recv(&mut batch).unwrap();
        all.extend(batch.iter().map(<[u8]>::to_vec));
    }
    all
}

#[test]
fn datagrams_come_back_as_they_were_sent() {
    let udp = loopback();
    let address = udp.local_addr();
    let driver = Driver::spawn(Bridge::default(), udp, None).unwrap();
    let client = client();
    let mut buffer = [0; 65_536];
    for n in 0..300_usize {
        let sent: Vec<u8> = (0..n * 29 % 9000).map(|at| (at + n) as u8).collect();
        client.send_to(&sent, address).unwrap();
        let (len, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(from, address);
        assert!(buffer[..len] == sent);
    }
    let machine = driver.stop().unwrap();
    assert_eq!(machine.datagrams, 300);
    assert_eq!(machine.out, machine.recycled, "every buffer comes back");
}

#[test]
fn inner_packets_cross_two_drivers_whole_and_in_order() {
    let (udp_a, udp_b) = (loopback(), loopback());
    let (a_end, mut a) = ChannelIo::pair(256).unwrap();
    let (b_end, mut b) = ChannelIo::pair(256).unwrap();
    let bridge_a = Bridge::to(udp_b.local_addr());
    let bridge_b = Bridge::to(udp_a.local_addr());
    let driver_a = Driver::spawn(bridge_a, udp_a, Some(Box::new(a_end))).unwrap();
    let driver_b = Driver::spawn(bridge_b, udp_b, Some(Box::new(b_end))).unwrap();
    for round in 0..50_u8 {
        let packets: Vec<_> = (0..100_u8)
            .map(|n| vec![n ^ round; 1 + usize::from(n) * 14])
            .collect();
        let (bytes, ranges) = side_by_side(&packets);
        assert_eq!(a.send(&bytes, &ranges).packets, 100);
        assert!(receive(&mut b, 100) == packets);
        assert_eq!(b.send(&bytes, &ranges).packets, 100);
        assert!(receive(&mut a, 100) == packets);
    }
    let commands = driver_a.commands();
    driver_a.stop().unwrap();
    driver_b.stop().unwrap();
    let counters = commands.counters();
    assert_eq!(counters.inner_rx_packets, 5000);
    assert_eq!(counters.inner_tx_packets, 5000);
    assert_eq!(counters.tx_datagrams, 5000);
}

#[test]
fn a_full_command_queue_hands_the_command_back_and_keeps_the_rest() {
    let (script, gate) = Script::new();
    let driver = spawn(script, |config| config.commands = 2);
    driver.command(Order::Wait).unwrap();
    gate.entered.recv_timeout(PATIENCE).unwrap(); // the thread is inside the machine now
    driver.command(Order::Say(1)).unwrap();
    driver.commands().command(Order::Say(2)).unwrap();
    let refused = driver.command(Order::Say(3));
    assert_eq!(refused, Err(CommandError::Full(Order::Say(3))));
    gate.release.send(()).unwrap();
    for expected in [1, 2] {
        assert_eq!(driver.events().recv_timeout(PATIENCE), Ok(expected));
    }
    let sender = driver.commands();
    driver.stop().unwrap();
    let refused = sender.command(Order::Say(4));
    assert_eq!(refused, Err(CommandError::Stopped(Order::Say(4))));
}

#[test]
fn events_beyond_the_bound_are_dropped_and_counted() {
    let (script, gate) = Script::new();
    let driver = spawn(script, |config| config.events = 3);
    driver.command(Order::SayMany(10)).unwrap();
    driver.command(Order::Wait).unwrap();
    gate.entered.recv_timeout(PATIENCE).unwrap();
    gate.release.send(()).unwrap();
    // A second order that is seen at work was taken after the first one's events were given out,
    // or together with it: either way they are all out once this third one is seen.
    driver.command(Order::Wait).unwrap();
    gate.entered.recv_timeout(PATIENCE).unwrap();
    gate.release.send(()).unwrap();
    assert_eq!(driver.events().try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    let sender = driver.commands();
    driver.stop().unwrap();
    assert_eq!(sender.counters().events_dropped, 7);
    assert_eq!(sender.counters().commands, 3);
}

#[test]
fn events_go_to_the_function_if_there_is_one() {
    let (script, _gate) = Script::new();
    let (sender, events) = channel();
    let sink = EventSink::Call(Box::new(move |event| sender.send(event).is_ok()));
    let config = DriverConfig::default();
    let driver = Driver::spawn_with(script, loopback(), None, sink, config).unwrap();
    driver.command(Order::SayMany(2)).unwrap();
    driver.stop().unwrap();
    assert_eq!(events.iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn commands_given_before_the_stop_are_carried_out_and_their_datagrams_sent() {
    let (script, _gate) = Script::new();
    let client = client();
    let driver = spawn(script, |_| {});
    let to = client.local_addr().unwrap();
    driver.command(Order::Send(to)).unwrap();
    driver.stop().unwrap();
    assert_eq!(client.recv_from(&mut [0; 16]).unwrap().0, 4);
}

#[test]
fn a_late_thread_hears_its_peers_before_it_is_told_that_time_has_passed() {
    let (script, gate) = Script::new();
    let udp = loopback();
    let address: SocketAddr = udp.local_addr();
    let driver = Driver::spawn(script, udp, None).unwrap();
    driver.command(Order::WaitThenTimeout).unwrap();
    gate.entered.recv_timeout(PATIENCE).unwrap();
    // More than one turn takes in, each a message of its own.
    let client = client();
    for n in 0..400 {
        client.send_to(&[0; 9][..1 + n % 9], address).unwrap();
    }
    gate.release.send(()).unwrap();
    gate.timed_out.recv_timeout(PATIENCE).unwrap();
    let sender = driver.commands();
    let calls = driver.stop().unwrap().calls;
    let timeout = calls.iter().position(|call| *call == Call::Timeout);
    assert_eq!(timeout, Some(400));
    let deferred = sender.counters().timeouts_deferred;
    assert!(deferred > 0, "it took several turns");
}

#[test]
fn timeouts_come_without_any_traffic() {
    let (script, gate) = Script::new();
    let driver = spawn(script, |_| {});
    let soon = Order::TimeoutAfter(Duration::from_micros(300));
    driver.command(soon).unwrap();
    gate.timed_out.recv_timeout(PATIENCE).unwrap();
    driver.stop().unwrap();
}

#[test]
fn the_machine_lives_on_when_its_packet_io_ends() {
    let udp = loopback();
    let address = udp.local_addr();
    let (end, mine) = ChannelIo::pair(4).unwrap();
    let driver = Driver::spawn(Bridge::default(), udp, Some(Box::new(end))).unwrap();
    drop(mine);
    let client = client();
    let echo = || {
        client.send_to(b"still there?", address).unwrap();
        client.recv_from(&mut [0; 64]).unwrap().0
    };
    while driver.inner_fault().is_none() {
        echo();
    }
    assert_eq!(echo(), 12);
    let fault = driver.inner_fault();
    assert!(matches!(fault, Some(Error::PacketIoEnded(_))));
}

#[test]
fn a_machine_that_panics_is_reported_and_harms_nobody_else() {
    let (script, _gate) = Script::new();
    let driver = spawn(script, |_| {});
    driver.command(Order::Panic).unwrap();
    assert!(matches!(driver.stop(), Err(Error::DriverDied)));
}
