//! The key schedule of a session, from the root of a generation to the keys of a move.
//!
//! ```text
//! root(g) ─ branch(i) ─┬─ move keys: up, down    (one pair per move and client nonce)
//!                      ├─ esp ─ esp keys: up, down  (likewise, for a consumer that speaks ESP)
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

/// The two directions of a move for a consumer that speaks ESP. Each is 32 bytes of key and 4 bytes
/// of salt; a cipher with a shorter key takes the first bytes of the key.
///
/// Source: RFC 4106 section 8.1, RFC 7634 section 2.
#[derive(Debug)]
pub struct EspKeys {
    /// From client to holder.
    pub up: Secret<36>,
    /// From holder to client.
    pub down: Secret<36>,
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

/// A branch bound to the static keys of its client and its holder. Whoever made the branch up, or
/// stole it, still cannot activate it without one of the two.
#[must_use]
pub fn bound_branch(branch: &Secret<32>, static_secret: &Secret<32>) -> Secret<32> {
    kdf::derive(
        static_secret.expose(),
        &[branch.expose()],
        label::BOUND,
        &[],
    )
}

/// The keys of one move. An activation takes them from a [`bound_branch`].
#[must_use]
pub fn move_keys(branch: &Secret<32>, context: &MoveContext) -> MoveKeys {
    MoveKeys {
        up: direction(branch, label::MOVE, context, b"up"),
        down: direction(branch, label::MOVE, context, b"down"),
    }
}

/// What a branch gives to a consumer that speaks ESP. It leads to no other key of the branch.
#[must_use]
pub fn esp_key(branch: &Secret<32>) -> Secret<32> {
    kdf::derive(&[], &[branch.expose()], label::ESP, &[])
}

/// The ESP keys of one move. Sequence numbers start anew with each move, as its keys are new.
#[must_use]
pub fn esp_keys(esp_key: &Secret<32>, context: &MoveContext) -> EspKeys {
    EspKeys {
        up: direction(esp_key, label::ESP_MOVE, context, b"up"),
        down: direction(esp_key, label::ESP_MOVE, context, b"down"),
    }
}

fn direction<const N: usize>(
    secret: &Secret<32>,
    label: &str,
    context: &MoveContext,
    name: &[u8],
) -> Secret<N> {
    kdf::derive(
        &[],
        &[secret.expose()],
        label,
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
}

/// What a client shows a holder, through another one, to prove that it activated the other.
pub type TookProof = [u8; 16];

/// The proof that the client activated `taker` in this move, for the holder of `branch`: beside the
/// client, only that holder and who gave it the branch can compute it.
#[must_use]
pub fn took_proof(
    branch: &Secret<32>,
    session: SessionId,
    (generation, number): (u32, u32),
    taker: NodeId,
) -> TookProof {
    let proof: Secret<16> = kdf::derive(
        &[],
        &[branch.expose()],
        label::TOOK,
        &[
            &session.0,
            &generation.to_le_bytes(),
            &number.to_le_bytes(),
            &taker.0.to_le_bytes(),
        ],
    );
    *proof.expose()
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
