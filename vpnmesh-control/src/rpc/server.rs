//! The controller's door: who calls, may they, and what do they want.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Code, Response, Status, Streaming};
use vpnmesh_core::{NodeId, Version};

use super::change::change_in;
use super::convert::version_out;
use super::dial::SEEN;
use super::order::order_out;
use super::report::{hello_in, report_in};
use super::wire;
use super::wire::admin_server::{Admin, AdminServer};
use super::wire::agent_server::{Agent, AgentServer};
use crate::pki::{Credentials, PeerName, Role};
use crate::{AgentReport, Change, Changed, ControllerOrder, Error, Hello, Refusal};

/// What callers want of the controller.
#[derive(Debug)]
pub(crate) enum Request {
    /// An agent with that certificate begins a session.
    Begin {
        hello: Hello,
        reply: oneshot::Sender<Result<SessionReply, Error>>,
    },
    /// It reports.
    Report {
        node: NodeId,
        session: u64,
        report: AgentReport,
    },
    /// It reported something that cannot be meant.
    BadReport { node: NodeId, error: Error },
    /// Its session is over.
    End { node: NodeId, session: u64 },
    /// An administrator wants a change.
    Change {
        change: Change,
        reply: oneshot::Sender<Result<Changed, Error>>,
    },
    /// Somebody wants to see the mesh, as JSON.
    Status { reply: oneshot::Sender<String> },
    /// Somebody wants to see the decisions, as JSON.
    Explain {
        node: Option<NodeId>,
        limit: usize,
        reply: oneshot::Sender<String>,
    },
}

/// An agent's session as the controller set it up.
#[derive(Debug)]
pub(crate) struct SessionReply {
    pub(crate) node: NodeId,
    pub(crate) session: u64,
    pub(crate) version: Version,
    /// What it must know first.
    pub(crate) backlog: Vec<ControllerOrder>,
    /// What comes later; ends when the controller cuts it off.
    pub(crate) orders: mpsc::Receiver<ControllerOrder>,
}

/// Serves until `stop` changes. The future must be polled; nothing happens before.
///
/// # Errors
/// [`Error::Credentials`] before anything is served.
pub(crate) fn serve(
    listener: TcpListener,
    credentials: &Credentials,
    requests: mpsc::Sender<Request>,
    mut stop: watch::Receiver<bool>,
) -> Result<impl Future<Output = ()> + Send + use<>, Error> {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(
            &credentials.cert_pem,
            credentials.key_pem.as_bytes(),
        ))
        .client_ca_root(Certificate::from_pem(&credentials.ca_pem))
        .timeout(HANDSHAKE_PATIENCE);
    let server = Server::builder()
        .tls_config(tls)
        .map_err(|source| Error::Credentials {
            path: "memory".into(),
            source: source.into(),
        })?;
    let door = Door { requests };
    let router = server
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(AgentServer::new(door.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(AdminServer::new(door).max_decoding_message_size(MAX_MESSAGE));
    let (accepted, incoming) = mpsc::channel(1);
    let incoming = ReceiverStream::new(incoming).map(Ok::<_, std::io::Error>);
    Ok(async move {
        let accepting = tokio::spawn(accept(listener, accepted));
        let stopped = async move {
            let _ = stop.wait_for(|stop| *stop).await; // an error means that the owner is gone
            accepting.abort();
        };
        if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
            tracing::error!(
                "the controller's port is closed: {}",
                super::describe(&error)
            );
        }
    })
}

/// A failed accept, for want of descriptors say, must not end the service.
async fn accept(listener: TcpListener, accepted: mpsc::Sender<TcpStream>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true); // orders are only slower without
                if accepted.send(stream).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[derive(Clone)]
struct Door {
    requests: mpsc::Sender<Request>,
}

impl Door {
    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(request(reply)).await;
        sent.map_err(|_| status(&Error::Stopped))?;
        answer.await.map_err(|_| status(&Error::Stopped))
    }
}

#[tonic::async_trait]
impl Agent for Door {
    type SessionStream = Orders;

    async fn session(
        &self,
        request: tonic::Request<Streaming<wire::AgentReport>>,
    ) -> Result<Response<Orders>, Status> {
        let peer = caller(&request, Role::Node)?;
        let mut reports = request.into_inner();
        let first = tokio::time::timeout(HANDSHAKE_PATIENCE, reports.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let first = first.ok_or_else(|| Status::invalid_argument("no hello came"))?;
        let mut hello = hello_in(first).map_err(|error| status(&error))?;
        if !hello.name.is_empty() && hello.name != peer.name {
            let (says, is) = (hello.name, peer.name);
            let text =
                format!("the agent calls itself {says}, but its certificate is that of {is}");
            return Err(Status::permission_denied(text));
        }
        hello.name = peer.name;
        let reply = self.ask(|reply| Request::Begin { hello, reply }).await?;
        let session = reply.map_err(|error| status(&error))?;
        let requests = self.requests.clone();
        let (node, number) = (session.node, session.session);
        let (orders, dropped) = Orders::new(session);
        tokio::spawn(async move {
            tokio::select! {
                () = listen(reports, &requests, node, number) => {}
                _ = dropped => {}
            }
            let session = number;
            let _ = requests.send(Request::End { node, session }).await; // or it has stopped
        });
        Ok(Response::new(orders))
    }
}

#[tonic::async_trait]
impl Admin for Door {
    async fn status(
        &self,
        request: tonic::Request<wire::StatusRequest>,
    ) -> Result<Response<wire::Document>, Status> {
        caller(&request, Role::Admin)?;
        let json = self.ask(|reply| Request::Status { reply }).await?;
        Ok(Response::new(wire::Document { json }))
    }

