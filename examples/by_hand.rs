//! The transport without its drivers: both ends of a tunnel, driven by hand over plain sockets.
//!
//! You will see the handshake end at both sides and a packet come out at the other one. A loop like
//! this fits any runtime: datagrams, packets and the time go in, and whatever is to be done comes out.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use vpnmesh::core::{PublicKey, Timestamp};
use vpnmesh::transport::tunnel::{TunnelConfig, TunnelEvent, TunnelMachine};
use vpnmesh::transport::{
    Cipher, Ciphers, CryptoSuite, Ecn, Identity, Incarnation, Machine, Marking, OsEntropy, Pq,
    Profile,
};
use vpnmesh::udp_packet;

fn main() -> Result<(), Box<dyn Error>> {
    let suite = CryptoSuite::preferred();
    let mut entropy = OsEntropy::new()?;
    let here = Identity::generate(&suite, &mut entropy);
    let there = Identity::generate(&suite, &mut entropy);
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0"));
    let [near, far] = sockets;
    let (near, far) = (near?, far?);
    let far_address = far.local_addr()?;
    let (here_key, there_key) = (here.public(), there.public());
    let mut near = End::new("near", near, here, there_key, Some(far_address))?;
    let mut far = End::new("far", far, there, here_key, None)?;

    let hello = udp_packet("10.9.0.1:5000".parse()?, "10.9.0.2:80".parse()?, b"hello");
    let hello = hello.ok_or("too long")?;
    near.machine.handle_inner(&hello, near.now()); // waits for the handshake
    loop {
        near.turn()?;
        if let Some(packet) = far.turn()? {
            assert_eq!(packet, hello);
            println!("far: {} bytes came out of the tunnel", packet.len());
            return Ok(());
        }
    }
}

struct End {
    name: &'static str,
    machine: TunnelMachine,
    socket: UdpSocket,
    started: Instant,
}

impl End {
    fn new(
        name: &'static str,
        socket: UdpSocket,
        identity: Identity,
        peer: PublicKey,
        endpoint: Option<SocketAddr>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut entropy = OsEntropy::new()?;
        let config = TunnelConfig {
            suite: CryptoSuite::preferred(),
            identity,
            incarnation: Incarnation::new(1, &mut entropy),
            entropy: Box::new(entropy),
            profile: Profile::Standard,
            pq: Pq::Require,
            ciphers: Ciphers::of(&Cipher::ALL),
            peer,
            endpoint,
            allow: Vec::new(),
            marking: Marking::default(),
            exports: false,
            cadence: TunnelConfig::CADENCE,
        };
        Ok(Self {
            name,
            machine: TunnelMachine::new(config, Timestamp::ZERO)?,
            socket,
            started: Instant::now(),
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.started.elapsed()
    }

    /// At most one datagram in, everything out; the inner packet that it brought.
    fn turn(&mut self) -> io::Result<Option<Vec<u8>>> {
        let wait = self.machine.poll_timeout().since(self.now());
        let wait = wait.clamp(Duration::from_millis(1), Duration::from_millis(5));
        self.socket.set_read_timeout(Some(wait))?;
        let mut buffer = [0; 2048];
        let mut inner = None;
        match self.socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                let now = self.now();
                let part = self
                    .machine
                    .handle_datagram(from, Ecn::NotEct, &mut buffer[..len], now);
                inner = part.map(|part| buffer[part].to_vec());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        if self.machine.poll_timeout() <= self.now() {
            self.machine.handle_timeout(self.now());
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            for datagram in transmit.datagrams() {
                self.socket.send_to(datagram, transmit.to)?;
            }
            self.machine.recycle(transmit.payload);
        }
        while let Some(event) = self.machine.poll_event() {
            if let TunnelEvent::Ready { remote, .. } = event {
                println!("{}: shook hands with {remote}", self.name);
            }
        }
        Ok(inner.or_else(|| self.machine.poll_inner()))
    }
}
