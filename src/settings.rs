//! Settings files: TOML or JSON, one per process, with paths relative to the file.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vpnmesh_core::{ByteCount, FailoverPolicy, Ratio};
use vpnmesh_keys::ProfileLimits;
use vpnmesh_transport::{Dscp, DscpPolicy, Marking, Profile};

use crate::Error;

/// Settings that come from a file.
pub trait FromFile: DeserializeOwned {
    /// Makes relative paths start at `base`, the directory of the file.
    fn anchor(&mut self, base: &Path);

    /// Reads a file: JSON if its name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// [`Error::Unreadable`], [`Error::Settings`]; both name the file, the place and the way out.
    fn read(path: &Path) -> Result<Self, Error> {
        let text = read_text(path)?;
        let wrong = |reason: String| Error::Settings {
            path: path.to_owned(),
            reason,
        };
        let is_json = path.extension().is_some_and(|ending| ending == "json");
        let mut settings: Self = if is_json {
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?
        } else {
            toml::from_str(&text).map_err(|error| wrong(toml_reason(&text, &error)))?
        };
        let base = path.parent().filter(|base| !base.as_os_str().is_empty());
        settings.anchor(base.unwrap_or(Path::new(".")));
        Ok(settings)
    }
}

/// The TUN device of a client or a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunSettings {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Largest inner packet in bytes. Default 1420; larger ones are split on paths of 1500 bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// Addresses with their prefix length. Default: those of the membership for a client, none for
    /// a site.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// Whether to set addresses and routes and to bring the device up. Default true; with false an
    /// administrator does it.
    #[serde(default = "yes")]
    pub configure: bool,
}

impl TunSettings {
    /// The defaults for a device of that name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mtu: default_mtu(),
            addresses: Vec::new(),
            configure: true,
        }
    }
}

/// Which processor time counts as a node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuSource {
    /// All of the host.
    #[default]
    Host,
    /// The processes of this one's process group: for hosts that carry several nodes.
    Process,
}

/// The handshake profile that a member asks for, and the weakest that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileSetting {
    /// X25519 with ML-KEM-768, AES-128-GCM.
    Light,
    /// X25519 with ML-KEM-768, AES-256-GCM or ChaCha20-Poly1305.
    #[default]
    Standard,
    /// X25519 with ML-KEM-1024.
    High,
}

impl From<ProfileSetting> for Profile {
    fn from(setting: ProfileSetting) -> Self {
        match setting {
            ProfileSetting::Light => Self::Light,
            ProfileSetting::Standard => Self::Standard,
            ProfileSetting::High => Self::High,
        }
    }
}

/// The DSCP of outer headers: a number from 0 to 63, or `copy` for that of the inner packets, by which
/// observers tell them apart. Default 0. ECN bits are carried in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "DscpValue", into = "DscpValue")]
pub struct DscpSetting(pub DscpPolicy);

/// [`DscpSetting`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum DscpValue {
    Number(i64),
    Word(String),
}

impl DscpSetting {
    /// How outer headers are marked then.
    #[must_use]
    pub const fn marking(self) -> Marking {
        Marking {
            ecn: true,
            dscp: self.0,
        }
    }
}

impl FromStr for DscpSetting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == COPY {
            return Ok(Self(DscpPolicy::Copy));
        }
        let number = text.parse().ok().and_then(Dscp::new);
        let wrong = || Error::invalid("dscp", text, "is neither `copy` nor a number from 0 to 63");
        number.map(DscpPolicy::Fixed).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for DscpSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DscpPolicy::Fixed(dscp) => write!(f, "{}", dscp.number()),
            DscpPolicy::Copy => f.write_str(COPY),
        }
    }
}

impl TryFrom<DscpValue> for DscpSetting {
    type Error = Error;

    fn try_from(value: DscpValue) -> Result<Self, Error> {
        match value {
            DscpValue::Number(number) => number.to_string().parse(),
            DscpValue::Word(word) => word.parse(),
        }
    }
}

impl From<DscpSetting> for DscpValue {
    fn from(setting: DscpSetting) -> Self {
        match setting.0 {
            DscpPolicy::Fixed(dscp) => Self::Number(dscp.number().into()),
            DscpPolicy::Copy => Self::Word(COPY.to_owned()),
        }
    }
}

/// Where a node finds its controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlSettings {
    /// Its address.
    pub address: SocketAddr,
    /// The directory with `ca.pem`, `cert.pem` and `key.pem`.
    pub credentials: PathBuf,
}

