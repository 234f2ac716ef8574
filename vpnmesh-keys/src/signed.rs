//! What the mesh root signs.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vpnmesh_core::{Membership, MeshSigner, Order, Version};

use crate::{Error, Purpose, Signature, SigningKey, VerifyingKey};

/// A membership with the root's signature. Only [`SignedMembership::verify`] lets it be read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedMembership {
    bytes: Vec<u8>,
    signature: Signature,
}

impl SignedMembership {
    /// Longer encodings are refused before they are looked at.
    pub const MAX_LEN: usize = Membership::MAX_ENCODED + (8 << 10);

    /// Signs a membership.
    #[must_use]
    pub fn sign(membership: &Membership, key: &SigningKey) -> Self {
        let (bytes, signature) = sign(membership, Purpose::Membership, key);
        Self { bytes, signature }
    }

    /// The membership, if the root signed it and it does not contradict itself.
    ///
    /// # Errors
    /// [`Error::Forged`], [`Error::Unreadable`], [`Error::Membership`].
    pub fn verify(&self, root: &VerifyingKey) -> Result<Membership, Error> {
        let membership: Membership = verify(
            &self.bytes,
            &self.signature,
            Purpose::Membership,
            "membership",
            root,
        )?;
        membership.check().map_err(Error::Membership)?;
        Ok(membership)
    }

    /// The form in which it travels and is stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads what [`SignedMembership::to_bytes`] wrote. Nothing is verified yet.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        decode(bytes, Self::MAX_LEN, "membership")
    }
}

impl fmt::Debug for SignedMembership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedMembership({} bytes)", self.bytes.len())
    }
}

/// An order with the root's signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedOrder {
    bytes: Vec<u8>,
    signature: Signature,
}

impl SignedOrder {
    /// Longer encodings are refused before they are looked at.
    pub const MAX_LEN: usize = 4096;

    /// Signs an order.
    #[must_use]
    pub fn sign(order: &Order, key: &SigningKey) -> Self {
        let (bytes, signature) = sign(order, Purpose::Order, key);
        Self { bytes, signature }
    }

    /// The order, if the root signed it. Compare its version with the greatest one obeyed.
    ///
    /// # Errors
    /// [`Error::Forged`], [`Error::Unreadable`].
    pub fn verify(&self, root: &VerifyingKey) -> Result<Order, Error> {
        verify(&self.bytes, &self.signature, Purpose::Order, "order", root)
    }

    /// The order, if the root signed it and it is newer than `obeyed`.
    ///
    /// # Errors
    /// [`Error::Forged`], [`Error::Unreadable`], [`Error::Stale`].
    pub fn verify_newer(&self, root: &VerifyingKey, obeyed: Version) -> Result<Order, Error> {
        let order = self.verify(root)?;
        if order.version > obeyed {
            Ok(order)
        } else {
            Err(Error::Stale {
                have: obeyed,
                offered: order.version,
            })
        }
    }

    /// The form in which it travels.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads what [`SignedOrder::to_bytes`] wrote. Nothing is verified yet.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        decode(bytes, Self::MAX_LEN, "order")
    }
}

impl MeshSigner for SigningKey {
    fn sign_membership(&self, membership: &Membership) -> Vec<u8> {
        SignedMembership::sign(membership, self).to_bytes()
    }

    fn sign_order(&self, order: &Order) -> Vec<u8> {
        SignedOrder::sign(order, self).to_bytes()
    }
}

fn sign<T: Serialize>(what: &T, purpose: Purpose, key: &SigningKey) -> (Vec<u8>, Signature) {
    let bytes = encode(what);
    let signature = key.sign(purpose, &bytes);
    (bytes, signature)
}

fn verify<T: DeserializeOwned>(
    bytes: &[u8],
    signature: &Signature,
    purpose: Purpose,
    what: &'static str,
    root: &VerifyingKey,
) -> Result<T, Error> {
    if !root.verify(purpose, bytes, signature) {
        return Err(Error::Forged { what });
    }
    decode(bytes, usize::MAX, what)
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain structs in memory always encode")
}

/// All of `bytes` must belong to the value: two encodings of one thing would be two things.
fn decode<T: DeserializeOwned>(bytes: &[u8], max: usize, what: &'static str) -> Result<T, Error> {
    let unreadable = || Error::Unreadable { what };
    if bytes.len() > max {
        return Err(unreadable());
    }
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| unreadable())?;
    rest.is_empty().then_some(value).ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vpnmesh_core::{NodeEntry, NodeId, NodeState, OrderKind, PublicKey, Ratio, Region, Secret};

    use super::*;

    fn root() -> SigningKey {
        SigningKey::from_seed(Secret::take(&mut [7; 32]))
    }

    fn node(id: u64, key: u8) -> NodeEntry {
        NodeEntry {
            id: NodeId(id),
            name: format!("n{id}"),
            region: Region("eu".into()),
            key: PublicKey([key; 32]),
            addresses: vec!["192.0.2.1:51820".parse().unwrap()],
            state: NodeState::Active,
        }
    }

    #[test]
    fn what_the_root_signed_comes_back_and_nothing_else_does() {
        let membership = Membership {
            version: Version { term: 1, index: 2 },
            nodes: vec![node(1, 1), node(2, 2)],
            ..Membership::default()
        };
        let signed = SignedMembership::sign(&membership, &root());
        let travelled = SignedMembership::from_bytes(&signed.to_bytes()).unwrap();
        assert_eq!(
            travelled.verify(root().verifying_key()).unwrap(),
            membership
        );
        let stranger = SigningKey::from_seed(Secret::take(&mut [8; 32]));
        let refused = travelled.verify(stranger.verifying_key()).unwrap_err();
        assert!(matches!(refused, Error::Forged { what: "membership" }));
    }

    #[test]
    fn a_membership_that_contradicts_itself_is_refused_even_if_signed() {
        let membership = Membership {
            nodes: vec![node(1, 1), node(2, 1)],
            ..Membership::default()
        };
        let signed = SignedMembership::sign(&membership, &root());
        let refused = signed.verify(root().verifying_key()).unwrap_err();
        assert!(matches!(refused, Error::Membership(_)));
    }

    #[test]
    fn an_order_is_obeyed_once() {
        let order = Order {
            version: Version { term: 3, index: 9 },
            node: NodeId(1),
            kind: OrderKind::Drain,
            share: Ratio::ONE,
        };
        let root = root();
        let signed = SignedOrder::from_bytes(&root.sign_order(&order)).unwrap();
        let older = Version { term: 2, index: 99 };
        assert_eq!(
            signed.verify_newer(root.verifying_key(), older).unwrap(),
            order
        );
        let refused = signed.verify_newer(root.verifying_key(), order.version);
        assert!(matches!(refused, Err(Error::Stale { .. })));
        let as_membership = SignedMembership {
            bytes: signed.bytes,
            signature: signed.signature,
        };
        let refused = as_membership.verify(root.verifying_key());
        assert!(matches!(refused, Err(Error::Forged { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = SignedMembership::from_bytes(&bytes);
            let _ = SignedOrder::from_bytes(&bytes);
        }

        #[test]
        fn a_changed_byte_never_passes(at in 0usize..3500, flip in 1u8..) {
            let signed = SignedMembership::sign(&Membership::default(), &root()).to_bytes();
            let mut changed = signed.clone();
            let at = at % changed.len();
            changed[at] ^= flip;
            let passed = SignedMembership::from_bytes(&changed)
                .and_then(|changed| changed.verify(root().verifying_key()));
            prop_assert!(passed.is_err());
        }
    }
}
