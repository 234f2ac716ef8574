//! The node's end of the line to its controller.
//!
//! The agent keeps one session. When it breaks it comes back with growing, random pauses, at
//! whatever controller answers. Reports that nobody can take meanwhile do not pile up: the newest
//! of each kind is kept (`mailbox`). Orders come out once each, oldest first, and never older
//! than what came out before (`fence`).

mod fence;
mod mailbox;
mod pause;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::pki::Credentials;
use crate::rpc::wire::agent_client::AgentClient;
use crate::rpc::{self, Line, wire};
use crate::{AgentConfig, AgentReport, ControllerOrder, Error, Hello};
use fence::Fence;
use mailbox::Mailbox;
use pause::Pause;

/// Where the line to the controller stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Link {
    /// No controller was reached; the agent goes on trying.
    Down {
        /// Attempts since it was up last.
        attempts: u64,
        /// Why the last one failed; empty before the first one ended.
        reason: String,
    },
    /// A controller listens.
    Up {
        /// Which one.
        controller: SocketAddr,
        /// Counts the sessions of this agent from 1.
        session: u64,
    },
    /// A controller answered and refused. The agent goes on trying, slowly.
    Refused {
        /// In its words.
        reason: String,
        /// It has seen this node as this incarnation, another process that is: repair the counter, then tell
        /// [`AgentHandle::restart_as`].
        seen_incarnation: Option<u64>,
    },
}

impl Link {
    /// Whether a controller listens.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// Starts agents.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Starts an agent on the present runtime. It never gives up.
    ///
    /// # Errors
    /// What is wrong with the configuration or the certificates; nothing runs then.
    pub fn start(
        config: AgentConfig,
        credentials: Credentials,
        hello: Hello,
    ) -> Result<AgentHandle, Error> {
        config.check()?;
        credentials.check().map_err(|source| Error::Credentials {
            path: config.credentials.clone(),
            source,
        })?;
        let name = config.name.clone();
        let (orders_in, orders) = mpsc::channel(ORDERS);
        let down = Link::Down {
            attempts: 0,
            reason: String::new(),
        };
        let (link_in, link) = watch::channel(down);
        let (hello_in, hello) = watch::channel(Hello { name, ..hello });
        let mailbox = Arc::new(Mailbox::default());
        let run = Run {
            config,
            credentials,
            hello,
            mailbox: Arc::clone(&mailbox),
            orders: orders_in,
            link: link_in,
            fence: Fence::default(),
            sessions: 0,
        };
        Ok(AgentHandle {
            reporter: Reporter { mailbox },
            orders,
            link,
            hello: hello_in,
            running: tokio::spawn(run.run()),
        })
    }
}

/// A running agent. Dropping it stops it.
#[derive(Debug)]
pub struct AgentHandle {
    reporter: Reporter,
    orders: mpsc::Receiver<ControllerOrder>,
    link: watch::Receiver<Link>,
    hello: watch::Sender<Hello>,
    running: JoinHandle<()>,
}

impl AgentHandle {
    /// For reports, from any thread.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// The next order; `None` once the agent has stopped. Whoever takes none for long is cut off by
    /// the controller and gets the present state at the next session.
    pub async fn order(&mut self) -> Option<ControllerOrder> {
        self.orders.recv().await
    }

    /// The next order if one is there.
    pub fn try_order(&mut self) -> Option<ControllerOrder> {
        self.orders.try_recv().ok()
    }

    /// Where the line stands, to look at or to wait for.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// The node goes by this incarnation from the next session on.
    pub fn restart_as(&self, incarnation: u64, random: [u8; 16]) {
        self.hello.send_modify(|hello| {
            hello.incarnation = incarnation;
            hello.random = random;
        });
    }

    /// Stops it; when this returns, its connection is closed.
    pub async fn stop(mut self) {
        self.running.abort();
        let _ = (&mut self.running).await; // it was just cancelled
    }
}

impl Drop for AgentHandle {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Takes reports for the controller. Never blocks.
#[derive(Clone, Debug)]
pub struct Reporter {
    mailbox: Arc<Mailbox>,
}

impl Reporter {
    /// Reports, now or as soon as a controller listens. A newer report of the same kind about the
    /// same node replaces one that still waits.
    pub fn report(&self, report: AgentReport) {
        self.mailbox.put(report);
    }
}

struct Run {
    config: AgentConfig,
    credentials: Credentials,
    hello: watch::Receiver<Hello>,
    mailbox: Arc<Mailbox>,
    orders: mpsc::Sender<ControllerOrder>,
    link: watch::Sender<Link>,
    fence: Fence,
    sessions: u64,
}

impl Run {
    async fn run(mut self) {
        let mut pause = Pause::new(self.config.retry_min_ms, self.config.retry_max_ms);
        let mut attempts = 0;
        for turn in 0.. {
            let address = self.config.controllers[turn % self.config.controllers.len()];
            let before = self.sessions;
            let ended = self.session(address).await;
            if self.orders.is_closed() {
                return;
            }
            attempts = if self.sessions > before {
                1
            } else {
                attempts + 1
            };
            if attempts == 1 {
                pause.reset();
            }
            let link = ended.link(attempts);
            if let Link::Refused { reason, .. } | Link::Down { reason, .. } = &link {
                tracing::debug!("controller {address}: {reason}");
            }
            if matches!(link, Link::Refused { .. }) {
                pause.lengthen();
            }
            self.link.send_replace(link);
            self.wait(pause.next()).await;
        }
    }

