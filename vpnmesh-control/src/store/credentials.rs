//! Certificates in files.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::Error;
use crate::pki::{Credentials, MeshCa};

impl Credentials {
    /// Reads `ca.pem`, `cert.pem` and `key.pem` from a directory.
    ///
    /// # Errors
    /// [`Error::Read`], which names the file.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        Ok(Self {
            ca_pem: read(&directory.join(CA))?.to_string(),
            cert_pem: read(&directory.join(CERT))?.to_string(),
            key_pem: read(&directory.join(KEY))?,
        })
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem` into a directory, which is created for its owner
    /// alone if it is missing. Older files are replaced.
    ///
    /// # Errors
    /// [`Error::Write`], which names the file.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        create(directory)?;
        write(&directory.join(CA), &self.ca_pem, false)?;
        write(&directory.join(CERT), &self.cert_pem, false)?;
        write(&directory.join(KEY), &self.key_pem, false)
    }
}

impl MeshCa {
    /// Reads a CA that [`MeshCa::write_new`] wrote.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Credentials`].
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let cert = read(&directory.join(CA))?;
        let key = read(&directory.join(CA_KEY))?;
        Self::from_pem(&cert, &key).map_err(|source| Error::Credentials {
            path: directory.to_owned(),
            source,
        })
    }

    /// Writes `ca.pem` and `ca-key.pem` into a directory. An older CA is never replaced.
    ///
    /// # Errors
    /// [`Error::Write`], which names the file.
    pub fn write_new(&self, directory: &Path) -> Result<(), Error> {
        create(directory)?;
        write(&directory.join(CA_KEY), &self.key_pem(), true)?;
        write(&directory.join(CA), self.cert_pem(), true)
    }
}

fn create(directory: &Path) -> Result<(), Error> {
    let created = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    created.map_err(|source| Error::write(directory, source))
}

fn read(path: &Path) -> Result<Zeroizing<String>, Error> {
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let text = if length > MAX_LEN {
        Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "longer than certificates are",
        ))
    } else {
        fs::read_to_string(path)
    };
    text.map(Zeroizing::new)
        .map_err(|source| Error::read(path, source))
}

fn write(path: &Path, text: &str, new: bool) -> Result<(), Error> {
    let written = || -> io::Result<()> {
        let beside = path.with_added_extension("new");
        if new && path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(|source| Error::write(path, source))
}

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
const MAX_LEN: u64 = 1 << 20;
