//! What people write: settings, descriptions of meshes, words on the command line; and weights.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use vpnmesh::predict::LearnedPredictor;
use vpnmesh::provision::MeshDescription;
use vpnmesh::role::tunnel::{Peer, Suite};
use vpnmesh::role::{client, controller, node, site};
use vpnmesh::settings::{FailoverSettings, FromFile, KeySettings, ProfileSetting};
use vpnmesh_core::{FailurePredictor as _, NodeId};

use super::members::START;

/// Settings files; the first byte says of which role, and whether as JSON.
pub fn settings(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let json = kind & 0x80 != 0;
    match kind % 6 {
        0 => {
            let settings = read::<client::Settings>(text, json);
            let policy = |it: client::Settings| it.keys.policy(it.profile);
            let _ = settings.map(policy);
        }
        1 => drop(read::<site::Settings>(text, json)),
        2 => {
            let settings = read::<node::Settings>(text, json);
            let _ = settings.map(|it| it.failover.policy());
        }
        3 => {
            let settings = read::<controller::Settings>(text, json);
            let regions = settings.map(|it| it.regions).unwrap_or_default();
            let policy = |it: &FailoverSettings| it.policy().is_ok();
            let _ = regions.values().all(policy);
        }
        4 => drop(read::<MeshDescription>(text, json)),
        _ => {
            let _ = (text.parse::<Peer>(), text.parse::<Suite>());
            if let Ok(keys) = toml::from_str::<KeySettings>(text) {
                let _ = keys.policy(ProfileSetting::Standard);
            }
        }
    }
}

/// What can be read can be written and read again.
fn read<T: FromFile + Serialize + PartialEq + Debug>(text: &str, json: bool) -> Option<T> {
    let mut settings: T = if json {
        serde_json::from_str(text).ok()?
    } else {
        toml::from_str(text).ok()?
    };
    settings.anchor(Path::new("/etc/vpnmesh"));
    let json = serde_json::to_string(&settings).expect("settings are plain");
    let again: T = serde_json::from_str(&json).expect("what was written can be read");
    assert_eq!(again, settings);
    Some(settings)
}

/// Weight files: what is refused leaves a predictor that works.
pub fn weights(data: &[u8]) {
    let (predictor, refused) = LearnedPredictor::from_bytes(data);
    assert_ne!(predictor.is_learned(), refused.is_some());
    let _ = predictor.forecast(NodeId(1), Duration::from_secs(60), START);
}
