//! Files that survive a crash whole: either the old content or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use zeroize::Zeroizing;

use crate::Error;

/// Replaces the content of `path`; when this returns, the new content survives a power cut.
///
/// The file is readable by its owner alone. It is written beside `path`, flushed, and renamed.
///
/// # Errors
/// [`Error::Write`]; the old content is still there then.
pub fn replace_durably(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let beside = beside(path);
    let written = write_and_flush(&beside, bytes)
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| flush_directory(path));
    written.map_err(|source| {
        let _ = fs::remove_file(&beside); // it may not exist; the first error counts
        Error::write(path, source)
    })
}

/// Writes a file that must not exist yet, durably, readable by its owner alone.
///
/// # Errors
/// [`Error::Exists`], [`Error::Write`].
pub fn write_new_durably(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let beside = beside(path);
    // A hard link never replaces a file, and it shows the content only when it is whole.
    let written = write_and_flush(&beside, bytes)
        .and_then(|()| fs::hard_link(&beside, path))
        .and_then(|()| flush_directory(path));
    let _ = fs::remove_file(&beside); // the second name, or what is left of a failure
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists {
            path: path.to_owned(),
        },
        _ => Error::write(path, source),
    })
}

/// The permission bits of `path` if others than its owner may touch it.
///
/// # Errors
/// [`Error::Read`].
pub fn exposure(path: &Path) -> Result<Option<u32>, Error> {
    let metadata = fs::metadata(path).map_err(|source| Error::read(path, source))?;
    let mode = metadata.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

/// The whole file, if it is at most `max` bytes long.
pub(super) fn read_at_most(path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(max as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|source| Error::read(path, source))?;
    if bytes.len() > max {
        let source = io::Error::new(
            io::ErrorKind::FileTooLarge,
            "longer than such a file can be",
        );
        return Err(Error::read(path, source));
    }
    Ok(bytes)
}

/// Keeps other processes away from `path` until the returned file is dropped.
///
/// The lock lies on a file beside it, as `path` itself is replaced again and again.
pub(super) fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
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

fn write_and_flush(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn flush_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// A name in the same directory that no other process uses.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_replaced_whole_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        replace_durably(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(exposure(&path).unwrap(), Some(0o644));
        replace_durably(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(exposure(&path).unwrap(), None);
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing is left beside"
        );
    }

    #[test]
    fn a_new_file_never_replaces_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write_new_durably(&path, b"one").unwrap();
        let refused = write_new_durably(&path, b"two").unwrap_err();
        assert!(matches!(refused, Error::Exists { .. }), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_is_named_with_the_way_out() {
        // Whatever is written to /dev/full fails as on a full disk.
        let full = fs::write("/dev/full", b"x").unwrap_err();
        let error = Error::write(Path::new("/var/lib/vpnmesh/membership"), full);
        assert_eq!(
            error.to_string(),
            "cannot write /var/lib/vpnmesh/membership: the disk is full; free some space and try again"
        );
    }

    #[test]
    fn a_directory_that_is_missing_is_named_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let error = replace_durably(&directory.path().join("no/key"), b"x").unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("no/key: create its directory first"),
            "{error}"
        );
    }

    #[test]
    fn two_holders_of_one_file_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let held = lock(&path).unwrap();
        assert!(matches!(lock(&path), Err(Error::InUse { .. })));
        drop(held);
        lock(&path).unwrap();
    }
}
