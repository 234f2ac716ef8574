//! The MACs in front of the handshake, and cookies.

use vpnmesh_core::{Secret, Timestamp};

/// Proof of an address, given by a responder under load. Worth something for about two minutes
/// from the same address.
#[derive(Debug)]
pub struct Cookie {
    pub(super) value: Secret<16>,
    pub(super) received: Timestamp,
}
