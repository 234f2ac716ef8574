//! A load and a resource over loopback: every number bounded, no time asserted.

use std::time::Duration;

use super::control::Measured;
use super::*;

/// Asks again until `done` holds; the bound is only there so that a bug ends.
fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within any reasonable time");
}

fn local() -> ResourceConfig {
    ResourceConfig {
        http: ([127, 0, 0, 1], 0).into(),
        udp: ([127, 0, 0, 1], 0).into(),
        ..ResourceConfig::default()
    }
}

fn load_of(resource: &Resource) -> LoadConfig {
    let download = |seed, length| DownloadConfig {
        from: resource.http_address(),
        seed,
        pace_bps: 80_000_000,
        length,
    };
    LoadConfig {
        downloads: vec![download(1, None), download(2, Some(300_000))],
        http: vec![resource.http_address()],
        heartbeat: Some(resource.udp_address()),
        datagrams: Some(resource.udp_address()),
        ..LoadConfig::default()
    }
}

#[test]
fn over_loopback_everything_arrives_and_every_byte_is_right() {
    let resource = Resource::start(&local()).unwrap();
    let load = Load::start(load_of(&resource)).unwrap();
    let from = monotonic();
    until(|| {
        let now = load.snapshot().totals;
        let long_enough = now.downloads[0].bytes > 1_000_000 && now.downloads[1].verified;
        let heard = now.heartbeat.replies > 20 && now.down.received > 20;
        long_enough && heard && now.http.answered > 20
    });
    let window = Window::new(from, monotonic());
    until(|| monotonic() > window.to + GRACE);
    let (client, site) = (load.window(window), resource.window(window));
    let up = FlowWindow::join(&client.up, &site.up[&1], GRACE);
    let down = FlowWindow::join(&site.down[&1], &client.down, GRACE);
    for flow in [&up, &down] {
        assert!(flow.sent > 20 && flow.complete, "{flow:?}");
        assert_eq!(
            (flow.lost, flow.duplicated, flow.strange),
            (0, 0, 0),
            "{flow:?}"
        );
    }
    assert_eq!(
        (client.connections.broken, client.connections.wrong_bytes),
        (0, 0)
    );
    assert!(client.heartbeat.replies > 10 && client.heartbeat.rtt_p50_ns.is_some());
    assert!(load.series(window).bytes.total() > 0);

    let totals = load.stop();
    assert!(totals.downloads.iter().all(|it| it.verified), "{totals:?}");
    assert_eq!(totals.downloads[1].bytes, 300_000);
    assert_eq!(
        (totals.connections.broken, totals.http.failed),
        (0, 0),
        "{totals:?}"
    );
    let served = resource.stop();
    for download in &totals.downloads {
        let same = |it: &&DownloadServed| it.sha256 == download.sha256 && it.finished;
        let other = served.downloads.iter().find(same);
        assert_eq!(other.map(|it| it.bytes), Some(download.bytes));
    }
}

#[test]
fn an_orchestrator_asks_both_ends_over_sockets() {
    use std::io::BufReader;
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    use super::control::{Peer, serve};

    fn peer<M: Measured + Send + 'static>(measured: M) -> (Peer<M>, JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let input = BufReader::new(theirs.try_clone().unwrap());
            serve(measured, input, theirs).unwrap();
        });
        (
            Peer::new(BufReader::new(ours.try_clone().unwrap()), ours),
            server,
        )
    }

    let resource = Resource::start(&local()).unwrap();
    let load = Load::start(load_of(&resource)).unwrap();
    let ((mut client, one), (mut site, two)) = (peer(load), peer(resource));
    until(|| client.snapshot().unwrap().totals.down.received > 10);
    let window = Window::new(vpnmesh_core::Timestamp::ZERO, monotonic());
    let (seen, there) = (client.window(window).unwrap(), site.window(window).unwrap());
    assert!(!there.up[&1].arrivals.is_empty() && !seen.down.arrivals.is_empty());
    assert!(seen.heartbeat.longest.is_some());
    assert!(client.series(window).unwrap().bytes.width_ns > 0);
    assert!(site.snapshot().unwrap().echoed > 0);
    assert!(client.stop().unwrap().downloads[0].verified);
    assert!(!site.stop().unwrap().downloads.is_empty());
    one.join().unwrap();
    two.join().unwrap();
}

#[test]
fn a_server_that_dies_breaks_its_connections_and_they_are_counted() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let load = Load::start(LoadConfig {
        downloads: vec![DownloadConfig {
            from: address,
            seed: 1,
            pace_bps: 1,
            length: None,
        }],
        ..LoadConfig::default()
    })
    .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    drop(listener);
    let _ = stream.read(&mut [0; 1000]).unwrap();
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nlies\r\n")
        .unwrap();
    drop(stream);
    until(|| load.snapshot().totals.connections.broken == 1);
    let window = load.window(Window::new(vpnmesh_core::Timestamp::ZERO, monotonic()));
    assert_eq!(window.connections.wrong_bytes, 4);
    assert_eq!(window.connections.broken, 1);
    assert!(!load.stop().downloads[0].verified);
}

#[test]
fn garbage_to_the_web_server_is_answered_and_others_are_served_on() {
    use std::io::{Read, Write};
    let resource = Resource::start(&local()).unwrap();
    let mut stream = std::net::TcpStream::connect(resource.http_address()).unwrap();
    stream.write_all(b"\xff\xfe nonsense\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let mut stream = std::net::TcpStream::connect(resource.http_address()).unwrap();
    stream.write_all(b"GET /nowhere HTTP/1.1\r\n\r\n").unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 404");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let resource = Resource::start(&local()).unwrap();
    let config = ResourceConfig {
        http: resource.http_address(),
        ..local()
    };
    let error = Resource::start(&config).unwrap_err();
    assert!(
        error.to_string().contains(&config.http.to_string()),
        "{error}"
    );
}
