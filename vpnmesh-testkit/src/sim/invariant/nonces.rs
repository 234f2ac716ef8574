//! No (key, nonce) is ever sealed twice with different content, over all actors, zombies and clones.

use super::{Broken, broken};
use crate::sim::ledger;

/// The law's name.
pub const LAW: &str = "no nonce twice";

/// Looks into the ledger of this thread.
///
/// # Errors
/// The first reuse.
pub fn check() -> Result<(), Broken> {
    match ledger::first_reuse() {
        None => Ok(()),
        Some(reuse) => Err(broken(LAW, format!("{reuse:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use vpnmesh_core::Secret;
    use vpnmesh_transport::Cipher;

    use super::*;

    #[test]
    fn a_counter_that_covers_two_texts_breaks_the_law() {
        ledger::reset();
        let seal = |text: &[u8]| {
            let key = Secret::take(&mut [9; 32]);
            let aead = (ledger::suite().aead)(Cipher::ChaCha20Poly1305, &key);
            aead.seal(5, b"head", &mut text.to_vec());
        };
        seal(b"first");
        seal(b"first");
        assert_eq!(check(), Ok(()));
        seal(b"other");
        assert_eq!(check().unwrap_err().law, LAW);
        ledger::reset();
    }
}
