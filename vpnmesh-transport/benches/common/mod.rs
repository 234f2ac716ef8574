//! What the benches share: members whose keys follow from a number, and the clock of their work.
#![allow(dead_code, unreachable_pub)] // each bench takes its part

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use vpnmesh_core::Membership;
use vpnmesh_transport::station::{StationConfig, Verifier};
use vpnmesh_transport::{
    Cipher, Ciphers, CryptoSuite, Entropy, Identity, Incarnation, Marking, Profile, SeededEntropy,
};

/// Takes any membership that decodes: nobody signs here.
#[derive(Debug)]
struct Unsigned;

impl Verifier for Unsigned {
    fn verify(&self, signed: &[u8]) -> Option<Membership> {
        postcard::from_bytes(signed).ok()
    }
}

/// What the member with this number is started with.
pub fn station(suite: &CryptoSuite, number: u64, membership: &Membership) -> StationConfig {
    let mut entropy: Box<dyn Entropy> = Box::new(SeededEntropy::new(100 + number));
    StationConfig {
        suite: *suite,
        identity: identity(suite, number),
        incarnation: Incarnation::new(1, &mut *entropy),
        entropy,
        profile: Profile::Standard,
        ciphers: Ciphers::of(&Cipher::ALL),
        site_secret: None,
        membership: postcard::to_stdvec(membership).unwrap(),
        verifier: Box::new(Unsigned),
        marking: Marking::default(),
    }
}

/// The key of the member with this number.
pub fn identity(suite: &CryptoSuite, number: u64) -> Identity {
    Identity::generate(suite, &mut SeededEntropy::new(number))
}

/// Processor time of this thread.
pub fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}
