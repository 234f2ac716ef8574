//! Keys in files: WireGuard's form for identities, our own for the root.
//!
//! ```text
//! vpnmesh-key 1 signing 0123456789abcdef        version, kind, fingerprint of the public key
//! <base64, in lines of 76 characters>           seed 32, or verifying key 1984
//! ```

use std::path::Path;

use vpnmesh_core::Secret;
use zeroize::Zeroizing;

use super::durable::{exposure, read_at_most, replace_durably, write_new_durably};
use crate::{Error, IdentityKey, SigningKey, VerifyingKey, base64};

impl IdentityKey {
    /// Reads a file that holds a key as `wg genkey` prints it.
    ///
    /// A file that others can read is warned about; [`exposure`] says so to a program.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Damaged`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = read_at_most(path, MAX_LEN)?;
        let key = str::from_utf8(&bytes).ok().map(Self::from_base64);
        let Some(Ok(key)) = key else {
            return Err(Error::Damaged {
                path: path.to_owned(),
                expected: "a private key of 44 base64 characters",
                way_out: "write one with vpnmesh keygen or wg genkey",
            });
        };
        if let Some(mode) = exposure(path)? {
            let path = path.display();
            tracing::warn!("{path} is open to others (mode {mode:o}): run chmod 600 {path}");
        }
        Ok(key)
    }

    /// Writes the secret to a file that must not exist yet, mode 0600.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Write`].
    pub fn write_new(&self, path: &Path) -> Result<(), Error> {
        let line = Zeroizing::new(format!("{}\n", *self.to_base64()));
        write_new_durably(path, line.as_bytes())
    }

    /// Reads the key, or writes a fresh one if there is no file.
    ///
    /// # Errors
    /// As [`IdentityKey::read`] and [`IdentityKey::write_new`].
    pub fn read_or_create(path: &Path) -> Result<Self, Error> {
        if path.exists() {
            return Self::read(path);
        }
        let key = Self::generate()?;
        match key.write_new(path) {
            Err(Error::Exists { .. }) => Self::read(path), // somebody was faster
            written => written.map(|()| key),
        }
    }
}

impl SigningKey {
    /// Reads a signing key.
    ///
    /// # Errors
    /// [`Error::Exposed`] if others can touch the file, [`Error::Read`], [`Error::Damaged`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read_at_most(path, MAX_LEN)?;
        if let Some(mode) = exposure(path)? {
            return Err(Error::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let damaged = || Error::Damaged {
            path: path.to_owned(),
            expected: "a vpnmesh signing key",
            way_out: "restore it from a copy; a new key needs every member to pin it anew",
        };
        let (fingerprint, body) = parse(&text, "signing").ok_or_else(damaged)?;
        let mut seed = base64::decode_array::<32>(&body).ok_or_else(damaged)?;
        let key = Self::from_seed(Secret::take(&mut seed));
        let fits = key.verifying_key().fingerprint() == fingerprint;
        fits.then_some(key).ok_or_else(damaged)
    }

    /// Writes the secret to a file that must not exist yet, mode 0600.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Write`].
    pub fn write_new(&self, path: &Path) -> Result<(), Error> {
        let fingerprint = self.verifying_key().fingerprint();
        let text = print("signing", &fingerprint, self.seed().expose());
        write_new_durably(path, text.as_bytes())
    }
}

impl VerifyingKey {
    /// Reads a verifying key.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Damaged`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read_at_most(path, MAX_LEN)?;
        let key = str::from_utf8(&text).ok().map(Self::from_text);
        let Some(Ok(key)) = key else {
            return Err(Error::Damaged {
                path: path.to_owned(),
                expected: "a vpnmesh verifying key",
                way_out: "copy it again from the controller",
            });
        };
        Ok(key)
    }

