//! Opaque names of the things a mesh is made of.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// An endpoint node: a machine that can hold sessions.
    NodeId, "n-"
);
id!(
    /// A client of the mesh, whatever its address.
    ClientId, "c-"
);
id!(
    /// A site agent: the door to a protected network.
    SiteId, "s-"
);
id!(
    /// A tunnel that a tunnel backend carries.
    TunnelId, "t-"
);
id!(
    /// A short-lived subnet in which resources live.
    ShardId, "h-"
);
id!(
    /// A key in a key store.
    KeyId, "k-"
);

/// A session between one client and the mesh: eight random bytes, then its client's id. So a session
/// belongs to one client wherever it is known, and nobody else can take one whose id leaked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// A session of `client`. `random` must never come again for the same client.
    #[must_use]
    pub fn new(client: ClientId, random: [u8; 8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&random);
        bytes[8..].copy_from_slice(&client.0.to_le_bytes());
        Self(bytes)
    }

    /// Whether this is a session of `client`.
    #[must_use]
    pub fn belongs_to(self, client: ClientId) -> bool {
        self.0[8..] == client.0.to_le_bytes()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A region of the world, by the operator's own name for it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Region(pub String);

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_belongs_to_its_client_alone() {
        let session = SessionId::new(ClientId(7), [9; 8]);
        assert!(session.belongs_to(ClientId(7)));
        assert!(!session.belongs_to(ClientId(8)));
        assert_ne!(session, SessionId::new(ClientId(7), [8; 8]));
    }
}
