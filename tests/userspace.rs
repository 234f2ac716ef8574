//! TCP in user space through a whole mesh of this process: names, bulk, ends, refusals, and the
//! death of the node that carries it.
#![cfg(feature = "roles")]
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use vpnmesh::transport::io::{ChannelIo, TcpListener, TcpStream};
use vpnmesh::{Endpoint, Mesh, Net};

/// Longer than anything takes; a test that runs into it has failed.
const PATIENCE: Duration = Duration::from_secs(120);
const BULK: usize = 64 << 20;

struct Rig {
    mesh: Mesh,
    laptop: Net,
    office: Net,
}

fn rig(nodes: usize) -> Rig {
    let mut builder = Mesh::builder()
        .client("laptop", "10.9.0.1".parse().unwrap())
        .client("phone", "fd09::1".parse().unwrap())
        .site("office", "10.20.0.0/24".parse().unwrap())
        .site("lab", "fd20::/64".parse().unwrap());
    for n in 1..=nodes {
        builder = builder.node(&format!("n{n}"), &format!("r{n}"));
    }
    let mut mesh = builder.start().unwrap();
    let (laptop, office) = (mesh.net("laptop").unwrap(), mesh.net("office").unwrap());
    Rig {
        mesh,
        laptop,
        office,
    }
}

/// Runs a test within its patience. Meshes start and stop outside, as they wait for threads.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.unwrap() });
}

/// The node that carries the session of `laptop`, while there is another one that could.
fn active(mesh: &Mesh) -> Option<String> {
    let client = mesh.client("laptop").unwrap();
    let session = client.report()?.what.session;
    let protected = session.roster.len() > 1; // the holder counts
    let active = session.active.filter(|_| protected);
    active.map(|node| client.names().node(node))
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2)); // polls; nothing depends on how long
    }
}

async fn connect(from: &Net, to: &str, at: &TcpListener) -> (TcpStream, TcpStream) {
    let (near, far) = tokio::join!(from.dial(to), at.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Bytes whose order shows: the period is a prime, so nothing can move by a block and stay right.
fn period(salt: u8) -> Vec<u8> {
    let byte = |at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ salt;
    (0..65_521).map(byte).collect()
}

async fn send(mut to: impl AsyncWrite + Unpin, bytes: usize, salt: u8) -> io::Result<()> {
    let (period, mut left) = (period(salt), bytes);
    while left > 0 {
        let len = left.min(period.len());
        to.write_all(&period[..len]).await?;
        left -= len;
    }
    to.shutdown().await
}

/// Reads to the end, calls `progress` with what has arrived so far, and checks every byte.
async fn receive(
    mut from: impl AsyncRead + Unpin,
    bytes: usize,
    salt: u8,
    mut progress: impl FnMut(usize),
) {
    let period = period(salt);
    let (mut buffer, mut received) = (vec![0; 256 << 10], 0);
    loop {
        let read = from.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let at = received % period.len();
            let len = rest.len().min(period.len() - at);
            assert!(
                rest[..len] == period[at..at + len],
                "wrong after {received}"
            );
            (received, rest) = (received + len, &rest[len..]);
        }
        progress(received);
    }
    assert_eq!(received, bytes);
}

#[test]
fn bulk_arrives_whole_both_ways_at_once() {
    let rig = rig(1);
    run(async {
        let listener = rig.office.listen(80).unwrap();
        let (near, far) = connect(&rig.laptop, "office:80", &listener).await;
        assert_eq!(near.local_addr().ip(), rig.laptop.address());
        assert_eq!(far.peer_addr(), near.local_addr());
        let ((near_in, near_out), (far_in, far_out)) =
            (tokio::io::split(near), tokio::io::split(far));
        let start = Instant::now();
        let ((), (), up, down) = tokio::join!(
            receive(far_in, BULK, 1, |_| ()),
            receive(near_in, BULK, 2, |_| ()),
            send(near_out, BULK, 1),
            send(far_out, BULK, 2),
        );
        up.and(down).unwrap();
        let gigabits = (2 * BULK * 8) as f64 / start.elapsed().as_secs_f64() / 1e9;
        println!("both ways together {gigabits:.2} Gbit/s");
    });
}

#[test]
fn names_addresses_and_both_families_lead_to_a_member() {
    let mut rig = rig(1);
    let (phone, lab) = (rig.mesh.net("phone").unwrap(), rig.mesh.net("lab").unwrap());
    run(async {
        let (office, lab) = (rig.office.listen(80).unwrap(), lab.listen(80).unwrap());
        for (from, to, at) in [
            (&rig.laptop, "office:80", &office),
            (&rig.laptop, "10.20.0.7:80", &office),
            (&phone, "lab:80", &lab),
            (&phone, "[fd20::42]:80", &lab),
        ] {
            let (near, far) = connect(from, to, at).await;
            let bytes = 1 << 20;
            let (sent, ()) = tokio::join!(send(near, bytes, 3), receive(far, bytes, 3, |_| ()));
            sent.unwrap();
        }
        for (to, kind) in [
            ("nobody:80", io::ErrorKind::NotFound),
            ("office:http", io::ErrorKind::NotFound),
            ("lab:80", io::ErrorKind::AddrNotAvailable),
        ] {
            let error = rig.laptop.dial(to).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{to}: {error}");
        }
    });
    assert!(rig.mesh.net("laptop").is_err(), "taken before");
}

#[test]
fn a_site_dials_a_client_too() {
    let rig = rig(1);
    run(async {
        let listener = rig.laptop.listen(22).unwrap();
        let (mut near, mut far) = connect(&rig.office, "laptop:22", &listener).await;
        near.write_all(b"ssh").await.unwrap();
        let mut text = [0; 3];
        far.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"ssh");
    });
}

