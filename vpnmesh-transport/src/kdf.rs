//! Key derivation: HKDF-SHA256 with the labels of this protocol.
//!
//! All labels of the crate stand in [`label`]; no two are equal, and a zero byte ends each.

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use vpnmesh_core::Secret;

/// Derives a secret: HKDF-SHA256 (RFC 5869) with `salt`, input key material `ikm` and
/// `info` = label, a zero byte, then each part with its length in two bytes (little endian).
///
/// Use one of the labels in [`mod@label`] for each purpose; parts are at most 65 535 bytes long.
#[must_use]
pub fn derive<const N: usize>(
    salt: &[u8],
    ikm: &[&[u8]],
    label: &str,
    info: &[&[u8]],
) -> Secret<N> {
    let mut extract = hkdf::HkdfExtract::<Sha256>::new(Some(salt));
    for part in ikm {
        extract.input_ikm(part);
    }
    let (mut prk, hkdf): (_, Hkdf<Sha256>) = extract.finalize();
    zeroize::Zeroize::zeroize(prk.as_mut_slice());
    let info = framed(label, info);
    let mut out = [0; N];
    hkdf.expand(&info, &mut out)
        .expect("N is below 255 hash lengths");
    Secret::take(&mut out)
}

/// SHA-256 over the label and the parts, framed as in [`derive()`].
#[must_use]
pub fn digest(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(framed(label, parts)).into()
}

/// `label`, a zero byte, then each part with its length in two bytes (little endian).
pub(crate) fn framed(label: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes =
        Vec::with_capacity(label.len() + 1 + parts.iter().map(|p| p.len() + 2).sum::<usize>());
    bytes.extend_from_slice(label.as_bytes());
    bytes.push(0);
    for part in parts {
        let len = u16::try_from(part.len()).expect("parts are shorter than 64 KiB");
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Every label of the protocol.
pub mod label {
    /// First part of the prologue of every handshake; the header of A follows.
    pub const PROLOGUE: &str = "vpnmesh v1 handshake";
    /// The commitment of A to all key chunks.
    pub const COMMIT: &str = "vpnmesh v1 commit";
    /// One chunk under the commitment.
    pub const CHUNK: &str = "vpnmesh v1 chunk";
    /// The hash of all KEM ciphertexts.
    pub const CIPHERTEXT: &str = "vpnmesh v1 ciphertext";
    /// The transcript that psk2 is bound to.
    pub const TRANSCRIPT: &str = "vpnmesh v1 transcript";
    /// psk2 of an accepting response.
    pub const PSK2: &str = "vpnmesh v1 psk2";
    /// psk2 of an accepting response to a handshake without ML-KEM.
    pub const CLASSICAL: &str = "vpnmesh v1 classical psk2";
    /// psk2 of a refusal, without KEM material.
    pub const REFUSAL: &str = "vpnmesh v1 refusal";
    /// The root secret of a session.
    pub const ROOT: &str = "vpnmesh v1 root";
    /// A secret for another program at both ends.
    pub const EXPORT: &str = "vpnmesh v1 export";
    /// The handshake hash as others see it.
    pub const BINDING: &str = "vpnmesh v1 binding";
    /// Key of mac1 towards a responder.
    pub const MAC1: &str = "vpnmesh v1 mac1";
    /// Key of the MAC of everything that a responder sends back.
    pub const MAC_BACK: &str = "vpnmesh v1 mac back";
    /// Key that seals a cookie.
    pub const COOKIE: &str = "vpnmesh v1 cookie";
    /// Key that spreads source addresses over buckets.
    pub const SOURCES: &str = "vpnmesh v1 sources";
    /// A holder's branch of a generation.
    pub const BRANCH: &str = "vpnmesh v1 branch";
    /// A branch bound to the static keys of its client and its holder.
    pub const BOUND: &str = "vpnmesh v1 bound branch";
    /// What a branch leaves for the generation after it.
    pub const NEXT: &str = "vpnmesh v1 next secret";
    /// The root of a generation that began inside the tunnel.
    pub const NEXT_ROOT: &str = "vpnmesh v1 root of generation";
    /// The keys of a move.
    pub const MOVE: &str = "vpnmesh v1 packets of move";
    /// The proof for a holder that the client activated another one.
    pub const TOOK: &str = "vpnmesh v1 took over";
    /// The hash that an activation is known by when it comes again.
    pub const ACTIVATION: &str = "vpnmesh v1 activation";
    /// The nonce of the move that a handshake makes by itself.
    pub const FIRST_NONCE: &str = "vpnmesh v1 first move";
    /// The receipt key of client and site.
    pub const RECEIPT: &str = "vpnmesh v1 receipts";
    /// What a branch leaves for a consumer that speaks ESP.
    pub const ESP: &str = "vpnmesh v1 esp of branch";
    /// The ESP keys of a move.
    pub const ESP_MOVE: &str = "vpnmesh v1 esp packets of move";
    /// What a value sealed to a holder is bound to.
    pub const SEALED: &str = "vpnmesh v1 sealed to holder";
    /// Blocks of the seeded generator.
    pub const SEEDED: &str = "vpnmesh v1 seeded entropy";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_boundary_between_parts_changes_the_result() {
        let one: Secret<32> = derive(b"s", &[b"k"], label::ROOT, &[b"ab", b"c"]);
        let two: Secret<32> = derive(b"s", &[b"k"], label::ROOT, &[b"a", b"bc"]);
        assert_ne!(one, two);
        assert_ne!(
            digest(label::CHUNK, &[b"ab"]),
            digest(label::CHUNK, &[b"a", b"b"])
        );
    }

    #[test]
    fn key_material_in_pieces_counts_as_one() {
        let one: Secret<32> = derive(b"s", &[b"key"], label::ROOT, &[]);
        let two: Secret<32> = derive(b"s", &[b"k", b"ey"], label::ROOT, &[]);
        assert_eq!(one, two);
    }
}
