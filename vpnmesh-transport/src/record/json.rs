//! The standard form of a session's state, as JSON.
//!
//! The names of the first level and within `crypto_params`, `esp_params` and `port_data` are fixed;
//! everything of ours stands in the object `vpnmesh`, which carries a version. A reader refuses a
//! version that it does not know, tolerates names that it does not know within `vpnmesh`, and
//! refuses them elsewhere. The schema is `docs/session-state.schema.json`.

use std::net::{IpAddr, SocketAddr};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use vpnmesh_core::{ClientId, NodeId, PublicKey, SessionId, Tier};

use super::sealed::Sealed;
use super::{MAX_SOURCES, SessionRecord, form};
use crate::Error;
use crate::suite::{Cipher, Kem, Profile};

/// A session's state for one of its holders.
///
/// What [`SessionDocument::from_json`], [`SessionDocument::from_bytes`] and
/// [`SessionDocument::describe`] return is consistent; who changes fields takes that over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionDocument {
    /// The session.
    #[serde(with = "form")]
    pub session_id: SessionId,
    /// Where the client was last heard.
    pub client_ip: IpAddr,
    /// The client's address inside the tunnel.
    pub client_internal_ip: IpAddr,
    /// How packets of the session are protected.
    pub crypto_params: CryptoParams,
    /// The same for a consumer that speaks ESP.
    pub esp_params: EspParams,
    /// The last sequence number that the primary sealed towards the client. It informs; no holder
    /// continues it, as each has keys of its own.
    pub seq_number: u64,
    /// The outer ports.
    pub port_data: PortData,
    /// Addresses that the client used before, newest first; at most [`MAX_SOURCES`].
    pub source_ips: Vec<IpAddr>,
    /// What this protocol adds.
    pub vpnmesh: Extension,
}

/// How packets of the session are protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CryptoParams {
    /// The packet cipher.
    #[serde(with = "form")]
    pub encryption_algorithm: Cipher,
    /// The key exchange behind the session.
    #[serde(with = "form")]
    pub key_exchange: Kem,
    /// The secret of the holder's branch, sealed to the holder; `None` where it came before.
    #[serde(deserialize_with = "form::present")]
    pub shared_secret: Option<Sealed>,
}

/// How packets are protected by a consumer that speaks ESP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EspParams {
    /// The cipher.
    #[serde(with = "form")]
    pub esp_algorithm: Cipher,
    /// The secret that the ESP keys of each move follow from, sealed to the holder; `None` where it
    /// came before.
    #[serde(deserialize_with = "form::present")]
    pub esp_key: Option<Sealed>,
}

/// The outer ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortData {
    /// The client's port, at `client_ip`.
    pub client_port: u16,
    /// The port at which the holder expects the client.
    pub server_port: u16,
}

/// What this protocol adds to the standard form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// The version of this object: [`VERSION`]. Names may be added without a new one.
    pub version: u32,
    /// Grows with every change of the state, within one generation at least.
    pub revision: u64,
    /// The generation.
    pub generation: u32,
    /// The last move.
    pub number: u32,
    /// The holder that this document is for.
    pub holder: NodeId,
    /// The number of its branch: 0 for the one that began the generation.
    pub rank: u8,
    /// All holders, the primary first; between 1 and [`MAX_HOLDERS`].
    pub holders: Vec<NodeId>,
    /// The client's incarnation counter.
    pub incarnation: u64,
    /// The tier in force.
    pub tier: Tier,
    /// The handshake profile.
    #[serde(with = "form")]
    pub profile: Profile,
    /// Whose session it is.
    pub client_id: ClientId,
    /// The client's static key.
    #[serde(with = "form")]
    pub client_key: PublicKey,
    /// Hash of the handshake behind this generation.
    #[serde(with = "form")]
    pub handshake_hash: [u8; 32],
}

/// What a document says beside the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The holder that the document is for.
    pub holder: NodeId,
    /// The number of its branch.
    pub rank: u8,
    /// The client's address inside the tunnel.
    pub client_internal_ip: IpAddr,
    /// The port at which the holder expects the client.
    pub server_port: u16,
    /// The last sequence number that the primary sealed towards the client.
    pub seq_number: u64,
}

