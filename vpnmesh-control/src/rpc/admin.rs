//! What an administrator's program calls.

use std::net::SocketAddr;
use std::time::Duration;

use tonic::transport::Channel;
use vpnmesh_core::{Explanation, NodeId};

use super::change::change_out;
use super::convert::{some, version_in};
use super::dial::Line;
use super::wire;
use super::wire::admin_client::AdminClient as Wire;
use crate::pki::Credentials;
use crate::{Change, Changed, Error, MeshStatus};

/// A connection to a controller with an administrator's certificate.
#[derive(Clone, Debug)]
pub struct AdminClient {
    line: Line,
    wire: Wire<Channel>,
}

impl AdminClient {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn connect(address: SocketAddr, credentials: &Credentials) -> Result<Self, Error> {
        let line = Line::dial(address, credentials, PATIENCE).await?;
        let wire = Wire::new(line.channel.clone()).max_decoding_message_size(MAX_DOCUMENT);
        Ok(Self { line, wire })
    }

    /// What the mesh looks like.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Denied`], [`Error::Malformed`].
    pub async fn status(&mut self) -> Result<MeshStatus, Error> {
        let reply = self.wire.status(patient(wire::StatusRequest {})).await;
        let document = reply.map_err(|status| self.line.failure(&status))?;
        parse(&document.into_inner().json)
    }

    /// The newest decisions, oldest first: about one node or all, at most `limit` if it is not zero.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Denied`], [`Error::Malformed`].
    pub async fn explain(
        &mut self,
        node: Option<NodeId>,
        limit: u32,
    ) -> Result<Vec<Explanation>, Error> {
        let node = node.map(|node| node.0);
        let request = patient(wire::ExplainRequest { node, limit });
        let reply = self.wire.explain(request).await;
        let document = reply.map_err(|status| self.line.failure(&status))?;
        parse(&document.into_inner().json)
    }

    /// Changes the mesh. When this returns, the change survives the controller's crash.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Denied`], [`Error::Malformed`].
    pub async fn change(&mut self, change: Change) -> Result<Changed, Error> {
        let reply = self.wire.change(patient(change_out(change))).await;
        let changed = reply.map_err(|status| self.line.failure(&status))?;
        let changed = changed.into_inner();
        Ok(Changed {
            version: version_in(some(changed.version, "change.version")?),
            member: changed.member,
        })
    }
}

fn patient<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|_| Error::Malformed { field: "document" })
}

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_DOCUMENT: usize = 64 << 20; // more than a mesh of the largest membership needs
