//! Garbage from the local side, written straight into the device, and garbage from the wire.
#![allow(unsafe_code, reason = "an address of a packet socket is made by hand")]

use std::net::UdpSocket;

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};
use vpnmesh_testkit::lab::Inside;

use super::rig::{End, Pair, until};

/// A socket that puts whatever it is given onto the device `vm0`, as a packet of `protocol`.
fn into_the_device(end: &End, protocol: u16) -> (Socket, SockAddr) {
    let line = end.run("ip -o link show dev vm0").unwrap();
    let index: i32 = line.split(':').next().unwrap().parse().unwrap();
    let socket = end
        .host
        .run(|| Socket::new(Domain::PACKET, Type::RAW, None));
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is integers and bytes, which any memory is valid for, and it fits.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `len` bytes of the storage were set above.
    (socket.unwrap().unwrap(), unsafe {
        SockAddr::new(storage, len)
    })
}

/// Whole packets first, then what each is cut down or bent to.
fn garbage() -> Vec<(u16, Vec<u8>)> {
    let v4 = |bytes: &[u8]| (IPV4, bytes.to_vec());
    let v6 = |bytes: &[u8]| (IPV6, bytes.to_vec());
    let mut whole_v4 = [0; 28];
    whole_v4[..4].copy_from_slice(&[0x45, 0, 0, 28]);
    whole_v4[8..10].copy_from_slice(&[64, 17]);
    whole_v4[12..20].copy_from_slice(&[10, 77, 0, 1, 10, 77, 0, 2]);
    let mut whole_v6 = [0; 48];
    whole_v6[0] = 0x60;
    whole_v6[5] = 8;
    let bent = |at: usize, to: u8| {
        let mut packet = whole_v4;
        packet[at] = to;
        packet
    };
    vec![
        v4(&[0xff; 60]),
        v4(&[0; 60]),
        v4(&whole_v4[..1]),
        v4(&whole_v4[..19]), // a header that ends too soon
        v4(&whole_v4[..27]), // a packet that ends too soon
        v4(&bent(0, 0x44)),  // a header length below the least
        v4(&bent(0, 0x15)),  // version 1
        v4(&bent(0, 0x65)),  // version 6 on a packet of IPv4
        v4(&bent(3, 19)),    // a total length within the header
        v4(&bent(3, 29)),    // a total length beyond the end
        v6(&whole_v6[..39]),
        v6(&whole_v6[..47]),
        v6(&[0x6f; 41]),
        v6(&[0x40; 48]),               // version 4 on a packet of IPv6
        (0x88b5, b"neither".to_vec()), // for local experiments, says IEEE 802
    ]
}

pub(crate) fn on_the_device(inside: Inside) {
    let pair = Pair::new(inside);
    let a = pair.a.start(&pair.b, &["--json"]);
    let b = pair.b.start(&pair.a, &["--json"]);
    a.event("ready");
    pair.configure();
    pair.ping();
    for (protocol, packet) in garbage() {
        let (socket, device) = into_the_device(&pair.a, protocol);
        let before = a.dropped("malformed");
        until("the garbage to be counted", || {
            let sent = socket.send_to(&packet, &device);
            assert!(sent.is_ok(), "{packet:?}: {sent:?}");
            a.dropped("malformed") > before
        });
        pair.ping();
    }
    assert_eq!(b.dropped("malformed"), 0, "nothing of it was sent on");
    a.ends_well();
    b.ends_well();
}

pub(crate) fn on_the_wire(inside: Inside) {
    let pair = Pair::new(inside);
    let a = pair.a.start(&pair.b, &["--json"]);
    let b = pair.b.start(&pair.a, &[]);
    a.event("ready");
    pair.configure();
    pair.ping();
    let sender = pair.b.host.run(|| UdpSocket::bind((pair.b.outer, 0)));
    let sender = sender.unwrap().unwrap();
    let dropped = || {
        let report = a.report();
        let drops = report["drops"].as_object().unwrap();
        drops.values().filter_map(|it| it.as_u64()).sum::<u64>()
    };
    for first in 0..=255_u8 {
        for len in [0, 1, 15, 16, 48, 1200] {
            let mut datagram = vec![0x5a; len];
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            sender.send_to(&datagram, (pair.a.outer, 51820)).unwrap();
        }
    }
    until("most of it to be counted", || dropped() > 256);
    pair.ping();
    assert!(a.is_running() && b.is_running());
    a.ends_well();
    b.ends_well();
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
