//! A log in one file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::FlockOperation;

use super::record::{self, Check, Record};
use super::{Damage, MeshStore, Recovery};
use crate::{Error, LogEntry, MeshState};

/// Keeps the log in a file: appended, flushed at each append, rewritten at compaction.
///
/// One controller at a time has it open.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    file: Arc<File>, // shared with the thread that flushes it, one append at a time
    length: u64,     // of what counts; behind it may lie the rest of a failed append
    check: Check,
    entries: u64,
    _lock: File,
}

impl FileStore {
    /// Opens the log and reads it to the last good record; no file makes an empty one.
    ///
    /// What lies behind the last good record is copied to a file beside and cut off.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::NotALog`], [`Error::Read`], [`Error::Write`].
    pub fn open(path: &Path) -> Result<(Self, Recovery), Error> {
        let lock = lock(path)?;
        if !path.exists() {
            replace(path, HEADER).map_err(|source| Error::write(path, source))?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|source| Error::read(path, source))?;
        let replayed = Replay::read(&file).map_err(|source| Error::read(path, source))?;
        let mut replayed = replayed.ok_or_else(|| Error::NotALog {
            path: path.to_owned(),
        })?;
        if replayed.rest > 0 {
            let kept_in = set_aside(path, &file, replayed.length)
                .map_err(|source| Error::write(path, source))?;
            let lost_bytes = replayed.rest;
            replayed.recovery.damage = Some(Damage {
                lost_bytes,
                kept_in,
            });
        }
        let store = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            length: replayed.length,
            check: replayed.check,
            entries: replayed.recovery.entries,
            _lock: lock,
        };
        Ok((store, replayed.recovery))
    }
}

#[async_trait]
impl MeshStore for FileStore {
    async fn append(&mut self, entries: &[LogEntry]) -> Result<(), Error> {
        let mut check = self.check;
        let mut bytes = Vec::new();
        for entry in entries {
            let (record, next) = record::encode(&Record::Entry(entry.clone()), &check);
            bytes.extend(record);
            check = next;
        }
        let (file, at, added) = (Arc::clone(&self.file), self.length, bytes.len() as u64);
        let written = off_runtime(move || write_at(&file, at, &bytes)).await;
        written.map_err(|source| Error::write(&self.path, source))?;
        self.length += added;
        self.check = check;
        self.entries += entries.len() as u64;
        Ok(())
    }

    async fn compact(&mut self, state: &MeshState) -> Result<(), Error> {
        let snapshot = Record::Snapshot(Box::new(state.clone()));
        let (record, check) = record::encode(&snapshot, &Check::default());
        let bytes = [HEADER, &record].concat();
        let (path, length) = (self.path.clone(), bytes.len() as u64);
        let file = off_runtime(move || {
            replace(&path, &bytes)?;
            OpenOptions::new().read(true).write(true).open(&path)
        });
        let file = file
            .await
            .map_err(|source| Error::write(&self.path, source))?;
        *self = Self {
            path: std::mem::take(&mut self.path),
            file: Arc::new(file),
            length,
            check,
            entries: 0,
            _lock: self
                ._lock
                .try_clone()
                .map_err(|source| Error::write(&self.path, source))?,
        };
        Ok(())
    }

    fn entries(&self) -> u64 {
        self.entries
    }
}

/// A log as far as it is good.
#[derive(Default)]
struct Replay {
    recovery: Recovery,
    check: Check,
    length: u64,
    rest: u64,
}

impl Replay {
    /// `None` if the file does not begin as a log does.
    fn read(file: &File) -> io::Result<Option<Self>> {
        let size = file.metadata()?.len();
        let mut reader = BufReader::new(file);
        let mut header = Vec::new();
        reader
            .by_ref()
            .take(HEADER.len() as u64)
            .read_to_end(&mut header)?;
        if header != HEADER {
            return Ok(None);
        }
        let mut replay = Self {
            length: HEADER.len() as u64,
            ..Self::default()
        };
        while let Some((record, check, length)) = record::decode(&mut reader, &replay.check)? {
            if !replay.take(record) {
                break;
            }
            replay.check = check;
            replay.length += length;
        }
        replay.rest = size - replay.length;
        Ok(Some(replay))
    }

    /// Applies a record. A stale entry is damage: nobody writes one.
    fn take(&mut self, record: Record) -> bool {
        match record {
            Record::Snapshot(state) => {
                self.recovery.state = *state;
                self.recovery.entries = 0;
                true
            }
            Record::Entry(entry) => {
                let stale = entry.version <= self.recovery.state.version();
                let _ = self.recovery.state.apply(&entry); // refused entries are part of history
                self.recovery.entries += 1;
                !stale
            }
        }
    }
}

/// Writes and flushes; what a failure leaves behind is overwritten by the next append.
fn write_at(mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    if written.is_err() {
        let _ = file.set_len(at); // a full disk: the check finds what is left otherwise
    }
    written
}

