//! One controller: it decides, writes down, and tells the agents.
//!
//! `conductor` decides without any I/O; `run` is the task that owns it, the store and the
//! agents' streams.

mod conductor;
mod run;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use vpnmesh_core::{Explanation, FailurePredictor, Membership, MeshSigner, NodeId};

use crate::pki::Credentials;
use crate::rpc::{self, Request};
use crate::store::{FileStore, MemoryStore, MeshStore, Recovery};
use crate::{Change, Changed, ControllerConfig, Error, MeshStatus};
use conductor::Conductor;
use run::Run;

/// What a controller needs besides its configuration.
#[derive(Debug)]
pub struct ControllerParts {
    /// A certificate for [`Role::Controller`](crate::pki::Role::Controller).
    pub credentials: Credentials,
    /// Signs memberships and orders: the mesh root key.
    pub signer: Arc<dyn MeshSigner>,
    /// Says which nodes will fail.
    pub predictor: Box<dyn FailurePredictor>,
    /// The members of a mesh that nobody ever joined; ignored once the log has any.
    pub founding: Membership,
}

/// Starts controllers.
#[derive(Debug)]
pub struct Controller;

impl Controller {
    /// Starts a controller on the present runtime. When this returns it listens, and its term is
    /// on disk.
    ///
    /// # Errors
    /// What is wrong with configuration, log, certificates or port; nothing runs then.
    pub async fn start(
        config: ControllerConfig,
        parts: ControllerParts,
    ) -> Result<ControllerHandle, Error> {
        config.policy.check().map_err(Error::Policy)?;
        let (store, recovery) = open(config.directory.as_deref())?;
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|source| Error::bind(config.listen, source))?;
        let address = listener
            .local_addr()
            .map_err(|source| Error::bind(config.listen, source))?;
        parts
            .credentials
            .check()
            .map_err(|source| Error::Credentials {
                path: config.credentials.clone(),
                source,
            })?;
        let (requests, inbox) = mpsc::channel(INBOX);
        let (stop, stopped) = watch::channel(false);
        let serving = rpc::serve(
            listener,
            &parts.credentials,
            requests.clone(),
            stopped.clone(),
        )?;
        let conductor = Conductor::new(config.policy, parts.predictor)?;
        let mut run = Run::new(conductor, store, parts.signer, config.compact_after);
        run.begin(recovery, &parts.founding).await?;
        tracing::info!("the controller listens on {address}");
        Ok(ControllerHandle {
            address,
            requests,
            stop,
            serving: tokio::spawn(serving),
            running: tokio::spawn(run.run(inbox, stopped)),
        })
    }
}

/// A running controller. Dropping it stops it, though without waiting.
#[derive(Debug)]
pub struct ControllerHandle {
    address: SocketAddr,
    requests: mpsc::Sender<Request>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    running: JoinHandle<()>,
}

impl ControllerHandle {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the mesh, as an administrator would.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Write`] if the log cannot be written, [`Error::Stopped`].
    pub async fn change(&self, change: Change) -> Result<Changed, Error> {
        self.ask(|reply| Request::Change { change, reply }).await?
    }

    /// What the mesh looks like.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn status(&self) -> Result<MeshStatus, Error> {
        let json = self.ask(|reply| Request::Status { reply }).await?;
        serde_json::from_str(&json).map_err(|_| Error::Malformed { field: "status" })
    }

    /// The newest decisions, oldest first: about one node or all, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn explain(
        &self,
        node: Option<NodeId>,
        limit: usize,
    ) -> Result<Vec<Explanation>, Error> {
        let json = self
            .ask(|reply| Request::Explain { node, limit, reply })
            .await?;
        serde_json::from_str(&json).map_err(|_| Error::Malformed {
            field: "explanation",
        })
    }

    /// Stops it; when this returns, the port is closed and the log is free.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.running).await; // a panic in there has been reported already
        let _ = (&mut self.serving).await;
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(request(reply)).await;
        sent.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)
    }
}

fn open(directory: Option<&Path>) -> Result<(Box<dyn MeshStore>, Recovery), Error> {
    let Some(directory) = directory else {
        return Ok((Box::new(MemoryStore::new()), Recovery::default()));
    };
    std::fs::create_dir_all(directory).map_err(|source| Error::write(directory, source))?;
    let (store, recovery) = FileStore::open(&directory.join("log"))?;
    Ok((Box::new(store), recovery))
}

const INBOX: usize = 256; // requests that wait; callers wait beyond that
