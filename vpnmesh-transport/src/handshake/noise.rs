//! `Noise_IKpsk2` through snow, on the primitives of a [`CryptoSuite`].
//!
//! snow zeroes nothing, so a [`Noise`] is boxed and lives for seconds. Its raw split does not check
//! that the handshake is finished; [`Noise::finish`] does. snow's transport states are never used.

use std::fmt::{self, Debug};
use std::sync::Arc;

use blake2::{Blake2b512, Blake2s256, Digest};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher as NoiseCipher, Dh, Hash, Random};
use vpnmesh_core::{PublicKey, Secret};
use zeroize::Zeroize;

use super::identity::Identity;
use super::wire::HeaderA;
use crate::entropy::{self, Entropy};
use crate::kdf::{self, label};
use crate::suite::{Cipher, CryptoSuite, DhKey, PacketAead, Profile};

/// One side of a running handshake.
pub(super) struct Noise {
    state: Box<snow::HandshakeState>,
    profile: Profile,
}

/// What both sides share at the end.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) root: Secret<32>,
    pub(super) handshake_hash: [u8; 32],
}

/// What psk2 is made of: an answer has a KEM secret, unless both ends agreed to go without; a refusal
/// has none.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mixed<'a> {
    Answer {
        secret: &'a Secret<32>,
        ciphertext: &'a [u8],
    },
    Classical,
    Refusal,
}

impl Noise {
    /// The initiator's side; `None` if the peer's key is unusable.
    pub(super) fn initiator(
        suite: &CryptoSuite,
        profile: Profile,
        identity: &Identity,
        peer: &PublicKey,
        header: &HeaderA,
        entropy: &mut dyn Entropy,
    ) -> Option<Self> {
        let prologue = prologue(header);
        let state = builder(suite, profile, identity, entropy)?
            .local_private_key(identity.secret().expose())
            .and_then(|builder| builder.remote_public_key(&peer.0))
            .and_then(|builder| builder.prologue(&prologue)?.build_initiator());
        state.ok().map(|state| Self::new(state, profile))
    }

    /// The responder's side.
    pub(super) fn responder(
        suite: &CryptoSuite,
        profile: Profile,
        identity: &Identity,
        header: &HeaderA,
        entropy: &mut dyn Entropy,
    ) -> Option<Self> {
        let prologue = prologue(header);
        let state = builder(suite, profile, identity, entropy)?
            .local_private_key(identity.secret().expose())
            .and_then(|builder| builder.prologue(&prologue)?.build_responder());
        state.ok().map(|state| Self::new(state, profile))
    }

    fn new(state: snow::HandshakeState, profile: Profile) -> Self {
        Self {
            state: Box::new(state),
            profile,
        }
    }

    /// The next message; `None` if a key is weak.
    pub(super) fn write(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let mut message = vec![0; BUFFER];
        let len = self.state.write_message(payload, &mut message).ok()?;
        message.truncate(len);
        Some(message)
    }

    /// The payload of the peer's message; `None` if it is forged, the handshake can go on then.
    pub(super) fn read(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut payload = vec![0; BUFFER];
        let len = self.state.read_message(message, &mut payload).ok()?;
        payload.truncate(len);
        Some(payload)
    }

    /// The peer's static key, once known.
    pub(super) fn peer(&self) -> Option<PublicKey> {
        let key = self.state.get_remote_static()?;
        key.try_into().ok().map(PublicKey)
    }

    /// Sets psk2 from the transcript so far; again for another answer.
    pub(super) fn mix(&mut self, site_secret: Option<&Secret<32>>, mode: u8, mixed: Mixed<'_>) {
        let hash = self.state.get_handshake_hash();
        let psk = psk2(site_secret, self.profile, mode, hash, mixed);
        self.state
            .set_psk(2, psk.expose())
            .expect("the key has 32 bytes and slot 2 exists");
    }

    /// The secrets of a finished handshake; `None` if it is not finished.
    pub(super) fn finish(mut self, cipher: Cipher) -> Option<Split> {
        if !self.state.is_handshake_finished() {
            return None;
        }
        let (mut first, mut second) = self.state.dangerously_get_raw_split();
        let hash = self.state.get_handshake_hash();
        let split = split(self.profile, cipher, hash, &first, &second);
        first.zeroize();
        second.zeroize();
        Some(split)
    }
}

/// psk2, from the handshake hash after the first message.
pub(super) fn psk2(
    site_secret: Option<&Secret<32>>,
    profile: Profile,
    mode: u8,
    hash: &[u8],
    mixed: Mixed<'_>,
) -> Secret<32> {
    let salt = site_secret.map_or(&[0; 32], Secret::expose);
    let context = [profile.code(), mode];
    match mixed {
        Mixed::Answer { secret, ciphertext } => {
            let ciphertexts = kdf::digest(label::CIPHERTEXT, &[ciphertext]);
            let transcript = kdf::digest(label::TRANSCRIPT, &[hash, &ciphertexts]);
            let info: [&[u8]; 2] = [&context, &transcript];
            kdf::derive(salt, &[secret.expose()], label::PSK2, &info)
        }
        Mixed::Classical => {
            let transcript = kdf::digest(label::TRANSCRIPT, &[hash]);
            kdf::derive(salt, &[], label::CLASSICAL, &[&context, &transcript])
        }
        Mixed::Refusal => {
            let transcript = kdf::digest(label::TRANSCRIPT, &[hash]);
            kdf::derive(salt, &[], label::REFUSAL, &[&context, &transcript])
        }
    }
}