    async fn explain(
        &self,
        request: tonic::Request<wire::ExplainRequest>,
    ) -> Result<Response<wire::Document>, Status> {
        caller(&request, Role::Admin)?;
        let wanted = request.into_inner();
        let node = wanted.node.map(NodeId);
        let limit = match wanted.limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let json = self.ask(|reply| Request::Explain { node, limit, reply });
        Ok(Response::new(wire::Document { json: json.await? }))
    }

    async fn change(
        &self,
        request: tonic::Request<wire::ChangeRequest>,
    ) -> Result<Response<wire::ChangeReply>, Status> {
        let peer = caller(&request, Role::Admin)?;
        let change = change_in(request.into_inner()).map_err(|error| status(&error))?;
        tracing::info!("{} orders {change:?}", peer.name);
        let changed = self.ask(|reply| Request::Change { change, reply }).await?;
        let changed = changed.map_err(|error| status(&error))?;
        Ok(Response::new(wire::ChangeReply {
            version: Some(version_out(changed.version)),
            member: changed.member,
        }))
    }
}

/// Passes reports on until the agent goes or the controller stops.
async fn listen(
    mut reports: Streaming<wire::AgentReport>,
    requests: &mpsc::Sender<Request>,
    node: NodeId,
    session: u64,
) {
    while let Ok(Some(report)) = reports.message().await {
        let request = match report_in(node, report) {
            Ok(report) => Request::Report {
                node,
                session,
                report,
            },
            Err(error) => Request::BadReport { node, error },
        };
        if requests.send(request).await.is_err() {
            return;
        }
    }
}

/// The orders of one session. Dropping it, as a lost connection does, ends the session.
pub(crate) struct Orders {
    orders: Pin<Box<dyn Stream<Item = wire::ControllerOrder> + Send>>,
    _alive: oneshot::Sender<()>, // whose receiver learns of the drop
}

impl Orders {
    fn new(session: SessionReply) -> (Self, oneshot::Receiver<()>) {
        let welcome = wire::Welcome {
            version: Some(version_out(session.version)),
            node: session.node.0,
        };
        let welcome = wire::ControllerOrder {
            order: Some(wire::controller_order::Order::Welcome(welcome)),
        };
        let backlog = session.backlog.into_iter().map(order_out);
        let first = tokio_stream::iter(std::iter::once(welcome).chain(backlog));
        let orders = first.chain(ReceiverStream::new(session.orders).map(order_out));
        let (alive, dropped) = oneshot::channel();
        let orders = Self {
            orders: Box::pin(orders),
            _alive: alive,
        };
        (orders, dropped)
    }
}

impl Stream for Orders {
    type Item = Result<wire::ControllerOrder, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.orders
            .as_mut()
            .poll_next(context)
            .map(|order| order.map(Ok))
    }
}

/// Who calls, if its certificate allows that.
fn caller<T>(request: &tonic::Request<T>, role: Role) -> Result<PeerName, Status> {
    let certificates = request.peer_certs();
    let leaf = certificates.as_ref().and_then(|all| all.first());
    let peer = leaf.and_then(|leaf| PeerName::of(leaf));
    let peer = peer.ok_or_else(|| Status::unauthenticated("the certificate names no member"))?;
    if peer.role == role {
        return Ok(peer);
    }
    let wanted = match role {
        Role::Node => "a node",
        Role::Admin => "an administrator",
        Role::Controller => "a controller",
    };
    let from = request
        .remote_addr()
        .map_or_else(String::new, |from: SocketAddr| from.to_string());
    tracing::warn!("{peer} at {from} acted as {wanted}");
    Err(Status::permission_denied(format!(
        "only {wanted} may do that; this certificate is {peer}"
    )))
}

fn status(error: &Error) -> Status {
    let code = match error {
        Error::Refused(Refusal::UnknownMember { .. }) => Code::NotFound,
        Error::Refused(Refusal::NameTaken { .. }) => Code::AlreadyExists,
        Error::Refused(Refusal::Full { .. }) => Code::ResourceExhausted,
        Error::Refused(Refusal::Incarnation { .. }) => Code::FailedPrecondition,
        Error::Refused(_) | Error::Malformed { .. } | Error::Policy(_) => Code::InvalidArgument,
        Error::Denied { .. } => Code::PermissionDenied,
        _ => Code::Unavailable,
    };
    let message = match error {
        Error::Denied { reason } => reason.clone(),
        other => other.to_string(),
    };
    let mut status = Status::new(code, message);
    if let Error::Refused(Refusal::Incarnation { seen, .. }) = error {
        status.metadata_mut().insert(SEEN, (*seen).into());
    }
    status
}

const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const KEEP_ALIVE: Duration = Duration::from_secs(3);
const MAX_STREAMS: u32 = 16; // per connection: an agent needs one, an administrator a few
const MAX_MESSAGE: usize = 64 << 10; // a sample with 64 paths takes 3 kB
