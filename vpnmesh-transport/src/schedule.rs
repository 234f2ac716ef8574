//! The key schedule of a session, from the root of a generation to the keys of a move.
//!
//! ```text
//! root(g) ─ branch(i) ─┬─ move keys: up, down    (one pair per move and client nonce)
//!                      └─ next ─ root(g + 1)     (with fresh randomness of both sides)
//! ```
//!
//! Every derivation names the session, the generation and whoever holds the result, so no two
//! holders can form the same key (design rules S1 and S2).

use vpnmesh_core::{NodeId, PublicKey, Secret, SessionId};

use crate::kdf::{self, label};
use crate::{Cipher, Incarnation, Profile};

/// Whose branch it is, and under which handshake.
#[derive(Debug, Clone, Copy)]
pub struct BranchContext {
    /// The session.
    pub session: SessionId,
    /// The generation.
    pub generation: u32,
    /// The number of the branch.
    pub branch: u8,
    /// Its holder.
    pub holder: NodeId,
    /// The holder's static key.
    pub holder_key: PublicKey,
    /// The handshake profile.
    pub profile: Profile,
    /// The packet cipher.
    pub cipher: Cipher,
    /// The handshake that the generation stands on.
    pub handshake_hash: [u8; 32],
}

/// What a move adds to its branch.
#[derive(Debug, Clone)]
pub struct MoveContext {
    /// The session.
    pub session: SessionId,
    /// The generation.
    pub generation: u32,
    /// The branch.
    pub branch: u8,
    /// The number of the move.
    pub number: u32,
    /// The client's fresh nonce.
    pub nonce: [u8; 16],
    /// The holder's incarnation.
    pub holder: Incarnation,
}

/// The two directions of a move.
#[derive(Debug)]
pub struct MoveKeys {
    /// From client to holder.
    pub up: Secret<32>,
    /// From holder to client.
    pub down: Secret<32>,
}

/// The secret of one branch.
#[must_use]
pub fn branch_secret(root: &Secret<32>, context: &BranchContext) -> Secret<32> {
    kdf::derive(
        &[],
        &[root.expose()],
        label::BRANCH,
        &[
            &context.session.0,
            &context.generation.to_le_bytes(),
            &[
                context.branch,
                context.profile.code(),
                context.cipher.code(),
            ],
            &context.holder.0.to_le_bytes(),
            &context.holder_key.0,
            &context.handshake_hash,
        ],
    )
}

/// The root of the next generation, from the branch of the holder that starts it.
#[must_use]
pub fn next_root(
    branch: &Secret<32>,
    client_random: &[u8; 32],
    primary_random: &[u8; 32],
) -> Secret<32> {
    let next: Secret<32> = kdf::derive(&[], &[branch.expose()], label::NEXT, &[]);
    kdf::derive(
        client_random,
        &[primary_random, next.expose()],
        label::NEXT_ROOT,
        &[],
    )
}

/// The keys of one move.
#[must_use]
pub fn move_keys(branch: &Secret<32>, context: &MoveContext) -> MoveKeys {
    let direction = |name: &[u8]| {
        kdf::derive(
            &[],
            &[branch.expose()],
            label::MOVE,
            &[
                &context.session.0,
                &context.generation.to_le_bytes(),
                &[context.branch],
                &context.number.to_le_bytes(),
                &context.nonce,
                &context.holder.counter.to_le_bytes(),
                &context.holder.random,
                name,
            ],
        )
    };
    MoveKeys {
        up: direction(b"up"),
        down: direction(b"down"),
    }
}

/// The nonce of the move that a handshake makes by itself: both sides know it without a message.
#[must_use]
pub fn first_nonce(root: &Secret<32>) -> [u8; 16] {
    let derived: Secret<16> = kdf::derive(&[], &[root.expose()], label::FIRST_NONCE, &[]);
    *derived.expose()
}

/// The key of receipts, from the root of a handshake between client and site.
#[must_use]
pub fn receipt_key(root: &Secret<32>) -> Secret<32> {
    kdf::derive(&[], &[root.expose()], label::RECEIPT, &[])
}
