//! The standard form of a session's state, and the secrets in it.

use std::sync::OnceLock;

use vpnmesh_core::{NodeId, Secret, SessionId};
use vpnmesh_transport::record::{
    HolderKey, Purpose, SealContext, Sealed, SealingIdentity, SessionDocument,
};
use vpnmesh_transport::{Cipher, Profile, SeededEntropy};

/// Documents in JSON.
pub fn document_json(data: &[u8]) {
    if let Ok(document) = SessionDocument::from_json(data) {
        check(&document);
    }
}

/// Documents in few bytes.
pub fn document_binary(data: &[u8]) {
    if let Ok(document) = SessionDocument::from_bytes(data) {
        check(&document);
    }
}

/// What was read is consistent, has both forms, and opens for its holder or for nobody.
fn check(document: &SessionDocument) {
    let json = SessionDocument::from_json(document.to_json().as_bytes());
    assert_eq!(json.ok().as_ref(), Some(document));
    let binary = SessionDocument::from_bytes(&document.to_bytes());
    assert_eq!(binary.ok().as_ref(), Some(document));
    assert!(document.record().is_bounded());
    let _ = document.open(own());
    let bare = document.clone().without_secrets();
    assert!(bare.crypto_params.shared_secret.is_none() && bare.esp_params.esp_key.is_none());
}

/// Sealed values and the keys that they are sealed to.
pub fn sealed_values(data: &[u8]) {
    let context = SealContext {
        session: SessionId([1; 16]),
        generation: 1,
        rank: 1,
        profile: Profile::Standard,
        cipher: Cipher::Aes256Gcm,
        purpose: Purpose::SharedSecret,
    };
    if let Some(sealed) = Sealed::from_bytes(data) {
        assert_eq!(sealed.as_bytes(), data);
        let _ = sealed.open(own(), &context);
    }
    if let Ok(key) = HolderKey::from_bytes(HOLDER, data) {
        assert_eq!(key.to_bytes().as_slice(), data);
        let secret = Secret::take(&mut [3; 32]);
        let _ = Sealed::seal(&secret, &key, &context, &mut SeededEntropy::new(1));
    }
}

fn own() -> &'static SealingIdentity {
    static OWN: OnceLock<SealingIdentity> = OnceLock::new();
    OWN.get_or_init(|| SealingIdentity::from_seed(HOLDER, &Secret::take(&mut [0xa5; 32])))
}

const HOLDER: NodeId = NodeId(2);