impl SessionDocument {
    /// Describes a session to one of its holders, without secrets.
    ///
    /// # Errors
    /// [`Error::Document`] if the record names a code that does not exist, or other holders.
    pub fn describe(record: &SessionRecord, place: &Placement) -> Result<Self, Error> {
        let profile = Profile::from_code(record.profile)
            .ok_or_else(|| wrong("vpnmesh.profile", format_args!("code {}", record.profile)))?;
        let cipher = Cipher::from_code(record.cipher).ok_or_else(|| {
            let reason = format_args!("code {}", record.cipher);
            wrong("crypto_params.encryption_algorithm", reason)
        })?;
        let document = Self {
            session_id: record.session,
            client_ip: record.client_address.ip(),
            client_internal_ip: place.client_internal_ip,
            crypto_params: CryptoParams {
                encryption_algorithm: cipher,
                key_exchange: profile.kem(),
                shared_secret: None,
            },
            esp_params: EspParams {
                esp_algorithm: cipher,
                esp_key: None,
            },
            seq_number: place.seq_number,
            port_data: PortData {
                client_port: record.client_address.port(),
                server_port: place.server_port,
            },
            source_ips: record.source_ips.clone(),
            vpnmesh: Extension {
                version: VERSION,
                revision: record.version,
                generation: record.generation,
                number: record.number,
                holder: place.holder,
                rank: place.rank,
                holders: record.holders.clone(),
                incarnation: record.client_incarnation,
                tier: record.tier,
                profile,
                client_id: record.client,
                client_key: record.client_key,
                handshake_hash: record.handshake_hash,
            },
        };
        document.check()?;
        Ok(document)
    }

    /// The record that it describes.
    #[must_use]
    pub fn record(&self) -> SessionRecord {
        let ours = &self.vpnmesh;
        SessionRecord {
            session: self.session_id,
            version: ours.revision,
            client: ours.client_id,
            client_key: ours.client_key,
            client_incarnation: ours.incarnation,
            client_address: SocketAddr::new(self.client_ip, self.port_data.client_port),
            source_ips: self.source_ips.clone(),
            generation: ours.generation,
            number: ours.number,
            holders: ours.holders.clone(),
            tier: ours.tier,
            profile: ours.profile.code(),
            cipher: self.crypto_params.encryption_algorithm.code(),
            handshake_hash: ours.handshake_hash,
        }
    }

    /// The document as JSON, without white space.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("all names are strings and all values have a JSON form")
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// [`Error::Document`] names the first field that is missing, unknown, twice there, too long,
    /// of another form, or at odds with another field.
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        if text.len() > MAX_JSON {
            let reason = format_args!("{} bytes, at most {MAX_JSON} are read", text.len());
            return Err(wrong("document", reason));
        }
        check_objects(text)?;
        let mut json = serde_json::Deserializer::from_slice(text);
        let mut track = serde_path_to_error::Track::new();
        let from = serde_path_to_error::Deserializer::new(&mut json, &mut track);
        let document = Layout::deserialize(from)
            .map_err(|error| named(&track.path().to_string(), &error.to_string()))?;
        document.check()?;
        Ok(document)
    }

    /// Whether what it says goes together.
    pub(super) fn check(&self) -> Result<(), Error> {
        let ours = &self.vpnmesh;
        if ours.version != VERSION {
            let reason = format_args!("{}, only {VERSION} is known", ours.version);
            return Err(wrong("vpnmesh.version", reason));
        }
        if self.source_ips.len() > MAX_SOURCES {
            let reason = format_args!("{} entries, at most {MAX_SOURCES}", self.source_ips.len());
            return Err(wrong("source_ips", reason));
        }
        self.check_holders()?;
        let (profile, crypto) = (ours.profile, &self.crypto_params);
        if crypto.key_exchange != profile.kem() {
            let reason = format_args!("is not the one of profile {}", profile.name());
            return Err(wrong("crypto_params.key_exchange", reason));
        }
        for (field, cipher) in [
            (
                "crypto_params.encryption_algorithm",
                crypto.encryption_algorithm,
            ),
            ("esp_params.esp_algorithm", self.esp_params.esp_algorithm),
        ] {
            if !profile.ciphers().contains(&cipher) {
                let reason = format_args!("does not belong to profile {}", profile.name());
                return Err(wrong(field, reason));
            }
        }
        Ok(())
    }

    fn check_holders(&self) -> Result<(), Error> {
        let ours = &self.vpnmesh;
        let holders = &ours.holders;
        let twice = |at: usize| holders[..at].contains(&holders[at]);
        if holders.is_empty() || holders.len() > MAX_HOLDERS || (0..holders.len()).any(twice) {
            let reason = format_args!("not between 1 and {MAX_HOLDERS} different nodes");
            return Err(wrong("vpnmesh.holders", reason));
        }
        if !holders.contains(&ours.holder) {
            let reason = format_args!("{} is none of the holders", ours.holder);
            return Err(wrong("vpnmesh.holder", reason));
        }
        if usize::from(ours.rank) >= MAX_HOLDERS {
            let reason = format_args!("{}, ranks end at {}", ours.rank, MAX_HOLDERS - 1);
            return Err(wrong("vpnmesh.rank", reason));
        }
        Ok(())
    }
}

