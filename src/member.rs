//! The directory in which a member keeps what it is.
//!
//! ```text
//! identity.key   its X25519 key, as `wg genkey` prints it
//! root.pub       the verifying key of the mesh, pinned
//! membership     the newest signed membership
//! incarnation    how often it has started
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use vpnmesh_core::{Membership, PublicKey};
use vpnmesh_keys::{IdentityKey, IncarnationFile, MembershipStore, SignedMembership, VerifyingKey};
use vpnmesh_transport::station::{StationConfig, Verifier};
use vpnmesh_transport::{Ciphers, CryptoSuite, Identity, Incarnation, Marking, OsEntropy, Profile};

use crate::Error;

/// A member's state directory, opened by its one process.
#[derive(Debug)]
pub struct Member {
    identity: IdentityKey,
    incarnations: IncarnationFile,
    memberships: MembershipStore,
}

/// Checks memberships under the pinned root key.
#[derive(Debug)]
pub struct PinnedRoot(pub VerifyingKey);

impl Verifier for PinnedRoot {
    fn verify(&self, signed: &[u8]) -> Option<Membership> {
        let signed = SignedMembership::from_bytes(signed).ok()?;
        signed.verify(&self.0).ok()
    }
}

impl Member {
    /// Opens a state directory and locks it against other processes.
    ///
    /// # Errors
    /// [`Error::Keys`], which names the file and the way out; [`Error::NoMembership`].
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let root = VerifyingKey::read(&directory.join(ROOT))?;
        let identity = IdentityKey::read(&directory.join(IDENTITY))?;
        let memberships = MembershipStore::open(&directory.join(MEMBERSHIP), root)?;
        if memberships.membership().is_none() {
            return Err(Error::NoMembership {
                path: directory.to_owned(),
            });
        }
        Ok(Self {
            identity,
            incarnations: IncarnationFile::open(&directory.join(INCARNATION))?,
            memberships,
        })
    }

    /// The member's public key.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.identity.public()
    }

    /// The pinned root key.
    #[must_use]
    pub const fn root(&self) -> &VerifyingKey {
        self.memberships.root()
    }

    /// The newest membership.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        let newest = self.memberships.membership();
        newest.expect("opening refuses a directory without one, and none is ever removed")
    }

    /// Begins a life: what a machine is started with. The counter is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Keys`] if the disk refuses; nothing may be sent then.
    pub fn begin(&mut self, profile: Profile) -> Result<StationConfig, Error> {
        let suite = CryptoSuite::preferred();
        let life = self.incarnations.advance()?;
        let signed = self.memberships.signed();
        Ok(StationConfig {
            suite,
            identity: Identity::from_secret(&suite, self.identity.secret().duplicate()),
            incarnation: Incarnation {
                counter: life.counter,
                random: life.random,
            },
            entropy: Box::new(OsEntropy::new()?),
            profile,
            ciphers: Ciphers::of_this_machine(),
            site_secret: None,
            membership: signed.map(SignedMembership::to_bytes).unwrap_or_default(),
            verifier: Box::new(PinnedRoot(self.memberships.root().clone())),
            marking: Marking::default(),
        })
    }

    /// Begins a new life above the counter that a peer has seen.
    ///
    /// # Errors
    /// [`Error::Keys`] if the disk refuses or `seen` is absurd.
    pub fn begin_again(&mut self, seen: u64) -> Result<Incarnation, Error> {
        let life = self.incarnations.repair(seen)?;
        Ok(Incarnation {
            counter: life.counter,
            random: life.random,
        })
    }

    /// Keeps a membership that the machine took over.
    ///
    /// # Errors
    /// [`Error::Keys`]; what was on disk stays, and the next one may succeed.
    pub fn keep(&mut self, signed: &[u8]) -> Result<(), Error> {
        self.memberships
            .accept(SignedMembership::from_bytes(signed)?)?;
        Ok(())
    }

    /// Any local address from which all nodes can be reached.
    pub(crate) fn any_address(&self) -> SocketAddr {
        let mut addresses = self
            .membership()
            .nodes
            .iter()
            .flat_map(|node| &node.addresses);
        let any: IpAddr = if addresses.any(SocketAddr::is_ipv6) {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        SocketAddr::new(any, 0)
    }
}

/// The files of a member, for whoever provisions it.
pub(crate) fn paths(directory: &Path) -> [PathBuf; 3] {
    [IDENTITY, ROOT, MEMBERSHIP].map(|name| directory.join(name))
}

const IDENTITY: &str = "identity.key";
const ROOT: &str = "root.pub";
const MEMBERSHIP: &str = "membership";
const INCARNATION: &str = "incarnation";