#[test]
fn a_port_without_a_listener_refuses() {
    let rig = rig(1);
    run(async {
        let refused = rig.laptop.dial("office:81").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn one_direction_ends_and_the_other_goes_on() {
    let rig = rig(1);
    run(async {
        let listener = rig.office.listen(80).unwrap();
        let (mut near, mut far) = connect(&rig.laptop, "office:80", &listener).await;
        send(&mut near, 100_000, 4).await.unwrap();
        receive(&mut far, 100_000, 4, |_| ()).await;
        // More than the buffers hold: it needs a reader meanwhile.
        let bytes = 5_000_000;
        let (sent, ()) = tokio::join!(
            send(&mut far, bytes, 5),
            receive(&mut near, bytes, 5, |_| ())
        );
        sent.unwrap();
    });
}

#[test]
fn many_connections_at_once() {
    let rig = rig(1);
    run(async {
        let listener = rig.office.listen(80).unwrap();
        let serve = async {
            let mut all = Vec::new();
            for _ in 0..200 {
                let (mut stream, _) = listener.accept().await.unwrap();
                all.push(tokio::spawn(async move {
                    receive(&mut stream, 50_000, 6, |_| ()).await;
                    send(&mut stream, 50_000, 7).await.unwrap();
                }));
            }
            for one in all {
                one.await.unwrap();
            }
        };
        let ask = async {
            let ask = |net: Net| async move {
                let mut stream = net.dial("office:80").await.unwrap();
                send(&mut stream, 50_000, 6).await.unwrap();
                receive(&mut stream, 50_000, 7, |_| ()).await;
            };
            let all: Vec<_> = (0..200)
                .map(|_| tokio::spawn(ask(rig.laptop.clone())))
                .collect();
            for one in all {
                one.await.unwrap();
            }
        };
        tokio::join!(serve, ask);
    });
}

#[test]
fn a_flow_outlives_the_node_that_carries_it() {
    let mut rig = rig(3); // after the death two are left, so there is a shadow again
    let holder = until("a shadow", || active(&rig.mesh));
    run(async {
        let listener = rig.office.listen(80).unwrap();
        let (near, far) = connect(&rig.laptop, "office:80", &listener).await;
        let (mut killed, mut gap, mut last) = (None, Duration::ZERO, Instant::now());
        let progress = |received: usize| {
            let now = Instant::now();
            if killed.is_some() {
                gap = gap.max(now - last);
            } else if received > BULK / 3 {
                assert!(rig.mesh.kill(&holder));
                killed = Some(received);
            }
            last = Instant::now();
        };
        let (sent, ()) = tokio::join!(send(near, BULK, 8), receive(far, BULK, 8, progress));
        sent.unwrap();
        assert!(killed.is_some());
        println!("longest pause after the death of {holder}: {gap:.1?}");
    });
    let successor = until("a takeover", || {
        active(&rig.mesh).filter(|name| *name != holder)
    });
    println!("{successor} carries it now");
}

#[test]
fn an_endpoint_of_no_mesh_has_no_net() {
    let (ours, _theirs) = ChannelIo::pair(1).unwrap();
    let error = Endpoint::from(ours).into_net().unwrap_err();
    assert!(error.to_string().contains("Net::new"), "{error}");
}
