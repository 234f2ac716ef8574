//! The newest membership, kept where a restart finds it.

use std::io;
use std::path::{Path, PathBuf};

use vpnmesh_core::Membership;

use super::durable::{read_at_most, replace_durably};
use crate::{Error, SignedMembership, VerifyingKey};

/// Keeps the newest membership that the pinned root signed, in memory and on disk.
///
/// The version only ever grows.
#[derive(Debug)]
pub struct MembershipStore {
    path: Option<PathBuf>,
    root: VerifyingKey,
    newest: Option<(SignedMembership, Membership)>,
}

/// What became of a membership that was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// It is newer than what was known and is in force now.
    Newer,
    /// It is the one that was in force already.
    Known,
}

impl MembershipStore {
    /// Opens the file and verifies what it holds; no file means that nothing is known yet.
    ///
    /// # Errors
    /// [`Error::Read`], and [`Error::Damaged`] if the file does not hold a membership that `root`
    /// signed. Any other member of the mesh has one that will do.
    pub fn open(path: &Path, root: VerifyingKey) -> Result<Self, Error> {
        let mut store = Self::in_memory(root);
        store.path = Some(path.to_owned());
        match read_at_most(path, SignedMembership::MAX_LEN) {
            Ok(bytes) => {
                let signed = SignedMembership::from_bytes(&bytes);
                let verified = signed.and_then(|signed| {
                    let membership = signed.verify(&store.root)?;
                    Ok((signed, membership))
                });
                store.newest = Some(verified.map_err(|_| Error::Damaged {
                    path: path.to_owned(),
                    expected: "a membership signed by the pinned root key",
                    way_out: "check the root key, or copy the file from another member of the mesh",
                })?);
            }
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(store)
    }

    /// A store that forgets at the end of the process.
    #[must_use]
    pub const fn in_memory(root: VerifyingKey) -> Self {
        Self {
            path: None,
            root,
            newest: None,
        }
    }

    /// The membership in force.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.newest.as_ref().map(|(_, membership)| membership)
    }

    /// The membership in force as it is passed on.
    #[must_use]
    pub fn signed(&self) -> Option<&SignedMembership> {
        self.newest.as_ref().map(|(signed, _)| signed)
    }

    /// The root key by which memberships are checked.
    #[must_use]
    pub const fn root(&self) -> &VerifyingKey {
        &self.root
    }

    /// Takes in a membership from whomever. It is on disk before it is in force.
    ///
    /// # Errors
    /// [`Error::Forged`], [`Error::Unreadable`], [`Error::Membership`], [`Error::Stale`],
    /// [`Error::Conflict`], [`Error::Write`]; what was in force stays.
    pub fn accept(&mut self, signed: SignedMembership) -> Result<Accepted, Error> {
        if self.signed() == Some(&signed) {
            return Ok(Accepted::Known);
        }
        let membership = signed.verify(&self.root)?;
        let offered = membership.version;
        if let Some(have) = self.membership() {
            if *have == membership {
                return Ok(Accepted::Known);
            }
            if have.version == offered {
                return Err(Error::Conflict { version: offered });
            }
            if have.version > offered {
                return Err(Error::Stale {
                    have: have.version,
                    offered,
                });
            }
        }
        if let Some(path) = &self.path {
            replace_durably(path, &signed.to_bytes())?;
        }
        self.newest = Some((signed, membership));
        Ok(Accepted::Newer)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use vpnmesh_core::{ClientEntry, ClientId, PublicKey, Secret, Tier, Version};

    use super::*;
    use crate::SigningKey;

    fn root() -> SigningKey {
        SigningKey::from_seed(Secret::take(&mut [9; 32]))
    }

    fn signed(index: u64, tier: Tier) -> SignedMembership {
        let client = ClientEntry {
            id: ClientId(1),
            name: "c1".into(),
            key: PublicKey([1; 32]),
            prefixes: vec!["10.9.0.1/32".parse().unwrap()],
            tier,
        };
        let membership = Membership {
            version: Version { term: 1, index },
            clients: vec![client],
            ..Membership::default()
        };
        SignedMembership::sign(&membership, &root())
    }

    #[test]
    fn the_newest_membership_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("membership");
        let pinned = || root().verifying_key().clone();
        let mut store = MembershipStore::open(&path, pinned()).unwrap();
        assert_eq!(store.membership(), None);
        assert_eq!(
            store.accept(signed(2, Tier::Basic)).unwrap(),
            Accepted::Newer
        );
        assert_eq!(
            store.accept(signed(2, Tier::Basic)).unwrap(),
            Accepted::Known
        );
        let stale = store.accept(signed(1, Tier::Basic));
        assert!(matches!(stale, Err(Error::Stale { .. })));
        let conflict = store.accept(signed(2, Tier::Premium));
        assert!(matches!(conflict, Err(Error::Conflict { .. })));

        let store = MembershipStore::open(&path, pinned()).unwrap();
        assert_eq!(store.signed(), Some(&signed(2, Tier::Basic)));
    }

    #[test]
    fn a_foreign_or_damaged_file_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("membership");
        let other = SigningKey::from_seed(Secret::take(&mut [1; 32]));
        let foreign = signed(1, Tier::Basic).to_bytes();
        let half = foreign[..foreign.len() / 2].to_vec();
        for (content, pinned) in [(foreign, &other), (half, &root())] {
            fs::write(&path, &content).unwrap();
            let refused = MembershipStore::open(&path, pinned.verifying_key().clone());
            let message = refused.unwrap_err().to_string();
            assert!(message.contains("copy the file from another member"), "{message}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        fs::create_dir(&home).unwrap();
        let path = home.join("membership");
        let mut store = MembershipStore::open(&path, root().verifying_key().clone()).unwrap();
        fs::remove_dir(&home).unwrap();
        let refused = store.accept(signed(1, Tier::Basic)).unwrap_err();
        assert!(matches!(refused, Error::Write { .. }), "{refused}");
        assert_eq!(store.membership(), None);
        fs::create_dir(&home).unwrap();
        assert_eq!(
            store.accept(signed(1, Tier::Basic)).unwrap(),
            Accepted::Newer
        );
    }
}
