//! The UDP socket over loopback: batches, runs, refusals.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod left_out;

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};

use left_out::left_out;
use vpnmesh_transport::io::{Error, IoCounters, Received, Sent, UdpBatch, UdpSocket};
use vpnmesh_transport::{Ecn, TrafficClass, Transmit};

fn loopback() -> UdpSocket {
    UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap()
}

/// A datagram of `len` bytes that tells where in the sequence it was.
fn numbered(to: SocketAddr, number: usize, len: usize) -> Transmit {
    let payload = (0..len).map(|at| (number * 7 + at) as u8).collect();
    Transmit::one(to, payload)
}

/// Sends all of it and gives the counters.
fn send(socket: &mut UdpSocket, datagrams: &[Transmit]) -> IoCounters {
    let mut counters = IoCounters::default();
    let mut queue: VecDeque<_> = datagrams.iter().cloned().collect();
    let mut spent = 0;
    let sent = socket.send(&mut queue, &mut counters, |_| spent += 1);
    assert_eq!(sent, Sent::All);
    assert_eq!(spent, datagrams.len(), "every buffer comes back");
    counters
}

/// All that waits at `socket`. Over loopback everything sent has arrived.
fn receive(socket: &mut UdpSocket) -> (Vec<(SocketAddr, Vec<u8>)>, IoCounters) {
    let (mut all, mut batch) = (Vec::new(), UdpBatch::new());
    let mut counters = IoCounters::default();
    loop {
        let found = socket.recv(&mut batch, &mut counters).unwrap();
        all.extend(batch.datagrams().map(|d| (d.from, d.data.to_vec())));
        if found == Received::Drained {
            return (all, counters);
        }
    }
}

/// The proof that this kernel has no IPv6, or has it switched off.
fn no_ipv6() -> Option<String> {
    let interfaces = std::fs::read_to_string("/proc/net/if_inet6");
    let none = interfaces.as_ref().map_or(true, |text| text.is_empty());
    none.then(|| format!("/proc/net/if_inet6: {interfaces:?}"))
}

#[test]
fn runs_and_single_datagrams_of_all_sizes_arrive_whole_and_in_order() {
    let (mut a, mut b) = (loopback(), loopback());
    let sizes = [
        [1400; 60].as_slice(),
        &[700, 0, 0, 1, 1, 1, 1400, 1400, 3],
        &[9; 100],
        &[40_000, 40_000, 1, 2, 3, 4, 5],
    ]
    .concat();
    let datagrams: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(n, &len)| numbered(b.local_addr(), n, len))
        .collect();
    let sent = send(&mut a, &datagrams);
    assert_eq!(sent.tx_datagrams as usize, sizes.len());
    let (received, counters) = receive(&mut b);
    assert_eq!(received.len(), sizes.len());
    for ((from, data), sent) in received.iter().zip(&datagrams) {
        assert_eq!(*from, a.local_addr());
        let (got, wanted) = (data.len(), sent.payload.len());
        assert!(*data == sent.payload, "{got} bytes for {wanted}");
    }
    assert_eq!(counters.rx_datagrams as usize, sizes.len());
    assert_eq!(counters.rx_bytes as usize, sizes.iter().sum::<usize>());
    assert_eq!(counters.rx_bytes, sent.tx_bytes);
}

#[test]
fn a_large_burst_takes_few_system_calls() {
    let (mut a, mut b) = (loopback(), loopback());
    let to = b.local_addr();
    let burst: Vec<_> = (0..100).map(|n| numbered(to, n, 1000)).collect();
    let sent = send(&mut a, &burst);
    let (received, counters) = receive(&mut b);
    assert_eq!(received.len(), 100);
    if a.segments() {
        assert_eq!(sent.system_calls, 1, "{sent:?}");
        assert!(counters.system_calls <= 2, "{counters:?}");
    }
}

#[test]
fn many_small_peers_share_one_send_call() {
    let mut a = loopback();
    let mut peers: Vec<_> = (0..30).map(|_| loopback()).collect();
    let datagrams: Vec<_> = peers
        .iter()
        .enumerate()
        .map(|(n, peer)| numbered(peer.local_addr(), n, 100))
        .collect();
    assert_eq!(send(&mut a, &datagrams).system_calls, 1);
    for (peer, datagram) in peers.iter_mut().zip(&datagrams) {
        let expected = (a.local_addr(), datagram.payload.clone());
        assert_eq!(receive(peer).0, [expected]);
    }
}

#[test]
fn congestion_marks_survive_a_coalesced_receive() {
    let v4 = SocketAddr::from(([127, 0, 0, 1], 0));
    for local in [v4, (Ipv6Addr::LOCALHOST, 0).into()] {
        let Ok(mut a) = UdpSocket::bind(local) else {
            assert!(local.is_ipv6(), "IPv4 loopback is always there");
            left_out("udp over IPv6", "this machine has no ::1", no_ipv6());
            continue;
        };
        let mut b = UdpSocket::bind(local).unwrap();
        let to = b.local_addr();
        let marked = |n| Transmit {
            class: TrafficClass(0b10),
            ..numbered(to, n, 1000)
        };
        let datagrams: Vec<_> = (0..40).map(marked).collect();
        send(&mut a, &datagrams);
        let (mut batch, mut counters) = (UdpBatch::new(), IoCounters::default());
        b.recv(&mut batch, &mut counters).unwrap();
        let marks: Vec<_> = batch
            .datagrams()
            .map(|d| (d.data.as_ptr() as usize, d.ecn))
            .collect();
        let marked = marks.iter().filter(|(_, ecn)| *ecn == Ecn::Ect0).count();
        assert_eq!(marked, marks.len());
        if a.segments() {
            assert_eq!(marks.len(), 40);
            assert_eq!(marks[1].0, marks[0].0 + 1000, "the kernel coalesced them");
        }
    }
}