fn set_aside(path: &Path, mut file: &File, at: u64) -> io::Result<PathBuf> {
    let name = |number| path.with_added_extension(format!("damaged-{number}"));
    let kept_in = (1..).map(name).find(|path| !path.exists());
    let kept_in = kept_in.expect("no directory holds every number");
    file.seek(SeekFrom::Start(at))?;
    let mut copy = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&kept_in)?;
    io::copy(&mut file, &mut copy)?;
    copy.sync_all()?;
    file.set_len(at)?;
    file.sync_all()?;
    Ok(kept_in)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_added_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn lock(path: &Path) -> Result<File, Error> {
    let lock = path.with_added_extension("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock)
        .map_err(|source| Error::write(&lock, source))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse {
            path: path.to_owned(),
        }),
        Err(errno) => Err(Error::write(&lock, errno.into())),
    }
}

/// A flush may take long: the runtime goes on meanwhile.
async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}

const HEADER: &[u8] = b"vpnmesh-log 1\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vpnmesh_core::{NodeId, Version};

    use super::*;
    use crate::MeshCommand;

    fn entries(count: u64) -> Vec<LogEntry> {
        let entry = |index| LogEntry {
            version: Version { term: 1, index },
            command: MeshCommand::Freeze(index % 2 == 0),
        };
        (1..=count).map(entry).collect()
    }

    /// A log of four entries and where each record ends.
    async fn log(path: &Path) -> Vec<u64> {
        let (mut store, recovery) = FileStore::open(path).unwrap();
        assert_eq!(recovery, Recovery::default());
        let mut ends = vec![store.length];
        for entry in entries(4) {
            store.append(&[entry]).await.unwrap();
            ends.push(store.length);
        }
        ends
    }

    #[tokio::test]
    async fn what_was_appended_is_replayed_also_after_a_compaction() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        log(&path).await;
        let (mut store, recovery) = FileStore::open(&path).unwrap();
        assert_eq!((recovery.entries, &recovery.damage), (4, &None));
        assert!(recovery.state.is_frozen());
        assert_eq!(recovery.next_term(), 2);
        store.compact(&recovery.state).await.unwrap();
        assert_eq!(store.entries(), 0);
        let refused = LogEntry::after(
            recovery.state.version(),
            MeshCommand::Hold {
                node: NodeId(9),
                held: true,
            },
        );
        store.append(std::slice::from_ref(&refused)).await.unwrap();
        assert!(matches!(FileStore::open(&path), Err(Error::InUse { .. })));
        drop(store);
        let (_, again) = FileStore::open(&path).unwrap();
        assert_eq!((again.entries, again.damage), (1, None));
        assert_eq!(
            again.state.version(),
            refused.version,
            "history, though refused"
        );
        assert!(again.state.is_frozen());
    }

    #[tokio::test]
    async fn a_torn_log_is_good_up_to_the_tear_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let ends = log(&path).await;
        let whole = fs::read(&path).unwrap();
        for cut in ends[0]..whole.len() as u64 {
            fs::write(&path, &whole[..cut as usize]).unwrap();
            let (store, recovery) = FileStore::open(&path).unwrap();
            let good = ends.iter().rposition(|end| *end <= cut).unwrap();
            assert_eq!(recovery.entries, good as u64);
            let lost = cut - ends[good];
            assert_eq!(recovery.damage.as_ref().map_or(0, |d| d.lost_bytes), lost);
            if let Some(damage) = recovery.damage {
                assert_eq!(
                    fs::read(damage.kept_in).unwrap(),
                    whole[ends[good] as usize..cut as usize]
                );
            }
            drop(store);
            assert_eq!(FileStore::open(&path).unwrap().1.damage, None, "repaired");
        }
    }

    #[tokio::test]
    async fn a_log_goes_on_behind_the_last_good_record_in_a_later_term() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let ends = log(&path).await;
        let mut bytes = fs::read(&path).unwrap();
        bytes[ends[1] as usize + 21] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (mut store, recovery) = FileStore::open(&path).unwrap();
        assert_eq!(recovery.entries, 1);
        assert!(
            recovery.next_term() > 3,
            "each lost record may have begun a term"
        );
        let begin = LogEntry::begin_term(recovery.state.version(), recovery.next_term());
        store.append(std::slice::from_ref(&begin)).await.unwrap();
        drop(store);
        let (_, recovery) = FileStore::open(&path).unwrap();
        assert_eq!(recovery.state.version(), begin.version);
        assert_eq!(recovery.damage, None);
    }

    #[tokio::test]
    async fn a_full_disk_is_named_and_the_log_goes_on_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (mut store, _) = FileStore::open(&path).unwrap();
        let good = std::mem::replace(
            &mut store.file,
            Arc::new(OpenOptions::new().write(true).open("/dev/full").unwrap()),
        );
        let refused = store.append(&entries(1)).await.unwrap_err().to_string();
        assert!(
            refused.ends_with("log: the disk is full; free some space and try again"),
            "{refused}"
        );
        store.file = good;
        store.append(&entries(1)).await.unwrap();
        drop(store);
        assert_eq!(FileStore::open(&path).unwrap().1.entries, 1);
    }

    #[test]
    fn a_foreign_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "my thesis").unwrap();
        assert!(matches!(FileStore::open(&path), Err(Error::NotALog { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"my thesis");
    }

    proptest! {
        #[test]
        fn no_bytes_behind_the_header_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            fs::write(&path, [HEADER, &bytes].concat()).unwrap();
            let (_, recovery) = FileStore::open(&path).unwrap();
            prop_assert_eq!(recovery.entries, 0);
        }
    }
}
