//! What a tunnel survives: restarts, kills and a wire that is gone for a while.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use vpnmesh_testkit::lab::Inside;

use super::rig::{PATIENCE, Pair, Tunnel};

/// A connection through the tunnel: whatever is written comes back.
struct Connection(TcpStream);

impl Connection {
    fn open(pair: &Pair) -> Self {
        let at = (pair.b.inner, 7);
        let bound = pair.b.host.run(|| TcpListener::bind(at)).unwrap();
        let listener = bound.unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = stream.try_clone().unwrap();
            let _ended = std::io::copy(&mut reader, &mut stream);
        });
        let connected = pair.a.host.run(|| TcpStream::connect(at)).unwrap();
        let stream = connected.unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn carries(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
        let mut back = vec![0; text.len()];
        self.0.read_exact(&mut back).unwrap();
        assert_eq!(back, text.as_bytes());
    }
}

pub(crate) fn a_restarted_end_goes_on(inside: Inside) {
    goes_on_after(inside, Tunnel::ends_well);
}

pub(crate) fn a_killed_end_goes_on(inside: Inside) {
    goes_on_after(inside, Tunnel::dies);
}

/// Ends one end, then the other one, and starts each again. The devices stay, as an administrator
/// made them, so that only the tunnel is gone meanwhile.
fn goes_on_after(inside: Inside, end: fn(Tunnel)) {
    let pair = Pair::new(inside);
    pair.make_devices();
    let (a, b) = (pair.a.start(&pair.b, &[]), pair.b.start(&pair.a, &[]));
    assert_eq!((a.line(), b.line()), ("ready".into(), "ready".into()));
    let mut connection = Connection::open(&pair);
    connection.carries("before");
    end(a);
    let a = pair.a.start(&pair.b, &[]);
    assert_eq!(a.line(), "ready");
    connection.carries("after the first");
    end(b);
    let b = pair.b.start(&pair.a, &[]);
    assert_eq!(b.line(), "ready");
    connection.carries("after the second");
    pair.ping();
    a.ends_well();
    b.ends_well();
}

pub(crate) fn a_cut_wire_is_survived(inside: Inside) {
    let pair = Pair::new(inside);
    pair.make_devices();
    let (a, b) = (
        pair.a.start(&pair.b, &["--json"]),
        pair.b.start(&pair.a, &["--json"]),
    );
    a.event("ready");
    b.event("ready");
    let mut connection = Connection::open(&pair);
    connection.carries("before");
    pair.wire(false);
    connection.0.write_all(b"into the dark").unwrap();
    a.event("silent");
    pair.wire(true);
    let mut back = [0; 13];
    connection.0.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"into the dark");
    connection.carries("after");
    a.ends_well();
    b.ends_well();
}
