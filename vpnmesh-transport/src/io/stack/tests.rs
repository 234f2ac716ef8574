//! Two stacks on a wire within the process, which cuts packets as the transport does.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;
use crate::inner::{Inner, Rest, Segments};

/// How the wire treats packets.
#[derive(Debug, Clone, Copy, Default)]
struct Behaviour {
    /// Packets come out complete, as from a kernel without offloads.
    complete: bool,
    /// Every so manieth full packet is lost; zero: none.
    lose: u64,
    /// Nothing passes from the left to the right.
    cut: bool,
}

struct Rig {
    left: Stack,
    right: Stack,
    stop: Arc<AtomicBool>,
    wire: Option<JoinHandle<()>>,
}

fn rig(behaviour: Behaviour) -> Rig {
    rig_with(behaviour, |_| {})
}

fn rig_with(behaviour: Behaviour, change: impl Fn(&mut StackConfig)) -> Rig {
    let stack = |addresses: [&str; 2]| {
        let mut config = StackConfig {
            addresses: addresses.map(|text| text.parse().unwrap()).to_vec(),
            ..StackConfig::default()
        };
        change(&mut config);
        Stack::new(config).unwrap()
    };
    let (left, left_io) = stack(["10.9.0.1/32", "fd09::1/128"]);
    let (right, right_io) = stack(["10.20.0.0/24", "fd20::/64"]);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let wire = thread::spawn(move || run(left_io, right_io, behaviour, &stopped));
    Rig {
        left,
        right,
        stop,
        wire: Some(wire),
    }
}

impl Rig {
    fn cut_off(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wire.take().map(JoinHandle::join).unwrap().unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Carries packets both ways until it is stopped.
fn run(mut left: StackIo, mut right: StackIo, behaviour: Behaviour, stop: &AtomicBool) {
    let (mut batch, mut bytes, mut packets) = (PacketBatch::new(64, 128 << 10), vec![], vec![]);
    let mut passed = 0;
    while !stop.load(Ordering::Acquire) {
        let patience = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000, // notices `stop`
        };
        let mut fds = [
            PollFd::from_borrowed_fd(left.readable(), PollFlags::IN),
            PollFd::from_borrowed_fd(right.readable(), PollFlags::IN),
        ];
        poll(&mut fds, Some(&patience)).unwrap();
        let ready = [0, 1].map(|n: usize| fds[n].revents().contains(PollFlags::IN));
        for (from_left, _) in [true, false]
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| *ready)
        {
            let (from, to) = if from_left {
                (&mut left, &mut right)
            } else {
                (&mut right, &mut left)
            };
            batch.clear();
            bytes.clear();
            packets.clear();
            from.recv(&mut batch).unwrap();
            for packet in batch.iter().filter(|_| !behaviour.cut || !from_left) {
                carry(packet, behaviour, &mut passed, &mut bytes, &mut packets);
            }
            let sent = to.send(&bytes, &packets);
            assert_eq!((sent.invalid, sent.packets), (0, packets.len() - sent.full));
        }
    }
}

/// Puts what arrives of a packet behind the others.
fn carry(
    packet: &[u8],
    behaviour: Behaviour,
    passed: &mut u64,
    bytes: &mut Vec<u8>,
    packets: &mut Vec<Range<usize>>,
) {
    let mut add = |packet: &[u8]| {
        assert!(packet.len() <= 1420);
        *passed += u64::from(packet.len() > 1000);
        let lost =
            behaviour.lose > 0 && packet.len() > 1000 && passed.is_multiple_of(behaviour.lose);
        if !lost {
            packets.push(bytes.len()..bytes.len() + packet.len());
            bytes.extend_from_slice(packet);
        }
    };
    let inner = Inner::parse(packet).unwrap();
    match inner.rest() {
        _ if behaviour.complete => inner.complete(&mut add),
        Rest::Segments(layers, size) => {
            for segment in Segments::new(inner.packet(), layers, size) {
                let mut alone = Vec::new();
                segment.append(&mut alone);
                add(&alone);
            }
        }
        Rest::Nothing | Rest::Checksums(_) => add(packet),
    }
}

/// Longer than anything takes; a test that runs into it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn pattern(len: usize, salt: u8) -> Vec<u8> {
    let byte = |at: usize| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ salt;
    (0..len).map(byte).collect()
}

