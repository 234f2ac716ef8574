//! The commands that ask a controller.

use std::future::Future;

use serde_json::json;
use vpnmesh::Error;
use vpnmesh::control::pki::Credentials;
use vpnmesh::control::{AdminClient, Change, Error as ControlError, MeshStatus};
use vpnmesh::core::{NodeId, Version};

use crate::arguments::{Admin, Explain, OfMember, OfNode};

pub(crate) fn status(options: &Admin) -> Result<(), Error> {
    let status = wait(async { connect(options).await?.status().await })?;
    if options.json {
        println!("{}", json!(status));
    } else {
        show(&status);
    }
    Ok(())
}

pub(crate) fn explain(options: &Explain) -> Result<(), Error> {
    let explanations = wait(async {
        let mut client = connect(&options.admin).await?;
        let node = match &options.node {
            Some(name) => Some(find(&mut client, name).await?),
            None => None,
        };
        client.explain(node, options.limit).await
    })?;
    if options.admin.json {
        println!("{}", json!(explanations));
    } else {
        explanations
            .iter()
            .for_each(|explanation| println!("{explanation}"));
    }
    Ok(())
}

pub(crate) fn drain(options: &OfNode) -> Result<(), Error> {
    change_node(options, Change::Drain)
}

pub(crate) fn undrain(options: &OfNode) -> Result<(), Error> {
    change_node(options, Change::Undrain)
}

pub(crate) fn remove(options: &OfNode) -> Result<(), Error> {
    change_node(options, Change::Remove)
}

pub(crate) fn forget(options: &OfMember) -> Result<(), Error> {
    let changed = wait(async {
        let mut client = connect(&options.admin).await?;
        let id = match (options.id, &options.node) {
            (Some(id), _) => id,
            (None, name) => {
                find(&mut client, name.as_deref().unwrap_or_default())
                    .await?
                    .0
            }
        };
        client.change(Change::Forget(id)).await
    })?;
    tell(&options.admin, changed.version);
    Ok(())
}

pub(crate) fn freeze(options: &Admin) -> Result<(), Error> {
    change(options, Change::Freeze)
}

pub(crate) fn thaw(options: &Admin) -> Result<(), Error> {
    change(options, Change::Thaw)
}

fn change_node(options: &OfNode, what: fn(NodeId) -> Change) -> Result<(), Error> {
    let changed = wait(async {
        let mut client = connect(&options.admin).await?;
        let node = find(&mut client, &options.node).await?;
        client.change(what(node)).await
    })?;
    tell(&options.admin, changed.version);
    Ok(())
}

fn change(options: &Admin, what: Change) -> Result<(), Error> {
    let changed = wait(async { connect(options).await?.change(what).await })?;
    tell(options, changed.version);
    Ok(())
}

/// What came of a change, for programs.
fn tell(options: &Admin, version: Version) {
    if options.json {
        println!("{}", json!({"version": version}));
    }
}

async fn connect(options: &Admin) -> Result<AdminClient, ControlError> {
    let credentials = Credentials::read(&options.credentials)?;
    AdminClient::connect(options.controller, &credentials).await
}

async fn find(client: &mut AdminClient, name: &str) -> Result<NodeId, ControlError> {
    let status = client.status().await?;
    let node = status.nodes.iter().find(|node| node.entry.name == name);
    node.map(|node| node.entry.id).ok_or_else(|| {
        let names: Vec<&str> = status
            .nodes
            .iter()
            .map(|node| node.entry.name.as_str())
            .collect();
        let reason = format!("there is no node {name}; there are {}", names.join(", "));
        ControlError::Denied { reason }
    })
}

fn wait<T>(work: impl Future<Output = Result<T, ControlError>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| Error::System {
        what: "start".to_owned(),
        source,
    })?;
    Ok(runtime.block_on(work)?)
}

fn show(status: &MeshStatus) {
    let version = status.membership;
    println!(
        "membership {}.{}, automation {}",
        version.term,
        version.index,
        if status.frozen { "frozen" } else { "on" }
    );
    println!(
        "{:<16} {:<12} {:<10} {:<10} {:>8} {:>6}",
        "node", "region", "state", "agent", "sessions", "risk"
    );
    for node in &status.nodes {
        let sessions = node
            .sessions
            .map_or("-".to_owned(), |sessions| sessions.held.to_string());
        let forecast = node
            .engine
            .as_ref()
            .and_then(|engine| engine.forecast.as_ref());
        let risk = forecast.map_or("-".to_owned(), |f| {
            format!("{:.0} %", f.probability.get() * 100.0)
        });
        println!(
            "{:<16} {:<12} {:<10} {:<10} {:>8} {:>6}",
            node.entry.name,
            node.entry.region.0,
            format!("{:?}", node.entry.state).to_lowercase(),
            if node.connected { "connected" } else { "away" },
            sessions,
            risk,
        );
    }
    status
        .notes
        .iter()
        .for_each(|note| println!("note: {note}"));
}
