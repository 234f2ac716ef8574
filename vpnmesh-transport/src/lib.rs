//! vpnmesh transport.

pub mod channel;
pub mod class;
pub mod client;
pub mod entropy;
mod error;
pub mod flow;
pub mod frame;
pub mod handshake;
pub mod inner;
#[cfg(feature = "io")]
pub mod io;
pub mod kdf;
#[cfg(test)]
#[path = "../../vpnmesh-testkit/src/left_out.rs"]
#[allow(unreachable_pub)] // it is public in its own crate
mod left_out;
pub mod leg;
mod machine;
pub mod message;
pub mod mtu;
pub mod node;
pub mod outbox;
pub mod path;
pub mod probe;
pub mod receipt;
pub mod record;
pub mod replay;
pub mod schedule;
mod security;
pub mod site;
pub mod split;
pub mod station;
pub mod stream;
pub mod suite;
pub mod timers;
#[cfg(feature = "testing")]
pub mod trace;
pub mod tunnel;
#[cfg(test)]
mod vectors;
pub mod wire;

pub use class::{Dscp, DscpPolicy, Ecn, Marking, TrafficClass};
pub use entropy::{Entropy, OsEntropy, SeededEntropy};
pub use error::{DropReason, Error};
pub use handshake::{Established, Exchange, Identity, Incarnation, Pq};
pub use machine::{Machine, Transmit};
pub use security::{Floor, PeerProof, SecurityReport};
pub use suite::{Cipher, Ciphers, CryptoSuite, PacketAead, Profile, Profiles};