/// [`FailoverPolicy`] as a file says it: shares in 0 to 1, spans in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailoverSettings {
    /// [`FailoverPolicy::threshold`].
    pub threshold: Ratio,
    /// [`FailoverPolicy::recede`].
    pub recede: Ratio,
    /// [`FailoverPolicy::horizon`].
    pub horizon_ms: u64,
    /// [`FailoverPolicy::initial_weight`].
    pub initial_weight: Ratio,
    /// [`FailoverPolicy::step_size`].
    pub step_size: Ratio,
    /// [`FailoverPolicy::step_interval`].
    pub step_interval_ms: u64,
    /// [`FailoverPolicy::dwell`].
    pub dwell_ms: u64,
    /// [`FailoverPolicy::warm_timeout`].
    pub warm_timeout_ms: u64,
    /// [`FailoverPolicy::drain_timeout`].
    pub drain_timeout_ms: u64,
}

impl Default for FailoverSettings {
    fn default() -> Self {
        let policy = FailoverPolicy::default();
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            threshold: policy.threshold,
            recede: policy.recede,
            horizon_ms: millis(policy.horizon),
            initial_weight: policy.initial_weight,
            step_size: policy.step_size,
            step_interval_ms: millis(policy.step_interval),
            dwell_ms: millis(policy.dwell),
            warm_timeout_ms: millis(policy.warm_timeout),
            drain_timeout_ms: millis(policy.drain_timeout),
        }
    }
}

impl FailoverSettings {
    /// The policy that these settings mean.
    ///
    /// # Errors
    /// [`Error::Policy`] for the first field that makes no sense.
    pub fn policy(&self) -> Result<FailoverPolicy, Error> {
        let policy = FailoverPolicy {
            threshold: self.threshold,
            recede: self.recede,
            horizon: Duration::from_millis(self.horizon_ms),
            initial_weight: self.initial_weight,
            step_size: self.step_size,
            step_interval: Duration::from_millis(self.step_interval_ms),
            dwell: Duration::from_millis(self.dwell_ms),
            warm_timeout: Duration::from_millis(self.warm_timeout_ms),
            drain_timeout: Duration::from_millis(self.drain_timeout_ms),
        };
        policy.check()?;
        Ok(policy)
    }
}

/// When the keys of a session have served long enough, as a file says it: the fields of
/// [`ProfileLimits`]. What is left out is as the profile has it.
///
/// The transport's own limits stay as they are: it asks for fresh secrets every two minutes in any
/// case, and no key seals more than its cipher bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeySettings {
    /// Age in milliseconds at which fresh secrets are asked for; at least 1000. Default by profile:
    /// 120000 (standard), 30000 (high), 300000 (light).
    pub rotate_age_ms: Option<u64>,
    /// The same in bytes of one direction; more than zero. Default 64, 1 and 32 GiB.
    pub rotate_bytes: Option<u64>,
    /// The same in packets of one direction; more than zero. Default 2^32, 2^26 and 2^31.
    pub rotate_packets: Option<u64>,
    /// Age in milliseconds at which nothing more is sealed; more than `rotate_age_ms`. Default
    /// 540000, 240000 and 900000.
    pub stop_age_ms: Option<u64>,
}

impl KeySettings {
    /// The policy that these settings mean for a profile.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the first field that makes no sense.
    pub fn policy(&self, profile: ProfileSetting) -> Result<ProfileLimits, Error> {
        let mut limits = match profile {
            ProfileSetting::Light => ProfileLimits::light(),
            ProfileSetting::Standard => ProfileLimits::standard(),
            ProfileSetting::High => ProfileLimits::high(),
        };
        let refused = |what, value: u64, wanted: &str| Err(Error::invalid(what, value, wanted));
        if let Some(age) = self.rotate_age_ms {
            if age < MIN_KEY_AGE_MS {
                return refused("setting keys.rotate_age_ms", age, "must be at least 1000");
            }
            limits.rotate.age = Duration::from_millis(age);
        }
        if let Some(bytes) = self.rotate_bytes {
            if bytes == 0 {
                return refused("setting keys.rotate_bytes", bytes, "must be more than zero");
            }
            limits.rotate.volume = ByteCount(bytes);
        }
        if let Some(packets) = self.rotate_packets {
            if packets == 0 {
                return refused(
                    "setting keys.rotate_packets",
                    packets,
                    "must be more than zero",
                );
            }
            limits.rotate.packets = packets;
        }
        if let Some(age) = self.stop_age_ms {
            limits.stop.age = Duration::from_millis(age);
        }
        if limits.stop.age <= limits.rotate.age {
            let stop = u64::try_from(limits.stop.age.as_millis()).unwrap_or(u64::MAX);
            return refused(
                "setting keys.stop_age_ms",
                stop,
                "must be more than rotate_age_ms",
            );
        }
        Ok(limits)
    }
}