    /// Writes the key, over an older file if there is one.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        replace_durably(path, self.to_text().as_bytes())
    }

    /// The content of a key file.
    #[must_use]
    pub fn to_text(&self) -> String {
        print("verifying", &self.fingerprint(), &self.to_bytes()).to_string()
    }

    /// Reads what [`VerifyingKey::to_text`] wrote.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Text {
            expected: "a vpnmesh verifying key",
        };
        let (fingerprint, body) = parse(text.as_bytes(), "verifying").ok_or_else(wrong)?;
        let key = Self::from_bytes(&base64::decode(&body).ok_or_else(wrong)?)?;
        let fits = key.fingerprint() == fingerprint;
        fits.then_some(key).ok_or_else(wrong)
    }
}

fn print(kind: &str, fingerprint: &str, bytes: &[u8]) -> Zeroizing<String> {
    let body = base64::encode(bytes);
    let mut text = Zeroizing::new(format!("vpnmesh-key 1 {kind} {fingerprint}\n"));
    text.reserve(body.len() + body.len() / LINE + 1); // a growing string leaves copies behind
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text
}

/// Fingerprint and joined body of a key file of that kind.
fn parse<'a>(text: &'a [u8], kind: &str) -> Option<(&'a str, Zeroizing<String>)> {
    let (head, lines) = str::from_utf8(text).ok()?.split_once('\n')?;
    let words: Vec<&str> = head.split_whitespace().collect();
    let [name, version, found, fingerprint] = words[..] else {
        return None;
    };
    let mut body = Zeroizing::new(String::with_capacity(lines.len()));
    lines
        .split_whitespace()
        .for_each(|line| body.push_str(line));
    let fits = (name, version, found) == ("vpnmesh-key", "1", kind);
    fits.then_some((fingerprint, body))
}

const LINE: usize = 76; // RFC 2045, section 6.8
const MAX_LEN: usize = 8192; // a verifying key takes 2.8 kB

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_come_back_from_private_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let identity = IdentityKey::read_or_create(&path("id")).unwrap();
        assert_eq!(fs::read(path("id")).unwrap().len(), 45);
        assert_eq!(
            IdentityKey::read_or_create(&path("id")).unwrap().public(),
            identity.public()
        );

        let root = SigningKey::generate().unwrap();
        root.write_new(&path("root")).unwrap();
        root.verifying_key().write(&path("root.pub")).unwrap();
        assert_eq!(exposure(&path("root")).unwrap(), None);
        let again = SigningKey::read(&path("root")).unwrap();
        assert_eq!(again.verifying_key(), root.verifying_key());
        assert_eq!(
            VerifyingKey::read(&path("root.pub")).unwrap(),
            *root.verifying_key()
        );
        assert!(matches!(
            root.write_new(&path("root")),
            Err(Error::Exists { .. })
        ));
    }

    #[test]
    fn a_signing_key_that_others_can_read_is_refused_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root");
        SigningKey::generate().unwrap().write_new(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = SigningKey::read(&path).unwrap_err().to_string();
        let path = path.display();
        assert_eq!(
            refused,
            format!("{path} is open to others (mode 640): run chmod 600 {path}")
        );
    }

    #[test]
    fn a_damaged_key_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root");
        let root = SigningKey::generate().unwrap();
        root.write_new(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let body = text.lines().nth(1).unwrap();
        let flipped = if body.starts_with('A') { "B" } else { "A" };
        let other_seed = text.replace(body, &format!("{flipped}{}", &body[1..]));
        let future = text.replace("vpnmesh-key 1", "vpnmesh-key 2");
        for damaged in [&text[..text.len() / 2], &other_seed, &future, "", "\u{0}"] {
            fs::write(&path, damaged).unwrap();
            let refused = SigningKey::read(&path).unwrap_err();
            assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
            assert!(IdentityKey::read(&path).is_err());
            assert!(VerifyingKey::read(&path).is_err());
        }
        let missing = IdentityKey::read(&directory.path().join("none")).unwrap_err();
        assert!(
            missing
                .to_string()
                .ends_with("it does not exist; check the path or create it")
        );
    }
}
