//! Settings files: TOML or JSON, one per process, with paths relative to the file.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vpnmesh_core::{FailoverPolicy, Ratio};
use vpnmesh_transport::Profile;

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

const MAX_LEN: u64 = 1 << 20;
