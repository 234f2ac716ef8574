//! What operators may set.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vpnmesh_core::EnginePolicy;

use crate::Error;

/// How a controller runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControllerConfig {
    /// Where agents and administrators reach it. Default: port 7443 on all IPv4 addresses. Port
    /// zero takes a free one.
    pub listen: SocketAddr,
    /// Where its log is kept. Default `/var/lib/vpnmesh`. `None` keeps nothing: after a restart
    /// nodes will not believe it any more.
    pub directory: Option<PathBuf>,
    /// The directory of its certificates. Default `/etc/vpnmesh/controller`.
    pub credentials: PathBuf,
    /// What the engine goes by.
    pub policy: EnginePolicy,
    /// Entries after which the log is compacted. Default 10 000. Few: much is rewritten; many: a
    /// start takes longer.
    pub compact_after: u64,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            directory: Some(PathBuf::from("/var/lib/vpnmesh")),
            credentials: PathBuf::from("/etc/vpnmesh/controller"),
            policy: EnginePolicy::default(),
            compact_after: 10_000,
        }
    }
}

/// How a node's agent runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// The node's name in the membership; its certificate must say the same. Empty: what the
    /// certificate says.
    pub name: String,
    /// Where controllers are, tried in turn; at least one. Default: port 7443 of this machine.
    pub controllers: Vec<SocketAddr>,
    /// The directory of its certificates. Default `/etc/vpnmesh/node`.
    pub credentials: PathBuf,
    /// Span before the second attempt, in milliseconds; it doubles up to `retry_max_ms`, and each
    /// pause is a random part of it. Default 100, at least 1. Small: a controller that restarts is
    /// flooded.
    pub retry_min_ms: u64,
    /// Longest pause between two attempts, in milliseconds. Default 3000. Long: orders come late
    /// after a controller's restart.
    pub retry_max_ms: u64,
    /// Patience for one attempt, in milliseconds. Default 3000.
    pub connect_timeout_ms: u64,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            controllers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))],
            credentials: PathBuf::from("/etc/vpnmesh/node"),
            retry_min_ms: 100,
            retry_max_ms: 3000,
            connect_timeout_ms: 3000,
        }
    }
}

impl AgentConfig {
    /// Checks that the fields make sense together.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first field that does not.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field, problem: &str| Error::Setting {
            field,
            problem: problem.to_owned(),
        };
        if self.controllers.is_empty() {
            return Err(wrong("controllers", "is empty: name at least one"));
        }
        if self.retry_min_ms == 0 || self.retry_min_ms > self.retry_max_ms {
            return Err(wrong("retry_min_ms", "must lie between 1 and retry_max_ms"));
        }
        if self.connect_timeout_ms == 0 {
            return Err(wrong("connect_timeout_ms", "must be more than zero"));
        }
        Ok(())
    }

    pub(crate) const fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

/// Reads a configuration in TOML. Unknown fields are errors: they are typing mistakes.
///
/// # Errors
/// [`Error::Read`], and [`Error::Config`] with the line and what is wrong there.
pub fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::read(path, source))?;
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| before.matches('\n').count() + 1);
        let place = line.map_or_else(String::new, |line| format!("line {line}: "));
        let what = error.message().lines().next().unwrap_or_default();
        Error::Config {
            path: path.to_owned(),
            reason: format!("{place}{what}"),
        }
    })
}

const PORT: u16 = 7443; // taste: above 1024, and close to what people know for TLS

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mesh.toml");
        std::fs::write(&path, text).unwrap();
        let prefix = format!("{}: ", path.display());
        read_config(&path).map_err(|error| error.to_string().replace(&prefix, ""))
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(
            read::<ControllerConfig>("").unwrap(),
            ControllerConfig::default()
        );
        assert_eq!(read::<AgentConfig>("").unwrap(), AgentConfig::default());
        AgentConfig::default().check().unwrap();
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let mistyped = read::<AgentConfig>("name = \"n1\"\nretry_min = 5\n").unwrap_err();
        assert!(
            mistyped.starts_with("line 2: unknown field `retry_min`"),
            "{mistyped}"
        );
        let mistaken = read::<ControllerConfig>("listen = \"here\"").unwrap_err();
        assert!(mistaken.starts_with("line 1: "), "{mistaken}");
        let share = read::<ControllerConfig>("[policy.failover]\nthreshold = 1.5").unwrap_err();
        assert!(
            share.contains("ratio 1.5 is not between 0 and 1"),
            "{share}"
        );
        let none = AgentConfig {
            controllers: Vec::new(),
            ..AgentConfig::default()
        };
        assert_eq!(
            none.check().unwrap_err().to_string(),
            "controllers is empty: name at least one"
        );
    }
}
