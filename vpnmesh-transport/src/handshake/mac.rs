//! The MACs in front of the handshake, and cookies.
//!
//! mac1 shows that a datagram was made for this responder; mac2, under load, that its source
//! address answers. What a responder sends back carries one MAC whose key only those know who saw
//! A. All are BLAKE2s with a key, cut to 16 bytes.

use std::fmt::{self, Debug};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use blake2::Blake2sMac;
use blake2::digest::consts::{U16, U32};
use blake2::digest::{KeyInit, Mac};
use subtle::ConstantTimeEq;
use vpnmesh_core::{PublicKey, Secret, Timestamp};

use super::wire::{self, MAC, MACS, SealedCookie};
use crate::entropy::{self, Entropy};
use crate::kdf::{self, label};
use crate::suite::{Cipher, CryptoSuite};

/// A key of a MAC.
pub(super) struct MacKey([u8; 32]);

impl MacKey {
    /// For mac1 towards a responder.
    pub(super) fn towards(responder: &PublicKey) -> Self {
        Self(kdf::digest(label::MAC1, &[&responder.0]))
    }

    /// For everything that answers the A with this mac1.
    pub(super) fn back(initiator: &PublicKey, mac1: &[u8; MAC]) -> Self {
        Self(kdf::digest(label::MAC_BACK, &[&initiator.0, mac1]))
    }

    /// Appends the MAC of all bytes so far.
    pub(super) fn append(&self, datagram: &mut Vec<u8>) {
        let mac = tag(&self.0, datagram);
        datagram.extend_from_slice(&mac);
    }

    /// Whether the last 16 bytes are the MAC of those before.
    pub(super) fn verifies(&self, datagram: &[u8]) -> bool {
        datagram
            .split_last_chunk::<MAC>()
            .is_some_and(|(text, mac)| bool::from(tag(&self.0, text).ct_eq(mac)))
    }

    /// Whether mac1 is right; mac2 follows it.
    pub(super) fn verifies_mac1(&self, datagram: &[u8]) -> bool {
        let mac2_at = datagram.len().saturating_sub(MAC);
        self.verifies(&datagram[..mac2_at])
    }
}

impl Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

/// mac1 of an A or K.
pub(super) fn mac1(datagram: &[u8]) -> Option<[u8; MAC]> {
    let at = datagram.len().checked_sub(MACS)?;
    datagram.get(at..at + MAC)?.try_into().ok()
}

/// Appends mac2 to a datagram that ends with mac1; zeros without a cookie.
pub(super) fn append_mac2(datagram: &mut Vec<u8>, cookie: Option<&Cookie>) {
    let mac2 = cookie.map_or([0; MAC], |cookie| tag(cookie.value.expose(), datagram));
    datagram.extend_from_slice(&mac2);
}

/// Proof of an address, given by a responder under load. Worth something for about two minutes
/// from the same address.
#[derive(Debug)]
pub struct Cookie {
    value: Secret<16>,
    received: Timestamp,
}

impl Cookie {
    /// Whether it is still worth showing.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(self.received) < CookieJar::TURN
    }

    /// A second copy, for a second owner.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            value: self.value.duplicate(),
            received: self.received,
        }
    }

    /// Opens the cookie datagram that answers a datagram of ours with this mac1.
    pub(super) fn open(
        suite: &CryptoSuite,
        responder: &PublicKey,
        mac1: &[u8; MAC],
        sealed: SealedCookie,
        now: Timestamp,
    ) -> Option<Self> {
        let SealedCookie {
            nonce,
            mut text,
            tag,
        } = sealed;
        let key = cookie_key(responder);
        let aead = (suite.aead)(Cipher::ChaCha20Poly1305, &one_time_key(&key, &nonce));
        let opened = aead.open(0, mac1, &mut text, &tag);
        opened.then(|| Self {
            value: Secret::take(&mut text),
            received: now,
        })
    }
}

/// Makes and checks cookies without any state per address.
#[derive(Debug)]
pub(super) struct CookieJar {
    suite: CryptoSuite,
    /// The public key's part of the key that seals cookies.
    key: [u8; 32],
    current: Secret<32>,
    previous: Secret<32>,
    turned: Timestamp,
    /// Random bits, then a count: never the same nonce twice.
    nonce: [u8; 24],
    sealed: u64,
}