/// The layout of a document, before [`SessionDocument::check`].
#[derive(Deserialize)]
#[serde(remote = "SessionDocument", deny_unknown_fields)]
pub(super) struct Layout {
    #[serde(with = "form")]
    session_id: SessionId,
    client_ip: IpAddr,
    client_internal_ip: IpAddr,
    crypto_params: CryptoParams,
    esp_params: EspParams,
    seq_number: u64,
    port_data: PortData,
    source_ips: Vec<IpAddr>,
    vpnmesh: Extension,
}

impl<'de> Deserialize<'de> for SessionDocument {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let document = Layout::deserialize(from)?;
        document.check().map_err(D::Error::custom)?;
        Ok(document)
    }
}

/// Refuses arrays where objects belong: serde takes the fields of a struct in their order, too.
fn check_objects(text: &[u8]) -> Result<(), Error> {
    let value: serde_json::Value =
        serde_json::from_slice(text).map_err(|error| wrong("document", format_args!("{error}")))?;
    for (pointer, field) in [
        ("", "document"),
        ("/crypto_params", "crypto_params"),
        ("/esp_params", "esp_params"),
        ("/port_data", "port_data"),
        ("/vpnmesh", "vpnmesh"),
    ] {
        if value
            .pointer(pointer)
            .is_some_and(|value| !value.is_object())
        {
            return Err(wrong(field, format_args!("expected an object")));
        }
    }
    Ok(())
}

pub(super) fn wrong(field: &str, reason: std::fmt::Arguments<'_>) -> Error {
    Error::Document {
        field: field.to_owned(),
        reason: reason.to_string(),
    }
}

/// The error of a field at `path`, or of a field within it that the reason itself names.
fn named(path: &str, reason: &str) -> Error {
    let inner = ["missing field `", "unknown field `", "duplicate field `"]
        .into_iter()
        .find_map(|start| reason.strip_prefix(start)?.split('`').next());
    let outer = Some(path).filter(|path| *path != ".");
    let field = match (outer, inner) {
        (Some(outer), Some(inner)) if outer.rsplit('.').next() != Some(inner) => {
            format!("{outer}.{inner}")
        }
        (Some(outer), _) => outer.to_owned(),
        (None, Some(inner)) => inner.to_owned(),
        (None, None) => "document".to_owned(),
    };
    wrong(&field, format_args!("{reason}"))
}

/// The version of [`Extension`] that this crate reads and writes.
pub const VERSION: u32 = 1;
/// The longest JSON text that is read, in bytes: three times the longest one that is written.
pub const MAX_JSON: usize = 16 * 1024;
/// More holders than any tier has.
pub const MAX_HOLDERS: usize = 8;
