//! Inner packets: read, cut into segments, split for a narrow path.

use vpnmesh_transport::Ecn;
use vpnmesh_transport::flow::InnerPacket;
use vpnmesh_transport::inner::{Inner, Rest};
use vpnmesh_transport::io;
use vpnmesh_transport::split::{Joiner, Splitter};

use super::script::Script;

/// Inner packets in all forms: what they stand for is complete, and of the same flow.
pub fn inner_packets(data: &[u8]) {
    let Some(inner) = Inner::parse(data) else {
        assert_eq!(InnerPacket::parse(data), None);
        return;
    };
    let flow = InnerPacket::parse(data);
    let (mut count, mut payload) = (0, 0);
    let head = match inner.rest() {
        Rest::Segments(layers, _) => layers.payload,
        Rest::Nothing | Rest::Checksums(_) => 0,
    };
    inner.complete(|packet| {
        count += 1;
        payload += packet.len() - head;
        let again = Inner::parse(packet).expect("a complete packet is an inner packet");
        assert_eq!(again.rest(), Rest::Nothing);
        assert_eq!(InnerPacket::parse(packet), flow);
    });
    assert_eq!(count, inner.count());
    assert_eq!(payload, inner.packet().len() - head, "no payload is lost");
}

/// What a TUN device with offloads writes: a header of 10 bytes and a packet.
pub fn device_packets(data: &[u8]) {
    let mut room = data.to_vec();
    if let Some(range) = io::read_device_packet(&mut room, data.len()) {
        let packet = &room[range];
        if let Some(inner) = Inner::parse(packet) {
            let mut count = 0;
            inner.complete(|_| count += 1);
            assert_eq!(count, inner.count());
        }
    }
}

/// Halves of packets, hostile and honest.
pub fn split(data: &[u8]) {
    let mut script = Script::new(data);
    let (mut splitter, mut joiner) = (Splitter::default(), Joiner::default());
    while script.goes_on() {
        match script.byte() % 3 {
            0 => {
                let _ = joiner.join(script.text(), Ecn::NotEct);
            }
            order => {
                let most = usize::from(script.short());
                let packet = script.text();
                let Ok([mut first, mut second]) = splitter.split(packet, most) else {
                    continue;
                };
                if order == 2 {
                    std::mem::swap(&mut first, &mut second);
                }
                let mut honest = Joiner::default();
                assert_eq!(honest.join(&first, Ecn::NotEct), Ok(None));
                assert_eq!(
                    honest.join(&second, Ecn::NotEct),
                    Ok(Some((packet.to_vec(), Ecn::NotEct)))
                );
                let _ = (
                    joiner.join(&first, Ecn::NotEct),
                    joiner.join(&second, Ecn::NotEct),
                );
            }
        }
    }
}