/// The secrets of a handshake that ended with `hash` and these two raw keys.
pub(super) fn split(
    profile: Profile,
    cipher: Cipher,
    hash: &[u8],
    first: &[u8; 32],
    second: &[u8; 32],
) -> Split {
    let context = [profile.code(), cipher.code()];
    Split {
        root: kdf::derive(hash, &[first, second], label::ROOT, &[&context]),
        handshake_hash: kdf::digest(label::BINDING, &[hash]),
    }
}

impl Debug for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noise")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

fn builder<'a>(
    suite: &CryptoSuite,
    profile: Profile,
    identity: &Identity,
    entropy: &mut dyn Entropy,
) -> Option<snow::Builder<'a>> {
    let resolver = Resolver {
        suite: *suite,
        known: Some(identity.duplicate()),
        ephemeral: Some(entropy::secret(entropy)),
    };
    let params = profile.noise_name().parse().ok()?;
    Some(snow::Builder::with_resolver(params, Box::new(resolver)))
}

fn prologue(header: &HeaderA) -> Vec<u8> {
    [label::PROLOGUE.as_bytes(), header].concat()
}

/// Gives snow the primitives of a suite. Everything random was drawn before: one ephemeral key.
pub(super) struct Resolver {
    pub(super) suite: CryptoSuite,
    /// Spares computing its public key.
    pub(super) known: Option<Identity>,
    pub(super) ephemeral: Option<Secret<32>>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(
            self.ephemeral.as_ref().map(Secret::duplicate),
        )))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let known = self.known.as_ref().map(Identity::duplicate);
        let curve = matches!(choice, DHChoice::Curve25519);
        curve.then(|| -> Box<dyn Dh> { Box::new(Curve::new(self.suite, known)) })
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::Blake2s => Some(Box::new(Blake2sHash(Blake2s256::new()))),
            HashChoice::Blake2b => Some(Box::new(Blake2bHash(Blake2b512::new()))),
            HashChoice::SHA256 | HashChoice::SHA512 => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn NoiseCipher>> {
        let suite = self.suite;
        let chacha = matches!(choice, CipherChoice::ChaChaPoly);
        chacha.then(|| -> Box<dyn NoiseCipher> { Box::new(ChaChaPoly { suite, key: None }) })
    }
}

/// Gives the bytes drawn before, once.
struct Drawn(Option<Secret<32>>);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        let drawn = self.0.take().ok_or(snow::Error::Rng)?;
        if bytes.len() != drawn.expose().len() {
            return Err(snow::Error::Rng);
        }
        bytes.copy_from_slice(drawn.expose());
        Ok(())
    }
}

struct Curve {
    suite: CryptoSuite,
    known: Option<Identity>,
    key: Option<Arc<dyn DhKey>>,
    public: [u8; 32],
}

impl Curve {
    const fn new(suite: CryptoSuite, known: Option<Identity>) -> Self {
        Self {
            suite,
            known,
            key: None,
            public: [0; 32],
        }
    }

    fn take(&mut self, secret: &Secret<32>) {
        let key = match &self.known {
            Some(known) if known.secret() == secret => Arc::clone(known.key()),
            Some(_) | None => (self.suite.x25519_key)(secret),
        };
        self.public = key.public();
        self.key = Some(key);
    }
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        let mut bytes: [u8; 32] = privkey.try_into().expect("we give snow keys of 32 bytes");
        self.take(&Secret::take(&mut bytes));
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let secret = Secret::try_fill(|bytes| rng.try_fill_bytes(bytes))?;
        self.take(&secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &[] // snow asks for it only to generate static keys, which we do not let it do
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = pubkey.first_chunk().ok_or(snow::Error::Dh)?;
        let key = self.key.as_ref().ok_or(snow::Error::Dh)?;
        let shared = key.agree(public).ok_or(snow::Error::Dh)?;
        out.get_mut(..32)
            .ok_or(snow::Error::Dh)?
            .copy_from_slice(shared.expose());
        Ok(())
    }
}

struct ChaChaPoly {
    suite: CryptoSuite,
    key: Option<Box<dyn PacketAead>>,
}

impl NoiseCipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        let key = Secret::take(&mut key.clone());
        self.key = Some((self.suite.aead)(Cipher::ChaCha20Poly1305, &key));
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let key = self
            .key
            .as_ref()
            .expect("snow sets a key before it encrypts");
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let tag = key.seal(nonce, authtext, text);
        rest[..tag.len()].copy_from_slice(&tag);
        plaintext.len() + tag.len()
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let key = self.key.as_ref().ok_or(snow::Error::Decrypt)?;
        let (text, tag) = ciphertext.split_last_chunk().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(text);
        if key.open(nonce, authtext, out, tag) {
            Ok(text.len())
        } else {
            Err(snow::Error::Decrypt)
        }
    }
}

macro_rules! noise_hash {
    ($name:ident, $inner:ty, $noise:literal, $block:literal, $len:literal) => {
        struct $name($inner);

        impl Hash for $name {
            fn name(&self) -> &'static str {
                $noise
            }

            fn block_len(&self) -> usize {
                $block
            }

            fn hash_len(&self) -> usize {
                $len
            }

            fn reset(&mut self) {
                self.0.reset();
            }

            fn input(&mut self, data: &[u8]) {
                self.0.update(data);
            }

            fn result(&mut self, out: &mut [u8]) {
                out[..$len].copy_from_slice(&self.0.finalize_reset());
            }
        }
    };
}

noise_hash!(Blake2sHash, Blake2s256, "BLAKE2s", 64, 32);
noise_hash!(Blake2bHash, Blake2b512, "BLAKE2b", 128, 64);

/// Larger than every message of the handshake.
const BUFFER: usize = 4096;
