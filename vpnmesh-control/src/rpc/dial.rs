//! How to reach a controller, and what its refusals mean.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use crate::Error;
use crate::pki::{CONTROLLER, Credentials};

/// Connects to a controller. TLS is done when this returns, though with TLS 1.3 the controller may
/// refuse the certificate only at the first call.
pub(crate) async fn dial(
    address: SocketAddr,
    credentials: &Credentials,
    patience: Duration,
) -> Result<Channel, Error> {
    let unreachable = |error: tonic::transport::Error| Error::Unreachable {
        address,
        reason: describe(&error),
    };
    let tls = ClientTlsConfig::new()
        .domain_name(CONTROLLER)
        .ca_certificate(Certificate::from_pem(&credentials.ca_pem))
        .identity(Identity::from_pem(
            &credentials.cert_pem,
            credentials.key_pem.as_bytes(),
        ));
    let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(unreachable)?;
    let endpoint = endpoint.tls_config(tls).map_err(unreachable)?;
    endpoint
        .connect_timeout(patience)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect()
        .await
        .map_err(unreachable)
}

/// The innermost reason, in one line: the outer ones only say "transport error".
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    if text.contains("CertificateRequired") {
        "the controller wants a certificate of its mesh".to_owned()
    } else if text.contains("UnknownCA")
        || text.contains("BadCertificate")
        || text.contains("DecryptError")
    {
        "the controller does not know this certificate: it is of another mesh".to_owned()
    } else if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        "that is no controller of this mesh: its certificate is of another CA".to_owned()
    } else if text.contains("InvalidPurpose") || text.contains("NotValidForName") {
        "that is a member of this mesh, but not its controller".to_owned()
    } else {
        text
    }
}

/// What a failed call means: a refusal by the controller, or no answer.
pub(crate) fn refusal(address: SocketAddr, status: &Status) -> Error {
    let refused = matches!(
        status.code(),
        Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Unimplemented
            | Code::ResourceExhausted
    );
    if refused {
        return Error::Denied {
            reason: status.message().to_owned(),
        };
    }
    let reason = match status.source() {
        Some(source) => describe(source),
        None => status.message().to_owned(),
    };
    Error::Unreachable { address, reason }
}

/// The greatest incarnation of this node that the controller has seen, if it refuses a lower one.
pub(crate) fn seen_incarnation(status: &Status) -> Option<u64> {
    status.metadata().get(SEEN)?.to_str().ok()?.parse().ok()
}

/// The metadata key of [`seen_incarnation`].
pub(super) const SEEN: &str = "vpnmesh-seen-incarnation";

const KEEP_ALIVE: Duration = Duration::from_secs(3); // a dead link shows within twice this
