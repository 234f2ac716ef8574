//! Base64 that wipes what it touched.

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use vpnmesh_core::Secret;
use zeroize::Zeroizing;

pub(crate) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(bytes))
}

pub(crate) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    STANDARD.decode(text).ok().map(Zeroizing::new)
}

/// Exactly `N` bytes, padded and canonical.
pub(crate) fn decode_array<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    let bytes = decode(text)?;
    let array: [u8; N] = bytes.as_slice().try_into().ok()?;
    Some(Zeroizing::new(array))
}

/// A secret in 44 characters of base64, as WireGuard reads its keys. Never log it.
#[must_use]
pub fn secret_to_base64(secret: &Secret<32>) -> Zeroizing<String> {
    encode(secret.expose())
}