/// A connection from the left to port 80 of the right, at an address of the right.
async fn connected(rig: &Rig, address: &str) -> (TcpStream, TcpStream) {
    let listener = rig.right.listen(80).unwrap();
    let to = SocketAddr::new(address.parse().unwrap(), 80);
    let (near, far) = tokio::join!(rig.left.dial(to), listener.accept());
    let (near, (far, who)) = (near.unwrap(), far.unwrap());
    assert_eq!((near.peer_addr(), who), (to, near.local_addr()));
    assert_eq!((far.local_addr(), far.peer_addr()), (to, who));
    (near, far)
}

/// Sends a pattern, ends that direction, and expects another one with its end.
async fn exchange(mut stream: TcpStream, len: usize, salts: [u8; 2]) {
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let (sent, mut received) = (pattern(len, salts[0]), Vec::new());
    let send = async {
        writer.write_all(&sent).await?;
        writer.shutdown().await
    };
    let (send, receive) = tokio::join!(send, reader.read_to_end(&mut received));
    send.unwrap();
    receive.unwrap();
    assert!(received == pattern(len, salts[1]), "{}", received.len());
}

async fn both_ways(behaviour: Behaviour, len: usize, address: &str) {
    let rig = rig(behaviour);
    let (near, far) = connected(&rig, address).await;
    let all = async { tokio::join!(exchange(near, len, [1, 2]), exchange(far, len, [2, 1])) };
    timeout(PATIENCE, all).await.unwrap();
}

#[tokio::test]
async fn bytes_arrive_whole_both_ways_over_both_families() {
    both_ways(Behaviour::default(), 8 << 20, "10.20.0.1").await;
    both_ways(Behaviour::default(), 3 << 20, "10.20.0.77").await;
    both_ways(Behaviour::default(), 8 << 20, "fd20::5").await;
}

#[tokio::test]
async fn complete_packets_are_checked_and_taken() {
    let behaviour = Behaviour {
        complete: true,
        ..Behaviour::default()
    };
    both_ways(behaviour, 2 << 20, "10.20.0.1").await;
    both_ways(behaviour, 2 << 20, "fd20::1").await;
}

#[tokio::test]
async fn what_is_lost_is_sent_again() {
    let behaviour = Behaviour {
        lose: 500,
        ..Behaviour::default()
    };
    both_ways(behaviour, 2 << 20, "10.20.0.1").await;
}

