//! What tells one start of a process from the next, even on a disk that was rolled back.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::durable::{lock, read_at_most, replace_durably};
use crate::Error;

/// One start of a process: a counter for order, random bits for uniqueness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Incarnation {
    /// Greater than that of every earlier start.
    pub counter: u64,
    /// Fresh at each start and repair.
    pub random: [u8; 16],
}

/// Keeps the counter of [`Incarnation`] on disk, and other processes away from it.
///
/// The file is one line: `vpnmesh-incarnation 1`, the counter, and eight digits that check both.
#[derive(Debug)]
pub struct IncarnationFile {
    path: PathBuf,
    counter: u64, // the one on disk
    _lock: File,
}

impl IncarnationFile {
    /// A peer that claims to have seen more is not believed: more starts than could ever happen.
    pub const MAX_SEEN: u64 = 1 << 62;

    /// Opens the file; the first start of all finds none and creates it.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has it open, [`Error::Read`], [`Error::Damaged`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let lock = lock(path)?;
        Ok(Self {
            path: path.to_owned(),
            counter: read(path)?,
            _lock: lock,
        })
    }

    /// Starts: the next counter is on disk before this returns.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Randomness`]; nothing may be sent then.
    pub fn advance(&mut self) -> Result<Incarnation, Error> {
        self.store(self.counter + 1)
    }

    /// An authenticated peer saw `seen`: the disk was rolled back, or a clone ran. The counter
    /// jumps above it and new random bits are drawn; a lower `seen` changes nothing but those.
    ///
    /// # Errors
    /// [`Error::Incarnation`] above [`IncarnationFile::MAX_SEEN`], [`Error::Write`],
    /// [`Error::Randomness`].
    pub fn repair(&mut self, seen: u64) -> Result<Incarnation, Error> {
        if seen > Self::MAX_SEEN {
            return Err(Error::Incarnation { seen });
        }
        self.store(self.counter.max(seen) + 1)
    }

    /// The counter that is on disk.
    #[must_use]
    pub const fn counter(&self) -> u64 {
        self.counter
    }

    fn store(&mut self, counter: u64) -> Result<Incarnation, Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(Error::Randomness)?;
        replace_durably(&self.path, line(counter).as_bytes())?;
        self.counter = counter;
        Ok(Incarnation { counter, random })
    }
}

fn read(path: &Path) -> Result<u64, Error> {
    let bytes = match read_at_most(path, MAX_LEN) {
        Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(0);
        }
        read => read?,
    };
    let text = str::from_utf8(&bytes).ok();
    let counter = text.and_then(|text| {
        let counter = text.split_whitespace().nth(2)?.parse().ok()?;
        (line(counter) == text && counter < u64::MAX / 2).then_some(counter)
    });
    counter.ok_or_else(|| Error::Damaged {
        path: path.to_owned(),
        expected: "an incarnation counter",
        way_out: "remove it; peers that saw a greater counter repair it",
    })
}

fn line(counter: u64) -> String {
    let text = format!("vpnmesh-incarnation 1 {counter}");
    let check = Sha256::digest(text.as_bytes());
    let check = u32::from_be_bytes([check[0], check[1], check[2], check[3]]);
    format!("{text} {check:08x}\n")
}

const MAX_LEN: usize = 64; // 24 for the words, 20 for the counter, 10 for the check

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_start_is_later_and_different() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("incarnation");
        let first = IncarnationFile::open(&path).unwrap().advance().unwrap();
        let second = IncarnationFile::open(&path).unwrap().advance().unwrap();
        assert_eq!((first.counter, second.counter), (1, 2));
        assert_ne!(first.random, second.random);
    }

    #[test]
    fn a_peer_repairs_a_disk_that_was_rolled_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("incarnation");
        let mut file = IncarnationFile::open(&path).unwrap();
        file.advance().unwrap();
        assert_eq!(file.repair(41).unwrap().counter, 42);
        assert_eq!(
            file.repair(7).unwrap().counter,
            43,
            "a lower word never lowers it"
        );
        drop(file);
        assert_eq!(IncarnationFile::open(&path).unwrap().counter(), 43);
    }

    #[test]
    fn an_absurd_word_of_a_peer_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = IncarnationFile::open(&directory.path().join("i")).unwrap();
        file.advance().unwrap();
        let refused = file.repair(u64::MAX);
        assert!(matches!(
            refused,
            Err(Error::Incarnation { seen: u64::MAX })
        ));
        assert_eq!(file.counter(), 1);
        file.repair(IncarnationFile::MAX_SEEN).unwrap();
        file.repair(IncarnationFile::MAX_SEEN).unwrap();
    }

    #[test]
    fn a_second_process_and_a_damaged_file_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("incarnation");
        let file = IncarnationFile::open(&path).unwrap();
        assert!(matches!(
            IncarnationFile::open(&path),
            Err(Error::InUse { .. })
        ));
        drop(file);
        for content in [
            "",
            "vpnmesh-incarnation 1 5 00000000\n",
            "\u{0}\u{0}",
            &"9".repeat(99),
        ] {
            fs::write(&path, content).unwrap();
            assert!(IncarnationFile::open(&path).is_err(), "{content:?}");
        }
        let refused = IncarnationFile::open(&path).unwrap_err().to_string();
        assert!(refused.contains("incarnation"), "{refused}");
    }
}