#[test]
fn each_run_leaves_with_its_own_mark() {
    let any: Vec<SocketAddr> = vec![
        ([127, 0, 0, 1], 0).into(),
        (Ipv6Addr::LOCALHOST, 0).into(),
        (Ipv6Addr::UNSPECIFIED, 0).into(), // speaks to an IPv4 peer
    ];
    for local in any {
        let Ok(mut a) = UdpSocket::bind(local) else {
            assert!(local.is_ipv6(), "IPv4 loopback is always there");
            left_out("udp over IPv6", "this machine has none", no_ipv6());
            continue;
        };
        let peer: SocketAddr = if local.ip().is_unspecified() {
            ([127, 0, 0, 1], 0).into()
        } else {
            local
        };
        let mut b = UdpSocket::bind(peer).unwrap();
        let classes = [0b10, 0b10, 0b11, 0, (46 << 2) | 0b01, (46 << 2) | 0b01, 0];
        let datagrams: Vec<_> = classes
            .iter()
            .enumerate()
            .map(|(n, &class)| Transmit {
                class: TrafficClass(class),
                ..numbered(b.local_addr(), n, 500)
            })
            .collect();
        send(&mut a, &datagrams);
        let (mut batch, mut counters) = (UdpBatch::new(), IoCounters::default());
        b.recv(&mut batch, &mut counters).unwrap();
        let marks: Vec<_> = batch.datagrams().map(|datagram| datagram.ecn).collect();
        assert_eq!(marks, classes.map(Ecn::of), "from {local}");
    }
}

#[test]
fn a_buffer_of_many_datagrams_leaves_with_one_mark() {
    let (mut a, mut b) = (loopback(), loopback());
    let mut run = numbered(b.local_addr(), 0, 3000);
    (run.segment, run.class) = (1000, TrafficClass(0b01));
    send(&mut a, &[run]);
    let (mut batch, mut counters) = (UdpBatch::new(), IoCounters::default());
    b.recv(&mut batch, &mut counters).unwrap();
    let marks: Vec<_> = batch.datagrams().map(|datagram| datagram.ecn).collect();
    assert_eq!(marks, [Ecn::Ect1; 3]);
}

#[test]
fn a_dual_stack_socket_speaks_to_and_hears_from_ipv4_peers_as_ipv4() {
    let Ok(mut dual) = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0).into()) else {
        left_out("udp over IPv6", "this machine has none", no_ipv6());
        return;
    };
    let mut v4 = loopback();
    let port = dual.local_addr().port();
    send(&mut v4, &[numbered(([127, 0, 0, 1], port).into(), 1, 10)]);
    let (received, _) = receive(&mut dual);
    let from = received[0].0;
    assert_eq!(from, v4.local_addr());
    let back = [numbered(from, 2, 10), numbered(from, 3, 10)];
    assert_eq!(send(&mut dual, &back).tx_datagrams, 2);
    assert_eq!(receive(&mut v4).0.len(), 2);
}

#[test]
fn datagrams_that_the_kernel_refuses_are_counted_and_the_rest_goes_out() {
    let (mut a, mut b) = (loopback(), loopback());
    let to = b.local_addr();
    let port_zero = SocketAddr::from(([127, 0, 0, 1], 0));
    let other_family = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
    let could_segment = a.segments();
    let sent = send(
        &mut a,
        &[
            numbered(to, 0, 100),
            numbered(port_zero, 1, 100),
            numbered(port_zero, 2, 100),
            numbered(to, 3, 100),
            numbered(to, 4, 70_000),
            numbered(other_family, 5, 50),
            numbered(to, 6, 100),
            numbered(to, 7, 100),
        ],
    );
    assert_eq!(sent.tx_datagrams, 4);
    assert_eq!(sent.tx_dropped_unreachable, 3);
    assert_eq!(sent.tx_dropped_too_big, 1);
    assert_eq!(receive(&mut b).0.len(), 4);
    let why = "a bad address costs the other peers nothing";
    assert_eq!(a.segments(), could_segment, "{why}");
}

#[test]
fn nobody_listening_is_no_error() {
    let mut a = loopback();
    let gone = loopback().local_addr();
    for n in 0..3 {
        send(&mut a, &[numbered(gone, n, 10)]);
        assert!(receive(&mut a).0.is_empty());
    }
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let a = loopback();
    let error = UdpSocket::bind(a.local_addr()).unwrap_err();
    assert!(matches!(error, Error::PortInUse { address } if address == a.local_addr()));
    let text = error.to_string();
    assert!(text.contains(&a.local_addr().to_string()), "{text}");
    assert!(text.contains("another port"), "{text}");
}

#[test]
fn an_address_of_another_machine_is_named_with_the_way_out() {
    let foreign = SocketAddr::from(([203, 0, 113, 1], 0));
    let error = UdpSocket::bind(foreign).unwrap_err();
    assert!(matches!(error, Error::AddressNotAvailable { address } if address == foreign));
    assert!(error.to_string().contains("0.0.0.0"), "{error}");
}
