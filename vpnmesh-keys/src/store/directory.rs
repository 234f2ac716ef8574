//! A key store of one file per key, in a directory of its owner alone.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use vpnmesh_core::{KeyId, Secret};
use zeroize::Zeroizing;

use super::KeyStore;
use super::durable::{exposure, read_at_most, replace_durably};
use crate::{Error, base64};

/// Keeps secrets in clear in a directory of mode 0700, one file of mode 0600 each.
///
/// It protects from other users and from crashes, not from who reads the disk. Calls block for as
/// long as the disk takes to flush.
#[derive(Debug)]
pub struct DirectoryStore {
    path: PathBuf,
}

impl DirectoryStore {
    /// Opens the directory; it is created if it is missing.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Exposed`] if others can enter it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
        created.map_err(|source| Error::write(path, source))?;
        if let Some(mode) = exposure(path)? {
            return Err(Error::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    fn file(&self, key: KeyId) -> PathBuf {
        self.path.join(format!("{:016x}.key", key.0))
    }
}

#[async_trait]
impl KeyStore for DirectoryStore {
    async fn put(&self, key: KeyId, secret: Secret<32>) -> Result<(), Error> {
        let line = Zeroizing::new(format!("{}\n", *base64::encode(secret.expose())));
        replace_durably(&self.file(key), line.as_bytes())
    }

    async fn load(&self, key: KeyId) -> Result<Secret<32>, Error> {
        let path = self.file(key);
        let bytes = match read_at_most(&path, MAX_LEN) {
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(Error::UnknownKey { key });
            }
            read => read?,
        };
        let text = str::from_utf8(&bytes).ok();
        let secret = text.and_then(|text| base64::decode_array::<32>(text.trim()));
        let mut secret = secret.ok_or(Error::Damaged {
            path,
            expected: "a stored secret",
            way_out: "restore it from a copy, or erase the key",
        })?;
        Ok(Secret::take(&mut secret))
    }

    async fn erase(&self, key: KeyId) -> Result<(), Error> {
        let path = self.file(key);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::write(&path, source))
            }
            _ => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<KeyId>, Error> {
        let failed = |source| Error::read(&self.path, source);
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(".key"));
            let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            keys.extend(number.map(KeyId));
        }
        keys.sort_unstable();
        Ok(keys)
    }
}

const MAX_LEN: usize = 64; // 44 characters and an end of line