    /// A new incarnation is worth an attempt at once.
    async fn wait(&mut self, span: std::time::Duration) {
        tokio::select! {
            () = tokio::time::sleep(span) => {}
            Ok(()) = self.hello.changed() => {}
        }
    }

    async fn session(&mut self, address: SocketAddr) -> Ended {
        match self.open(address).await {
            Err(ended) => ended,
            Ok(open) => {
                self.sessions += 1;
                let controller = address;
                let session = self.sessions;
                self.link.send_replace(Link::Up {
                    controller,
                    session,
                });
                self.mailbox.rewind();
                self.converse(open).await
            }
        }
    }

    /// Ends with the controller's welcome: only then has it accepted the node.
    async fn open(&mut self, address: SocketAddr) -> Result<Open, Ended> {
        let patience = self.config.connect_timeout();
        let line = Line::dial(address, &self.credentials, patience)
            .await
            .map_err(Ended::lost)?;
        let mut client =
            AgentClient::new(line.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let (reports, outgoing) = mpsc::channel(1);
        let seen = self
            .hello
            .borrow_and_update()
            .seen
            .max(self.fence.membership());
        let hello = Hello {
            seen,
            ..self.hello.borrow().clone()
        };
        let _ = reports.try_send(rpc::hello_out(&hello)); // the channel is empty and open
        let opening = async {
            let answer = client.session(ReceiverStream::new(outgoing)).await?;
            let mut orders = answer.into_inner();
            let welcome = orders.message().await?;
            welcome
                .map(|_| orders)
                .ok_or_else(|| Status::unavailable("it hung up at once"))
        };
        match tokio::time::timeout(patience, opening).await {
            Ok(Ok(orders)) => Ok(Open {
                line,
                reports,
                orders,
            }),
            Ok(Err(status)) => Err(Ended::by(&line, &status)),
            Err(_) => Err(Ended::Lost("it did not answer in time".to_owned())),
        }
    }

    async fn converse(&mut self, open: Open) -> Ended {
        let Open {
            line,
            reports,
            mut orders,
        } = open;
        let sending = async {
            loop {
                let report = self.mailbox.next().await;
                if let Some(report) = rpc::report_out(report)
                    && reports.send(report).await.is_err()
                {
                    return std::future::pending().await; // the orders end too, and say why
                }
            }
        };
        let fence = &mut self.fence;
        let out = &self.orders;
        let receiving = async {
            loop {
                let order = match orders.message().await {
                    Ok(Some(order)) => rpc::order_in(order),
                    Ok(None) => return Ended::Lost("it ended the session".to_owned()),
                    Err(status) => return Ended::by(&line, &status),
                };
                match order {
                    Ok(Some(order)) if fence.admits(&order) => {
                        if out.send(order).await.is_err() {
                            return Ended::Lost("the node has stopped".to_owned());
                        }
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!("an order is ignored: {error}"),
                }
            }
        };
        tokio::select! {
            ended = receiving => ended,
            never = sending => never,
        }
    }
}

/// A session that the controller has welcomed.
struct Open {
    line: Line,
    reports: mpsc::Sender<wire::AgentReport>,
    orders: Streaming<wire::ControllerOrder>,
}

/// How a session ended.
enum Ended {
    Lost(String),
    Refused(String, Option<u64>),
}

impl Ended {
    fn lost(error: Error) -> Self {
        match error {
            Error::Unreachable { reason, .. } => Self::Lost(reason),
            other => Self::Lost(other.to_string()),
        }
    }

    fn by(line: &Line, status: &Status) -> Self {
        match line.failure(status) {
            Error::Denied { reason } => Self::Refused(reason, rpc::seen_incarnation(status)),
            other => Self::lost(other),
        }
    }

    fn link(self, attempts: u64) -> Link {
        match self {
            Self::Lost(reason) => Link::Down { attempts, reason },
            Self::Refused(reason, seen_incarnation) => Link::Refused {
                reason,
                seen_incarnation,
            },
        }
    }
}

const ORDERS: usize = 64; // that wait for the node
const MAX_MESSAGE: usize = 8 << 20; // a signed membership and its frame
