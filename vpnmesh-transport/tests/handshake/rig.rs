//! Two ends with everything they need, and the datagrams between them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use vpnmesh_core::{PublicKey, Secret, Timestamp};
use vpnmesh_transport::handshake::{
    Attempt, Authority, Decision, Established, Exchange, Identity, Incarnation, Initiator, Load,
    Outcome, Pq, Progress, Request, Responder, ResponderConfig,
};
use vpnmesh_transport::kdf::{digest, label};
use vpnmesh_transport::suite::{self, Ciphers, CryptoSuite, Profile, Profiles};
use vpnmesh_transport::{Error, SeededEntropy};

pub(crate) const RETRY: Duration = Duration::from_millis(250);

/// Accepts whoever is in it, with a fixed payload.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) known: BTreeSet<PublicKey>,
    pub(crate) payload: Vec<u8>,
    pub(crate) refuse: Option<vpnmesh_transport::handshake::Refusal>,
    pub(crate) asked: Vec<Vec<u8>>,
}

impl Authority for Book {
    fn knows(&mut self, peer: &PublicKey) -> bool {
        self.known.contains(peer)
    }

    fn decide(&mut self, request: &Request<'_>) -> Decision {
        self.asked.push(request.payload.to_vec());
        match self.refuse {
            Some(refusal) => Decision::Refuse(refusal),
            None => Decision::Accept {
                local_index: 0x5151_0000 + self.asked.len() as u32,
                payload: self.payload.clone(),
            },
        }
    }
}

/// Both ends.
pub(crate) struct Rig {
    pub(crate) entropy: SeededEntropy,
    pub(crate) client: Identity,
    pub(crate) client_suite: CryptoSuite,
    pub(crate) life: Incarnation,
    pub(crate) counter: u32,
    pub(crate) site_secret: Option<Secret<32>>,
    pub(crate) options: Vec<u8>,
    pub(crate) exchange: Exchange,
    pub(crate) ciphers: Ciphers,
    pub(crate) server: PublicKey,
    pub(crate) responder: Responder,
    pub(crate) book: Book,
    pub(crate) load: Load,
    pub(crate) now: Timestamp,
    pub(crate) received: usize,
    pub(crate) sent: usize,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(
            suite::rustcrypto(),
            suite::rustcrypto(),
            Some([7; 32]),
            Some([7; 32]),
        )
    }

    pub(crate) fn with(
        client_suite: CryptoSuite,
        server_suite: CryptoSuite,
        client_secret: Option<[u8; 32]>,
        server_secret: Option<[u8; 32]>,
    ) -> Self {
        let mut entropy = SeededEntropy::new(1);
        let now = Timestamp::ZERO + Duration::from_secs(1000);
        let client = Identity::generate(&client_suite, &mut entropy);
        let server = Identity::generate(&server_suite, &mut entropy);
        let mut book = Book::default();
        book.known.insert(client.public());
        let config = ResponderConfig {
            suite: server_suite,
            identity: server.duplicate(),
            site_secret: server_secret.map(|mut bytes| Secret::take(&mut bytes)),
            incarnation: Incarnation::new(9, &mut entropy),
            profiles: Profiles::of(&Profile::ALL),
            ciphers: Ciphers::of(&suite::Cipher::ALL),
            pq: Pq::Require,
        };
        Self {
            life: Incarnation::new(3, &mut entropy),
            responder: Responder::new(config, &mut entropy, now),
            entropy,
            client,
            client_suite,
            counter: 0,
            site_secret: client_secret.map(|mut bytes| Secret::take(&mut bytes)),
            options: b"hello".to_vec(),
            exchange: Exchange::Hybrid,
            ciphers: Ciphers::of(&suite::Cipher::ALL),
            server: server.public(),
            book,
            load: Load::Normal,
            now,
            received: 0,
            sent: 0,
        }
    }

    pub(crate) fn start(&mut self, profile: Profile) -> Initiator {
        self.try_start(profile, None).unwrap()
    }

    pub(crate) fn try_start(
        &mut self,
        profile: Profile,
        cookie: Option<vpnmesh_transport::handshake::Cookie>,
    ) -> Result<Initiator, Error> {
        self.counter += 1;
        let attempt = Attempt {
            suite: self.client_suite,
            identity: &self.client,
            peer: self.server,
            site_secret: self.site_secret.as_ref(),
            profile,
            exchange: self.exchange,
            ciphers: self.ciphers,
            incarnation: self.life,
            counter: self.counter,
            local_index: 0xc0c0_0000 + self.counter,
            payload: &self.options,
            cookie,
            retry: RETRY,
        };
        Initiator::new(attempt, &mut self.entropy, self.now)
    }

    /// Gives one datagram to the responder and checks what every answer must obey.
    pub(crate) fn deliver(&mut self, datagram: &[u8]) -> Outcome {
        self.deliver_from(from(), datagram)
    }

    pub(crate) fn deliver_from(&mut self, from: SocketAddr, datagram: &[u8]) -> Outcome {
        assert!(datagram.len() <= 1232, "{} bytes", datagram.len());
        let (book, entropy) = (&mut self.book, &mut self.entropy);
        let outcome = self
            .responder
            .handle_datagram(from, datagram, self.load, book, entropy, self.now);
        self.received += datagram.len();
        for reply in &outcome.replies {
            assert!(reply.len() <= 1232, "{} bytes", reply.len());
            self.sent += reply.len();
        }
        assert!(
            self.sent <= self.received,
            "{} bytes out, {} in",
            self.sent,
            self.received
        );
        outcome
    }

    /// Gives datagrams to the responder; all its replies and the last session.
    pub(crate) fn deliver_all(
        &mut self,
        datagrams: &[Vec<u8>],
    ) -> (Vec<Vec<u8>>, Option<Established>) {
        let (mut replies, mut established) = (Vec::new(), None);
        for datagram in datagrams {
            let outcome = self.deliver(datagram);
            replies.extend(outcome.replies);
            established = outcome.established.map(|session| *session).or(established);
        }
        (replies, established)
    }

    /// A whole handshake without faults.
    pub(crate) fn handshake(&mut self, profile: Profile) -> (Established, Established) {
        let mut initiator = self.start(profile);
        let (replies, server) = self.deliver_all(&drain(&mut initiator));
        let client = finish(&mut initiator, &replies, self.now).expect("the handshake completes");
        (client, server.expect("the responder completes"))
    }
}

