//! The handshake: `Noise_IKpsk2` with ML-KEM mixed in as psk2, one round trip, no state for
//! strangers.
//!
//! An [`Initiator`] is one attempt; a [`Responder`] answers all initiators. Both are sans-I/O: they
//! take datagrams, `now` and [`Entropy`](crate::Entropy), and hand out datagrams of at most
//! [`MAX_DATAGRAM`] bytes. Both end in an [`Established`].
//!
//! ```text
//! initiator                                    responder
//!   A  e, s, incarnation, commitment, options  →
//!   K  the chunks of an ML-KEM key             →
//!                                              ←  R  ML-KEM ciphertext, e, incarnation, options
//! ```
//!
//! The responder never sends more bytes than it received from an address that proved nothing,
//! keeps one slot per configured peer, and under load asks for a cookie before any expensive work.
//! Both ends are authenticated by X25519; the session keys are hybrid unless both ends want them
//! otherwise, see [`Pq`]. Without ML-KEM there is no K.

mod authority;
mod budget;
mod chunk;
mod exchange;
mod identity;
mod initiator;
#[cfg(test)]
mod key_schedule_vectors;
mod mac;
mod meter;
mod noise;
#[cfg(test)]
mod noise_vectors;
mod responder;
mod ring;
mod slot;
mod wire;

pub use authority::{Authority, Decision, Load, Outcome, Request, ResponderConfig};
pub use exchange::{Exchange, Pq};
pub use identity::{Established, Identity, Incarnation, Refusal};
pub use initiator::{Attempt, Initiator, Progress};
pub use mac::Cookie;
pub use responder::Responder;
pub use wire::{Direction, MAX_DATAGRAM, MAX_OPTIONS, MAX_RESPONSE, SINGLE_RESPONSE, direction};
