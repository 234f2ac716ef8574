//! Finds the public test vectors, which are not part of the repository.

use std::io::Write;
use std::path::PathBuf;

use serde_json::Value;

use crate::left_out::leave_out;

/// A file below the folder that `VPNMESH_VECTORS` names, by default `../shared/vectors` beside the
/// workspace. `None`, and said so, if nothing is named and the default is absent: no clone has it.
pub(crate) fn path(file: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors");
    let named = std::env::var_os("VPNMESH_VECTORS");
    let folder = named.as_ref().map_or_else(|| default.into(), PathBuf::from);
    let path = folder.join(file);
    if path.is_file() {
        return Some(path);
    }
    let why = format!("not in {} (set VPNMESH_VECTORS)", folder.display());
    let _counted = leave_out(&format!("vectors {file}"), &why, None);
    assert!(
        named.is_none(),
        "VPNMESH_VECTORS names a folder without {file}"
    );
    None
}

/// The same, as JSON.
pub(crate) fn json(file: &str) -> Option<Value> {
    let text = std::fs::read_to_string(path(file)?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// Prints a line even if the test runner captures output.
pub(crate) fn say(line: &str) {
    std::io::stderr()
        .write_all(format!("\n{line}\n").as_bytes())
        .unwrap();
}

/// The bytes of a hex string under `key`; empty if there is none.
pub(crate) fn hex(case: &Value, key: &str) -> Vec<u8> {
    decode(case[key].as_str().unwrap_or_default())
}

/// The bytes of a hex string.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    let pairs = text.as_bytes().as_chunks::<2>().0.iter();
    pairs
        .map(|[high, low]| digit(*high) << 4 | digit(*low))
        .collect()
}
