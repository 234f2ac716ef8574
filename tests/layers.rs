//! Who may import whom: the layers of the workspace as data.
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use toml::{Table, Value};

/// Crate, and the crates of the workspace that it may depend on. Siblings never import each other.
const LAYERS: &[(&str, &[&str])] = &[
    ("vpnmesh-core", &[]),
    ("vpnmesh-predict", &["vpnmesh-core"]),
    ("vpnmesh-transport", &["vpnmesh-core"]),
    ("vpnmesh-keys", &["vpnmesh-core"]),
    ("vpnmesh-control", &["vpnmesh-core"]),
    ("vpnmesh-gateway", &["vpnmesh-core"]),
    ("vpnmesh", &["*"]),
    ("vpnmesh-cli", &["*"]),
    ("vpnmesh-testkit", &["*"]),
];

fn manifest(path: &Path) -> Table {
    fs::read_to_string(path).unwrap().parse().unwrap()
}

/// The crates of the workspace, by name, with their manifests.
fn members() -> BTreeMap<String, Table> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = manifest(&root.join("Cargo.toml"));
    let named = workspace["workspace"]["members"].as_array().unwrap();
    let paths = named
        .iter()
        .map(|member| root.join(member.as_str().unwrap()).join("Cargo.toml"));
    let mut all: Vec<Table> = paths.map(|path| manifest(&path)).collect();
    all.push(workspace);
    let name = |table: &Table| table["package"]["name"].as_str().unwrap().to_owned();
    all.into_iter().map(|table| (name(&table), table)).collect()
}

/// What a manifest depends on in normal builds and build scripts, on every target. Tests may depend
/// on anything.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let mut tables = vec![manifest];
    let targets = manifest.get("target").and_then(Value::as_table);
    tables.extend(
        targets
            .into_iter()
            .flat_map(|t| t.values().filter_map(Value::as_table)),
    );
    let kinds = ["dependencies", "build-dependencies"];
    let lists = tables
        .iter()
        .flat_map(|table| kinds.map(|kind| table.get(kind)));
    let lists = lists.flatten().filter_map(Value::as_table);
    let renamed = |(name, how): (&String, &Value)| {
        let package = how.get("package").and_then(Value::as_str);
        package.unwrap_or(name).to_owned()
    };
    lists.flat_map(|list| list.iter().map(renamed)).collect()
}

#[test]
fn no_crate_imports_from_beside_or_above() {
    let members = members();
    for (name, manifest) in &members {
        let layer = LAYERS.iter().find(|(layer, _)| layer == name);
        let (_, allowed) = layer.unwrap_or_else(|| panic!("{name} has no layer: add it to LAYERS"));
        for dependency in dependencies(manifest) {
            let inside = members.contains_key(&dependency);
            let fine = allowed.contains(&"*") || allowed.contains(&dependency.as_str());
            assert!(!inside || fine, "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn a_forbidden_edge_is_found_on_any_target_and_under_any_name() {
    let manifest: Table = "
        [dependencies]
        disguised = { package = 'vpnmesh-keys', version = '1' }
        [target.'cfg(unix)'.dependencies]
        vpnmesh-predict = '1'
        [dev-dependencies]
        vpnmesh-testkit = '1'
    "
    .parse()
    .unwrap();
    let found: Vec<String> = dependencies(&manifest).into_iter().collect();
    assert_eq!(found, ["vpnmesh-keys", "vpnmesh-predict"]);
}
