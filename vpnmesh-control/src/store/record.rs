//! Records of a log: what a crash or a bad disk did to them shows.
//!
//! ```text
//! length 4, little endian | check 16 | postcard of the record
//! ```
//!
//! `check` is a prefix of SHA-256 over the check of the record before and the content, so that a
//! record that is missing or out of place is as bad as one that was changed.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{LogEntry, MeshState};

/// One record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Record {
    /// All before has led to this.
    Snapshot(Box<MeshState>),
    /// One more entry.
    Entry(LogEntry),
}

/// What the next record's check builds on.
pub(super) type Check = [u8; 16];

/// No record is shorter than its head and the smallest entry.
pub(super) const MIN_LEN: usize = 4 + 16 + 4;

/// Longer ones are damage, not records: sixteen thousand members take less than half of it.
const MAX_LEN: usize = 16 << 20;

/// Encodes a record and gives the check for the next one.
pub(super) fn encode(record: &Record, before: &Check) -> (Vec<u8>, Check) {
    let content = postcard::to_stdvec(record).expect("plain structs in memory always encode");
    let check = check(&content, before);
    let length = u32::try_from(content.len()).expect("far below MAX_LEN by the bound on members");
    let bytes = [length.to_le_bytes().as_slice(), &check, &content].concat();
    (bytes, check)
}

/// The next record with its length on disk; `None` at the end and at the first damage.
///
/// Whether it was the end or damage shows in the number of bytes that are left.
pub(super) fn decode(
    from: &mut impl Read,
    before: &Check,
) -> io::Result<Option<(Record, Check, u64)>> {
    let mut head = [0; 20];
    if !fill(from, &mut head)? {
        return Ok(None);
    }
    let (length, stored) = head.split_at(4);
    let length = u32::from_le_bytes(length.try_into().expect("four of the twenty")) as usize;
    if length > MAX_LEN {
        return Ok(None);
    }
    let mut content = Vec::new();
    from.take(length as u64).read_to_end(&mut content)?;
    let check = check(&content, before);
    if content.len() != length || check != stored {
        return Ok(None);
    }
    let record = postcard::from_bytes(&content).ok();
    Ok(record.map(|record| (record, check, (head.len() + length) as u64)))
}

fn fill(from: &mut impl Read, head: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

fn check(content: &[u8], before: &Check) -> Check {
    let digest = Sha256::new()
        .chain_update(before)
        .chain_update(content)
        .finalize();
    *digest.first_chunk().expect("SHA-256 has 32 bytes")
}
