//! Certificates of a mesh: its own CA, and leaves that say who their holder is.
//!
//! A leaf carries one URI, `vpnmesh://node/NAME` or `vpnmesh://admin/NAME`; only that counts for
//! who may do what. The controller's leaf has `vpnmesh://controller/NAME` and the DNS name
//! [`CONTROLLER`], by which agents recognise it at whatever address. Nodes cannot act as
//! controller: their leaves are for clients only.
//!
//! Certificates do not expire: safety must not depend on clocks. Who is no longer trusted leaves
//! the membership.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use zeroize::Zeroizing;

use crate::Error;

/// The DNS name in every controller's certificate.
pub const CONTROLLER: &str = "controller.vpnmesh";

/// What the holder of a certificate may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Lead the mesh.
    Controller,
    /// Report as one node and obey.
    Node,
    /// Change the mesh.
    Admin,
}

/// Who the holder of a certificate is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerName {
    /// What it may do.
    pub role: Role,
    /// Its name; for a node the one in the membership.
    pub name: String,
}

impl PeerName {
    /// Reads the one URI of a certificate that TLS has verified already.
    ///
    /// `None` if it is no certificate of a mesh.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let der = certificate.into();
        let certificate = webpki::EndEntityCert::try_from(&der).ok()?;
        let mut names = certificate.valid_uri_names();
        let only = names.next().filter(|_| names.next().is_none())?;
        only.parse().ok()
    }
}

impl std::str::FromStr for PeerName {
    type Err = Error;

    fn from_str(uri: &str) -> Result<Self, Error> {
        let malformed = || Error::Malformed {
            field: "the certificate's URI",
        };
        let path = uri.strip_prefix(SCHEME).ok_or_else(malformed)?;
        let (role, name) = path.split_once('/').ok_or_else(malformed)?;
        let role = ROLES.into_iter().find(|known| known.word() == role);
        Ok(Self {
            role: role.ok_or_else(malformed)?,
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.role.word(), self.name)
    }
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Node => "node",
            Self::Admin => "admin",
        }
    }
}

/// A certificate, its key, and the CA to check others by.
#[derive(Clone)]
pub struct Credentials {
    /// The CA's certificate.
    pub ca_pem: String,
    /// The holder's certificate.
    pub cert_pem: String,
    /// The holder's secret key.
    pub key_pem: Zeroizing<String>,
}