pub(crate) fn anchor(path: &mut PathBuf, base: &Path) {
    if path.is_relative() {
        *path = base.join(&*path);
    }
}

fn read_text(path: &Path) -> Result<String, Error> {
    let unreadable = |reason: String| Error::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if length > MAX_LEN {
        let reason = format!("{length} bytes are no settings; at most {MAX_LEN} are read");
        return Err(unreadable(reason));
    }
    fs::read_to_string(path).map_err(|error| {
        let way_out = match error.kind() {
            io::ErrorKind::NotFound => "; check the path, or make it with `vpnmesh provision`",
            io::ErrorKind::PermissionDenied => "; let this user read it",
            io::ErrorKind::IsADirectory => "; name the file in it",
            io::ErrorKind::InvalidData => "; it is no text",
            _ => "",
        };
        unreadable(format!("{error}{way_out}"))
    })
}

/// The library's message draws the line over several lines; one is enough.
fn toml_reason(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    match error.span() {
        Some(span) => {
            let start = span.start.min(text.len());
            let line = text.as_bytes()[..start]
                .iter()
                .filter(|&&byte| byte == b'\n');
            format!("line {}: {message}", line.count() + 1)
        }
        None => message,
    }
}

fn default_mtu() -> u32 {
    1420 // 1500 less IPv6, UDP, header and tag, as WireGuard
}

fn yes() -> bool {
    true
}

const COPY: &str = "copy";
const MAX_LEN: u64 = 1 << 20;
/// Below it, handshakes follow each other faster than a far holder answers them.
const MIN_KEY_AGE_MS: u64 = 1000;

#[cfg(test)]
mod tests {
    use vpnmesh_core::{KeyDecision, KeyPolicy, KeyUsage, ThreatLevel};

    use super::*;

    #[test]
    fn keys_live_as_the_profile_has_it_but_for_what_is_set() {
        let settings = KeySettings {
            rotate_bytes: Some(1 << 20),
            ..KeySettings::default()
        };
        let policy = settings.policy(ProfileSetting::High).unwrap();
        assert_eq!(policy.rotate.age, ProfileLimits::high().rotate.age);
        let usage = KeyUsage {
            volume: ByteCount(1 << 20),
            ..KeyUsage::default()
        };
        let decision = policy.decide(&usage, ThreatLevel::Normal);
        assert!(matches!(decision, KeyDecision::Rotate { .. }));
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Outer {
        dscp: DscpSetting,
    }

    #[test]
    fn a_dscp_is_a_number_or_copy() {
        for (text, policy) in [
            ("dscp = 46\n", DscpPolicy::Fixed(Dscp::new(46).unwrap())),
            ("dscp = \"copy\"\n", DscpPolicy::Copy),
        ] {
            let read: Outer = toml::from_str(text).unwrap();
            assert_eq!(read.dscp, DscpSetting(policy));
            assert_eq!(toml::to_string(&read).unwrap(), text);
            assert_eq!(
                read.dscp.to_string().parse::<DscpSetting>().unwrap(),
                read.dscp
            );
        }
        assert_eq!(DscpSetting::default().to_string(), "0");
        for wrong in ["dscp = 64", "dscp = -1", "dscp = \"all\""] {
            let error = toml::from_str::<Outer>(wrong).unwrap_err().to_string();
            assert!(error.contains("0 to 63"), "{error}");
        }
    }

    #[test]
    fn lives_of_keys_that_make_no_sense_are_refused_by_name() {
        let refused = |settings: &str, field: &str| {
            let settings: KeySettings = toml::from_str(settings).unwrap();
            let error = settings.policy(ProfileSetting::Standard).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        };
        refused("rotate_age_ms = 10", "keys.rotate_age_ms");
        refused("rotate_bytes = 0", "keys.rotate_bytes");
        refused("rotate_packets = 0", "keys.rotate_packets");
        refused("stop_age_ms = 120000", "keys.stop_age_ms");
        assert!(toml::from_str::<KeySettings>("rotate_age = 1").is_err());
    }
}
