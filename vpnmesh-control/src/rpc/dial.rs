//! How to reach a controller, and what its refusals mean.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::AlertDescription;
use rustls::CertificateError as Certificate;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::Error;
use crate::pki::{CONTROLLER, Credentials};

/// One connection to a controller.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) channel: Channel,
    address: SocketAddr,
    /// Why it broke. HTTP/2 would only tell that it did.
    broke: Arc<OnceLock<String>>,
}

impl Line {
    /// Connects. TLS is done when this returns, though with TLS 1.3 the controller may refuse the
    /// certificate only at the first call.
    pub(crate) async fn dial(
        address: SocketAddr,
        credentials: &Credentials,
        patience: Duration,
    ) -> Result<Self, Error> {
        let unreachable = |error: &(dyn StdError + 'static)| Error::Unreachable {
            address,
            reason: describe(error),
        };
        let config = credentials
            .client_config()
            .map_err(|error| unreachable(&*error))?;
        let tls = TlsConnector::from(Arc::new(config));
        let broke = Arc::new(OnceLock::new());
        let endpoint = Endpoint::from_shared(format!("http://{CONTROLLER}"));
        let endpoint = endpoint
            .map_err(|error| unreachable(&error))?
            .connect_timeout(patience)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let watch = Arc::clone(&broke);
        let connector = tower::service_fn(move |_| {
            let (tls, broke) = (tls.clone(), Arc::clone(&watch));
            async move { connect(address, &tls, broke).await.map(TokioIo::new) }
        });
        let channel = endpoint.connect_with_connector(connector).await;
        Ok(Self {
            channel: channel.map_err(|error| unreachable(&error))?,
            address,
            broke,
        })
    }

    /// What a failed call means: a refusal by the controller, or no answer.
    pub(crate) fn failure(&self, status: &Status) -> Error {
        let reason = status.message().to_owned();
        if is_refusal(status.code()) {
            return Error::Denied { reason };
        }
        let reason = match (self.broke.get(), status.source()) {
            (Some(broke), _) => broke.clone(),
            (None, Some(source)) => describe(source),
            (None, None) => reason,
        };
        let address = self.address;
        Error::Unreachable { address, reason }
    }
}

/// The greatest incarnation of this node that the controller has seen, if it refuses a lower one.
pub(crate) fn seen_incarnation(status: &Status) -> Option<u64> {
    status.metadata().get(SEEN)?.to_str().ok()?.parse().ok()
}

/// The reason in one line and in our words, where TLS has one; the outer errors only say that the
/// transport failed.
pub(crate) fn describe(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    loop {
        let inside = innermost
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let tls = inside.and_then(|inside| inside.downcast_ref());
        if let Some(tls) = tls.or(innermost.downcast_ref::<rustls::Error>()) {
            return describe_tls(tls);
        }
        match innermost.source() {
            Some(source) => innermost = source,
            None => return innermost.to_string(),
        }
    }
}

fn describe_tls(error: &rustls::Error) -> String {
    let known = match error {
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "the controller wants a certificate of its mesh"
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError => {
                "the controller does not know this certificate: it is of another mesh"
            }
            _ => return error.to_string(),
        },
        rustls::Error::InvalidCertificate(invalid) => match invalid {
            Certificate::UnknownIssuer | Certificate::BadSignature => {
                "that is no controller of this mesh: its certificate is of another CA"
            }
            Certificate::InvalidPurpose
            | Certificate::InvalidPurposeContext { .. }
            | Certificate::NotValidForName
            | Certificate::NotValidForNameContext { .. } => {
                "that is a member of this mesh, but not its controller"
            }
            _ => return error.to_string(),
        },
        _ => return error.to_string(),
    };
    known.to_owned()
}

const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Unimplemented
            | Code::ResourceExhausted
    )
}

async fn connect(
    address: SocketAddr,
    tls: &TlsConnector,
    broke: Arc<OnceLock<String>>,
) -> io::Result<Watched> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = CONTROLLER.try_into().map_err(io::Error::other)?;
    let stream = tls.connect(name, stream).await?;
    Ok(Watched { stream, broke })
}

/// Remembers why reading failed first.
struct Watched {
    stream: TlsStream<TcpStream>,
    broke: Arc<OnceLock<String>>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read {
            self.broke.get_or_init(|| describe(error));
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.hear_last_words(context, &wrote);
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.hear_last_words(context, &flushed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Watched {
    /// Whoever refuses a certificate says so and hangs up. Writing may notice the second before
    /// reading has noticed the first.
    fn hear_last_words<T>(&mut self, context: &mut Context<'_>, wrote: &Poll<io::Result<T>>) {
        if !matches!(wrote, Poll::Ready(Err(_))) {
            return;
        }
        let mut scratch = [0; 1024];
        let mut words = ReadBuf::new(&mut scratch);
        let _ = Pin::new(self).poll_read(context, &mut words); // remembers the error by itself
    }
}

/// The metadata key of [`seen_incarnation`].
pub(super) const SEEN: &str = "vpnmesh-seen-incarnation";

const KEEP_ALIVE: Duration = Duration::from_secs(3); // a dead link shows within twice this
