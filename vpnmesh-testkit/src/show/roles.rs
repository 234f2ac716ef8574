//! The processes of the show: the example started again with a hidden argument.
//!
//! `--role KIND FILE` runs a member of the mesh, its traffic, or one act of its administrator, as
//! the file says. A member prints what it says on standard output, one JSON object a line.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vpnmesh::role::client::Client;
use vpnmesh::role::node::Node;
use vpnmesh::role::site::Site;
use vpnmesh::role::{Output, Role, controller, run};
use vpnmesh::settings::FromFile;
use vpnmesh_control::pki::Credentials;
use vpnmesh_control::{AdminClient, Change};

use crate::traffic::control::{Measured, serve};
use crate::traffic::{Load, LoadConfig, Resource, ResourceConfig, TrafficError};

/// The hidden argument.
pub(super) const ROLE: &str = "--role";

/// What the administrator wants of the controller.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct AdminOrder {
    /// Where the controller listens.
    pub(super) controller: SocketAddr,
    /// The directory of the administrator's certificate.
    pub(super) credentials: PathBuf,
    /// Whether to drain the node, or to take it back.
    pub(super) drain: bool,
    /// The node.
    pub(super) node: String,
}

/// Runs the role that the arguments name; `None` if they name none.
pub(super) fn perform(arguments: &[String]) -> Option<ExitCode> {
    let [hidden, kind, file] = arguments else {
        return None;
    };
    if hidden != ROLE {
        return None;
    }
    let done = perform_kind(kind, Path::new(file));
    Some(done.map_or_else(
        |reason| {
            eprintln!("{reason}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    ))
}

fn perform_kind(kind: &str, file: &Path) -> Result<(), String> {
    match kind {
        "controller" => lead(file),
        "node" => member::<Node>(file),
        "client" => member::<Client>(file),
        "site" => member::<Site>(file),
        "admin" => administer(&read(file)?),
        "load" => measured(Load::start(read::<LoadConfig>(file)?)),
        "resource" => measured(Resource::start(&read::<ResourceConfig>(file)?)),
        "burn" => burn(),
        other => Err(format!("{other:?} is no role of the show")),
    }
}

fn lead(file: &Path) -> Result<(), String> {
    let settings = controller::Settings::read(file).map_err(|error| chain(&error))?;
    controller::run(&settings, Output::JsonLines).map_err(|error| chain(&error))
}

fn member<R: Role>(file: &Path) -> Result<(), String> {
    let settings = R::Settings::read(file).map_err(|error| chain(&error))?;
    run::<R>(settings, Output::JsonLines).map_err(|error| chain(&error))
}

/// One change of the mesh, over gRPC as an operator's tool does it.
fn administer(order: &AdminOrder) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| chain(&error))?;
    runtime
        .block_on(change(order))
        .map_err(|error| chain(&*error))
}

async fn change(order: &AdminOrder) -> Result<(), Box<dyn Error>> {
    let credentials = Credentials::read(&order.credentials)?;
    let mut admin = AdminClient::connect(order.controller, &credentials).await?;
    let status = admin.status().await?;
    let node = status
        .nodes
        .iter()
        .find(|node| node.entry.name == order.node);
    let node = node.ok_or("the controller knows no such node")?.entry.id;
    let change = if order.drain {
        Change::Drain(node)
    } else {
        Change::Undrain(node)
    };
    admin.change(change).await?;
    Ok(())
}

/// Answers the director's questions about traffic until it asks no more.
fn measured<M: Measured>(started: Result<M, TrafficError>) -> Result<(), String> {
    let measured = started.map_err(|error| chain(&error))?;
    let served = serve(measured, io::stdin().lock(), io::stdout().lock());
    served.map_err(|error| chain(&error))
}

/// Uses up a processor.
fn burn() -> Result<(), String> {
    let mut number = 1_u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005) | 1);
    }
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hidden_argument_makes_a_role() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(perform(&words("--rounds 3")).is_none());
        assert!(perform(&words("--json")).is_none());
        assert!(perform(&words("--role nobody /nonexistent")).is_some());
    }

    #[test]
    fn an_error_is_one_line_with_its_causes() {
        let inner = io::Error::other("the disk is full");
        let outer = TrafficError::Channel(inner);
        assert!(
            chain(&outer).ends_with(": the disk is full"),
            "{}",
            chain(&outer)
        );
    }
}