#[tokio::test]
async fn where_nobody_listens_a_dial_is_refused() {
    let rig = rig(Behaviour::default());
    for to in ["10.20.0.1:81", "[fd20::1]:81"] {
        let refused = timeout(PATIENCE, rig.left.dial(to.parse().unwrap())).await;
        let kind = refused.unwrap().unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn where_nobody_answers_a_dial_ends_after_its_patience() {
    let cut = Behaviour {
        cut: true,
        ..Behaviour::default()
    };
    let rig = rig_with(cut, |config| config.patience = Duration::from_millis(50));
    let silent = timeout(PATIENCE, rig.left.dial("10.20.0.1:80".parse().unwrap())).await;
    assert_eq!(silent.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn one_direction_ends_and_the_other_goes_on() {
    let rig = rig(Behaviour::default());
    let (mut near, mut far) = connected(&rig, "10.20.0.1").await;
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "question");
    let error = near.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);

    far.write_all(b"answer").await.unwrap();
    drop(far); // everything was read: an end, no reset
    let mut text = String::new();
    near.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");
}

#[tokio::test]
async fn a_stream_that_is_dropped_with_unread_data_is_reset() {
    let rig = rig(Behaviour::default());
    let (mut near, mut far) = connected(&rig, "10.20.0.1").await;
    near.write_all(b"never read").await.unwrap();
    far.read_u8().await.unwrap();
    drop(far);
    let error = near.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let error = near.write_u8(1).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_writer_waits_for_a_reader_and_what_it_wrote_outlives_it() {
    let small = |config: &mut StackConfig| {
        (config.send_buffer, config.receive_buffer) = (32 << 10, 0);
    };
    let rig = rig_with(Behaviour::default(), small);
    let (mut near, mut far) = connected(&rig, "10.20.0.1").await;
    let sent = pattern(1 << 20, 3);
    let blocked = timeout(Duration::from_millis(100), near.write_all(&sent)).await;
    assert!(blocked.is_err(), "96 KiB fit, no megabyte");

    drop(near);
    let mut received = Vec::new();
    let end = timeout(PATIENCE, far.read_to_end(&mut received)).await;
    end.unwrap().unwrap();
    assert!(received.len() >= 32 << 10 && received[..] == sent[..received.len()]);
}

#[tokio::test]
async fn beyond_the_backlog_connections_wait_outside() {
    let rig = rig_with(Behaviour::default(), |config| {
        (config.backlog, config.patience) = (2, Duration::from_secs(30));
    });
    let listener = rig.right.listen(80).unwrap();
    let to: SocketAddr = "10.20.0.1:80".parse().unwrap();
    let (_one, _two) = (
        rig.left.dial(to).await.unwrap(),
        rig.left.dial(to).await.unwrap(),
    );
    let third = rig.left.dial(to);
    tokio::pin!(third);
    let early = timeout(Duration::from_millis(100), &mut third).await;
    assert!(early.is_err());
    listener.accept().await.unwrap();
    timeout(PATIENCE, third).await.unwrap().unwrap(); // its next SYN finds room
}

#[tokio::test]
async fn a_port_is_taken_once_and_free_again_afterwards() {
    let rig = rig(Behaviour::default());
    let listener = rig.right.listen(80).unwrap();
    let taken = rig.right.listen(80).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    let other = rig.right.listen(0).unwrap();
    assert!(other.local_addr().port() >= 49_152);

    let to = "10.20.0.1:80".parse().unwrap();
    let mut waiting = rig.left.dial(to).await.unwrap();
    drop(listener);
    let error = timeout(PATIENCE, waiting.read_u8()).await.unwrap();
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    rig.right.listen(80).unwrap();
}

#[tokio::test]
async fn addresses_without_a_way_are_refused_at_once() {
    let rig = rig_with(Behaviour::default(), |config| config.addresses.truncate(1));
    for (to, kind) in [
        ("10.9.0.1:80", io::ErrorKind::Unsupported),
        ("[fd20::1]:80", io::ErrorKind::AddrNotAvailable),
        ("10.20.0.1:0", io::ErrorKind::InvalidInput),
    ] {
        let error = rig.left.dial(to.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{to}");
    }
}

#[tokio::test]
async fn at_the_most_connections_a_dial_fails_at_once() {
    let rig = rig_with(Behaviour::default(), |config| config.connections = 1);
    let (near, _far) = connected(&rig, "10.20.0.1").await;
    let to = near.peer_addr();
    let error = rig.left.dial(to).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
}

#[tokio::test]
async fn once_the_member_stops_nobody_waits_any_longer() {
    let mut rig = rig(Behaviour::default());
    let (mut near, _far) = connected(&rig, "10.20.0.1").await;
    let listener = rig.left.listen(99).unwrap();
    let waits = async { tokio::join!(near.read_u8(), listener.accept()) };
    let stops = async { rig.cut_off() };
    let ((read, accepted), ()) = tokio::join!(waits, stops);
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(accepted.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let dialed = rig.left.dial("10.20.0.1:80".parse().unwrap()).await;
    assert_eq!(dialed.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_hundred_connections_share_the_wire() {
    let rig = rig(Behaviour::default());
    let listener = rig.right.listen(80).unwrap();
    let server = tokio::spawn(async move {
        for _ in 0..100 {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(exchange(stream, 100_000, [5, 6]));
        }
        listener
    });
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let left = rig.left.clone();
            tokio::spawn(async move {
                let stream = left.dial("10.20.0.1:80".parse().unwrap()).await.unwrap();
                exchange(stream, 100_000, [6, 5]).await;
            })
        })
        .collect();
    for client in clients {
        timeout(PATIENCE, client).await.unwrap().unwrap();
    }
    timeout(PATIENCE, server).await.unwrap().unwrap();
}

#[test]
fn a_prefix_is_found_at_its_first_address_for_hosts() {
    for (prefix, host) in [
        ("10.9.0.1/32", "10.9.0.1"),
        ("10.9.0.0/31", "10.9.0.0"),
        ("10.20.0.0/24", "10.20.0.1"),
        ("fd20::/64", "fd20::1"),
        ("fd20::9/128", "fd20::9"),
    ] {
        let found = StackConfig::host_of(prefix.parse().unwrap());
        assert_eq!(found, host.parse::<IpAddr>().unwrap());
    }
}

#[tokio::test]
async fn datagrams_go_both_ways_and_those_that_nobody_reads_are_dropped() {
    let rig = rig(Behaviour::default());
    let (near, far) = (rig.left.bind(0).unwrap(), rig.right.bind(53).unwrap());
    let mut buffer = [0; 2000];
    for to in ["10.20.0.1:53", "[fd20::1]:53"] {
        near.send_to(b"question", to.parse().unwrap())
            .await
            .unwrap();
        let (len, from) = far.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"question");
        assert_eq!(from.port(), near.local_addr().port());
        far.send_to(&[7; 1360], from).await.unwrap();
        let (len, from) = near.recv_from(&mut buffer).await.unwrap();
        assert_eq!(
            (&buffer[..len], from),
            (&[7; 1360][..], to.parse().unwrap())
        );
    }
    let to: SocketAddr = "10.20.0.1:53".parse().unwrap();
    let long = near.send_to(&[0; 1393], to).await.unwrap_err();
    assert_eq!(long.kind(), io::ErrorKind::InvalidInput);
    let taken = rig.right.bind(53).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);

    for _ in 0..5000 {
        near.send_to(b"flood", to).await.unwrap(); // waits for room, never for a reader
    }
    let (len, _) = timeout(PATIENCE, far.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&buffer[..len], b"flood");
}

/// A packet to port 80 of 10.20.0.1, as the transport brings it.
fn segment(flags: u8, sequence: u32, acknowledged: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = crate::inner::tests::packet(false, true, payload);
    packet[16..20].copy_from_slice(&[10, 20, 0, 1]);
    packet[22..24].copy_from_slice(&80_u16.to_be_bytes());
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[28..32].copy_from_slice(&acknowledged.to_be_bytes());
    packet[33] = flags;
    packet[0] |= crate::inner::UNFINISHED;
    packet
}

fn bring(io: &mut StackIo, packets: &[Vec<u8>]) -> InnerSent {
    let mut end = 0;
    let ranges = packets.iter().map(|packet| {
        end += packet.len();
        end - packet.len()..end
    });
    let ranges: Vec<_> = ranges.collect();
    io.send(&packets.concat(), &ranges)
}

#[tokio::test]
async fn a_peer_that_ignores_the_window_loses_its_own_bytes_only() {
    let config = StackConfig {
        addresses: vec!["10.20.0.0/24".parse().unwrap()],
        ..StackConfig::default()
    };
    let (stack, mut io) = Stack::new(config).unwrap();
    let listener = stack.listen(80).unwrap();
    let mut syn = segment(flow::SYN, 99, 0, &[3, 3, 7, 1]);
    syn[32] = 0x60; // that was an option: it knows large windows
    bring(&mut io, &[syn]);
    let mut batch = PacketBatch::new(8, 0);
    io.recv(&mut batch).unwrap();
    let answer = batch.iter().next().unwrap();
    let number = u32::from_be_bytes([answer[24], answer[25], answer[26], answer[27]]);
    let flood: Vec<_> = (0..400)
        .map(|n| {
            segment(
                flow::ACK,
                100 + n * 10_000,
                number.wrapping_add(1),
                &[7; 10_000],
            )
        })
        .collect();
    assert_eq!(bring(&mut io, &flood).packets, 400);

    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut received, mut buffer) = (0, vec![0; 1 << 20]);
    while let Ok(read) = timeout(Duration::from_millis(50), stream.read(&mut buffer)).await {
        received += read.unwrap();
    }
    assert!((60_000..1 << 20).contains(&received), "{received}");
    bring(
        &mut io,
        &[segment(0xff, 7, 7, &[7; 100]), segment(0, 0, 0, &[])],
    );
}

#[test]
fn the_receive_buffer_backs_the_window_with_its_scale() {
    for (wanted, window) in [(0, 65_535), (131_070, 131_070), (1 << 20, 1_048_560)] {
        assert_eq!(whole_window(wanted), window);
        let scale = (usize::BITS - window.leading_zeros()).saturating_sub(16);
        assert_eq!(65_535 << scale, window);
    }
}