pub(crate) fn from() -> SocketAddr {
    "192.0.2.7:4242".parse().unwrap()
}

pub(crate) fn drain(initiator: &mut Initiator) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| initiator.poll_transmit()).collect()
}

/// Gives the replies to the initiator; the session, if one comes of it.
pub(crate) fn finish(
    initiator: &mut Initiator,
    replies: &[Vec<u8>],
    now: Timestamp,
) -> Option<Established> {
    replies
        .iter()
        .find_map(|reply| match initiator.handle_datagram(reply, now) {
            Ok(Progress::Established(session)) => Some(*session),
            Ok(Progress::Waiting | Progress::Refused(_)) | Err(_) => None,
        })
}

/// Both ends hold the same session.
pub(crate) fn assert_agree(client: &Established, server: &Established) {
    assert_eq!(client.root, server.root);
    assert_eq!(client.handshake_hash, server.handshake_hash);
    assert_eq!(
        (client.local_index, client.remote_index),
        (server.remote_index, server.local_index)
    );
    assert_eq!(
        (client.profile, client.cipher),
        (server.profile, server.cipher)
    );
    assert!(client.initiator && !server.initiator);
}

/// All pairs of providers that were compiled in.
pub(crate) fn suite_pairs() -> Vec<(CryptoSuite, CryptoSuite)> {
    let suites = [
        #[cfg(feature = "aws-lc")]
        suite::aws_lc(),
        suite::rustcrypto(),
    ];
    suites
        .iter()
        .flat_map(|a| suites.iter().map(|b| (*a, *b)))
        .collect()
}

/// Makes mac1 of a changed A or K right again, as anybody can who knows the responder's key.
pub(crate) fn repair_mac1(datagram: &mut [u8], responder: &PublicKey) {
    let at = datagram.len() - 32;
    let mac = mac(&digest(label::MAC1, &[&responder.0]), &datagram[..at]);
    datagram[at..at + 16].copy_from_slice(&mac);
}

/// Makes the MAC of a changed answer right again, as anybody can who saw A.
pub(crate) fn repair_answer(datagram: &mut [u8], initiator: &PublicKey, hello: &[u8]) {
    let mac1 = &hello[hello.len() - 32..hello.len() - 16];
    let at = datagram.len() - 16;
    let mac = mac(
        &digest(label::MAC_BACK, &[&initiator.0, mac1]),
        &datagram[..at],
    );
    datagram[at..].copy_from_slice(&mac);
}

fn mac(key: &[u8; 32], text: &[u8]) -> [u8; 16] {
    let mut mac = Blake2sMac::<U16>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().into()
}