impl Credentials {
    /// How to call a controller with them: they can be read and belong together.
    ///
    /// # Errors
    /// What the TLS library said.
    pub(crate) fn client_config(
        &self,
    ) -> Result<rustls::ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};

        let ca = CertificateDer::from_pem_slice(self.ca_pem.as_bytes())?;
        let cert = CertificateDer::from_pem_slice(self.cert_pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider().into();
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![cert], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// Checks that all three parts can be read and belong together.
    pub(crate) fn check(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.client_config().map(drop)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// The certificate authority of one mesh.
pub struct MeshCa {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl MeshCa {
    /// A fresh CA for a mesh of that name.
    ///
    /// # Errors
    /// [`Error::Issue`].
    pub fn generate(mesh: &str) -> Result<Self, Error> {
        let failed = issue_error(mesh);
        if !(1..=64).contains(&mesh.len()) {
            return Err(Error::Setting {
                field: "the name of the mesh",
                problem: "must have 1 to 64 bytes".to_owned(), // RFC 5280, A.1: ub-common-name
            });
        }
        let params = ca_params(mesh);
        let key = KeyPair::generate().map_err(&failed)?;
        let cert_pem = params.self_signed(&key).map_err(&failed)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self { cert_pem, issuer })
    }

    /// The CA of these PEM texts, as [`MeshCa::generate`] made them.
    pub(crate) fn from_pem(
        cert_pem: &str,
        key_pem: &str,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};

        let der = CertificateDer::from_pem_slice(cert_pem.as_bytes())?;
        let cert = webpki::EndEntityCert::try_from(&der)?;
        let mesh = read_common_name(cert.subject()).ok_or("the CA's certificate has no name")?;
        let key = KeyPair::from_pem(key_pem)?;
        let issuer = Issuer::new(ca_params(mesh), key);
        let public = cert.subject_public_key_info();
        if !public.ends_with(issuer.key().public_key_raw()) {
            return Err("the CA's key is not that of its certificate".into());
        }
        Ok(Self {
            cert_pem: cert_pem.to_owned(),
            issuer,
        })
    }

    /// Issues a certificate with a fresh key.
    ///
    /// # Errors
    /// [`Error::Issue`], for a name that certificates cannot carry too.
    pub fn issue(&self, role: Role, name: &str) -> Result<Credentials, Error> {
        let failed = issue_error(name);
        let uri = PeerName {
            role,
            name: name.to_owned(),
        };
        let uri = uri.to_string().try_into().map_err(&failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if role == Role::Controller {
            let dns = CONTROLLER.try_into().map_err(&failed)?;
            params.subject_alt_names.push(SanType::DnsName(dns));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        let key = KeyPair::generate().map_err(&failed)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(&failed)?;
        Ok(Credentials {
            ca_pem: self.cert_pem.clone(),
            cert_pem: cert.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// The CA's certificate.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    pub(crate) fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }
}

impl fmt::Debug for MeshCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshCa(..)")
    }
}

fn ca_params(mesh: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(mesh);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// The name that [`common_name`] wrote, found by its object identifier and type.
fn read_common_name(subject: &[u8]) -> Option<&str> {
    let at = subject
        .windows(COMMON_NAME.len())
        .position(|bytes| bytes == COMMON_NAME)?;
    let (length, name) = subject[at + COMMON_NAME.len()..].split_first()?;
    str::from_utf8(name.get(..usize::from(*length))?).ok()
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn issue_error(name: &str) -> impl Fn(rcgen::Error) -> Error {
    let name = name.to_owned();
    move |source| Error::Issue {
        name: name.clone(),
        source,
    }
}

const COMMON_NAME: [u8; 6] = [0x06, 0x03, 0x55, 0x04, 0x03, 0x0c]; // RFC 5280, A.1: 2.5.4.3, UTF8String
const SCHEME: &str = "vpnmesh://";
const ROLES: [Role; 3] = [Role::Controller, Role::Node, Role::Admin];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_says_who_its_holder_is() {
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};

        let ca = MeshCa::generate("test").unwrap();
        for role in ROLES {
            let credentials = ca.issue(role, "n1").unwrap();
            credentials.check().unwrap();
            let der = CertificateDer::from_pem_slice(credentials.cert_pem.as_bytes()).unwrap();
            let name = "n1".to_owned();
            assert_eq!(PeerName::of(&der), Some(PeerName { role, name }));
        }
        assert_eq!(PeerName::of(b"no certificate"), None);
        assert!("https://node/n1".parse::<PeerName>().is_err());
        assert!("vpnmesh://king/n1".parse::<PeerName>().is_err());
    }

    #[test]
    fn a_ca_issues_the_same_after_a_restart_and_never_replaces_another() {
        let directory = tempfile::tempdir().unwrap();
        let ca = MeshCa::generate("test").unwrap();
        ca.write_new(directory.path()).unwrap();
        let again = MeshCa::read(directory.path()).unwrap();
        assert_eq!(again.cert_pem(), ca.cert_pem());
        again.issue(Role::Node, "n1").unwrap().check().unwrap();
        let refused = MeshCa::generate("test")
            .unwrap()
            .write_new(directory.path());
        assert!(refused.unwrap_err().to_string().contains("exists already"));
    }

    #[test]
    fn credentials_that_do_not_belong_together_are_noticed() {
        let ca = MeshCa::generate("test").unwrap();
        let mut mixed = ca.issue(Role::Node, "n1").unwrap();
        mixed.key_pem = ca.issue(Role::Node, "n2").unwrap().key_pem;
        assert!(mixed.check().is_err());
        let missing = Credentials::read(std::path::Path::new("/nowhere")).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("cannot read /nowhere/ca.pem: it does not exist")
        );
    }
}
