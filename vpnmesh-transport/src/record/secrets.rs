//! The secrets within a session document: put in for one holder, taken out by it.

use vpnmesh_core::Secret;

use super::json::SessionDocument;
use super::sealed::{HolderKey, Purpose, SealContext, Sealed, SealingIdentity};
use crate::entropy::Entropy;
use crate::{Error, schedule};

/// What a holder finds in its document.
#[derive(Debug, PartialEq, Eq)]
pub struct SessionSecrets {
    /// The secret of the holder's branch.
    pub shared_secret: Secret<32>,
    /// What the branch gives to a consumer that speaks ESP: see [`schedule::esp_keys`].
    pub esp_key: Secret<32>,
}

impl SessionDocument {
    /// Seals the holder's branch, and the ESP key that follows from it, into the document.
    ///
    /// # Errors
    /// [`Error::OtherHolder`] if the key belongs to another holder than the document; it stays as
    /// it was.
    pub fn seal(
        &mut self,
        branch: &Secret<32>,
        to: &HolderKey,
        entropy: &mut dyn Entropy,
    ) -> Result<(), Error> {
        self.belongs_to(to.holder())?;
        let mut seal = |secret: &Secret<32>, purpose| {
            Some(Sealed::seal(secret, to, &self.context(purpose), entropy))
        };
        let shared_secret = seal(branch, Purpose::SharedSecret);
        let esp_key = seal(&schedule::esp_key(branch), Purpose::EspKey);
        self.crypto_params.shared_secret = shared_secret;
        self.esp_params.esp_key = esp_key;
        Ok(())
    }

    /// Takes the secrets out.
    ///
    /// # Errors
    /// - [`Error::OtherHolder`]: the document is for another holder.
    /// - [`Error::NotSealed`]: it carries no secrets; they came with an earlier one.
    /// - [`Error::Unsealing`]: a secret was sealed with another key or for another place, or the
    ///   two do not belong together.
    pub fn open(&self, own: &SealingIdentity) -> Result<SessionSecrets, Error> {
        self.belongs_to(own.holder())?;
        let open = |sealed: &Option<Sealed>, purpose: Purpose| {
            let sealed = sealed.as_ref().ok_or(Error::NotSealed {
                field: purpose.name(),
            })?;
            sealed.open(own, &self.context(purpose))
        };
        let shared_secret = open(&self.crypto_params.shared_secret, Purpose::SharedSecret)?;
        let esp_key = open(&self.esp_params.esp_key, Purpose::EspKey)?;
        if esp_key != schedule::esp_key(&shared_secret) {
            return Err(Error::Unsealing {
                field: Purpose::EspKey.name(),
                holder: own.holder(),
            });
        }
        Ok(SessionSecrets {
            shared_secret,
            esp_key,
        })
    }

    /// The document without its secrets: what is sent again within a generation.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        self.crypto_params.shared_secret = None;
        self.esp_params.esp_key = None;
        self
    }

    /// The place of one of its secrets.
    #[must_use]
    pub const fn context(&self, purpose: Purpose) -> SealContext {
        SealContext {
            session: self.session_id,
            generation: self.vpnmesh.generation,
            rank: self.vpnmesh.rank,
            profile: self.vpnmesh.profile,
            cipher: match purpose {
                Purpose::SharedSecret => self.crypto_params.encryption_algorithm,
                Purpose::EspKey => self.esp_params.esp_algorithm,
            },
            purpose,
        }
    }

    fn belongs_to(&self, holder: vpnmesh_core::NodeId) -> Result<(), Error> {
        let named = self.vpnmesh.holder;
        if named == holder {
            Ok(())
        } else {
            Err(Error::OtherHolder { named, holder })
        }
    }
}