impl CookieJar {
    /// How long a secret makes cookies; they are accepted for one more turn.
    pub(super) const TURN: Duration = Duration::from_secs(120);

    pub(super) fn new(
        suite: CryptoSuite,
        public: &PublicKey,
        entropy: &mut dyn Entropy,
        now: Timestamp,
    ) -> Self {
        let mut nonce = [0; 24];
        entropy.fill(&mut nonce);
        Self {
            suite,
            key: cookie_key(public),
            current: entropy::secret(entropy),
            previous: entropy::secret(entropy),
            turned: now,
            nonce,
            sealed: 0,
        }
    }

    /// A key for what depends on addresses, as unpredictable as the cookies.
    pub(super) fn source_key(&self) -> SourceKey {
        SourceKey::new(&self.current)
    }

    /// Whether mac2 shows a cookie of ours for `from`.
    pub(super) fn accepts(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        entropy: &mut dyn Entropy,
        now: Timestamp,
    ) -> bool {
        self.turn(entropy, now);
        let Some((text, mac2)) = datagram.split_last_chunk::<MAC>() else {
            return false;
        };
        if *mac2 == [0; MAC] {
            return false; // shows none: spares the work under a flood
        }
        [&self.current, &self.previous]
            .into_iter()
            .any(|secret| bool::from(tag(&bake(secret, from), text).ct_eq(mac2)))
    }

    /// The cookie datagram that answers `datagram`.
    pub(super) fn reply(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        let (receiver, mac1) = (wire::index(datagram).ok()?, mac1(datagram)?);
        self.sealed += 1;
        self.nonce[16..].copy_from_slice(&self.sealed.to_le_bytes());
        let aead = (self.suite.aead)(
            Cipher::ChaCha20Poly1305,
            &one_time_key(&self.key, &self.nonce),
        );
        let mut text = bake(&self.current, from);
        let tag = aead.seal(0, &mac1, &mut text);
        let nonce = self.nonce;
        Some(wire::encode_cookie(
            receiver,
            &SealedCookie { nonce, text, tag },
        ))
    }

    fn turn(&mut self, entropy: &mut dyn Entropy, now: Timestamp) {
        if now.since(self.turned) >= Self::TURN {
            let fresh = entropy::secret(entropy);
            self.previous = std::mem::replace(&mut self.current, fresh);
            if now.since(self.turned) >= Self::TURN * 2 {
                self.previous = entropy::secret(entropy);
            }
            self.turned = now;
        }
    }
}

/// A key under which sources are spread over the buckets of a budget.
pub(super) struct SourceKey([u8; 32]);

impl SourceKey {
    pub(super) fn new(secret: &Secret<32>) -> Self {
        Self(kdf::digest(label::SOURCES, &[secret.expose()]))
    }

    /// A number that only we can foresee.
    pub(super) fn hash(&self, source: &[u8]) -> u64 {
        let tag = tag(&self.0, source);
        let mut low = [0; 8];
        low.copy_from_slice(&tag[..8]);
        u64::from_le_bytes(low)
    }
}

impl Debug for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceKey(..)")
    }
}

/// The cookie of an address: its IP address and port under our secret.
fn bake(secret: &Secret<32>, from: SocketAddr) -> [u8; 16] {
    let ip = match from.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let mut address = [0; 18];
    address[..16].copy_from_slice(&ip);
    address[16..].copy_from_slice(&from.port().to_le_bytes());
    tag(secret.expose(), &address)
}

fn cookie_key(responder: &PublicKey) -> [u8; 32] {
    kdf::digest(label::COOKIE, &[&responder.0])
}

/// A key for one nonce of 24 bytes, so that the AEAD's own short nonce may stay zero.
fn one_time_key(key: &[u8; 32], nonce: &[u8; 24]) -> Secret<32> {
    let mut mac = Blake2sMac::<U32>::new_from_slice(key).expect("BLAKE2s takes 32 bytes of key");
    mac.update(nonce);
    let mut bytes = mac.finalize().into_bytes().into();
    Secret::take(&mut bytes)
}

fn tag(key: &[u8], text: &[u8]) -> [u8; MAC] {
    let mut mac =
        Blake2sMac::<U16>::new_from_slice(key).expect("BLAKE2s takes up to 32 bytes of key");
    mac.update(text);
    mac.finalize().into_bytes().into()
}
