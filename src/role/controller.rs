//! The controller role: decides for the mesh, writes down what it decided, and tells the nodes.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use vpnmesh_control::pki::Credentials;
use vpnmesh_control::{
    Change, Changed, Controller, ControllerConfig, ControllerHandle, ControllerParts, MeshStatus,
};
use vpnmesh_core::{
    BudgetPolicy, Decision, EnginePolicy, Explanation, FreezePolicy, Membership, NodeId, Ratio,
    Region,
};
use vpnmesh_keys::{MembershipStore, SigningKey};
use vpnmesh_predict::TrendPredictor;
use vpnmesh_transport::io::Clock;

use super::Output;
use super::json::{Fields, fields};
use super::lines::Lines;
use super::run::own_process;
use crate::Error;
use crate::settings::{FailoverSettings, FromFile, anchor};

/// What a controller is started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where agents and administrators reach it.
    pub listen: SocketAddr,
    /// The directory of its log.
    pub state: PathBuf,
    /// The directory of its certificates.
    pub credentials: PathBuf,
    /// The file of the mesh's signing key.
    pub signing_key: PathBuf,
    /// The signed membership with which the mesh began; read while the log is empty.
    pub founding: PathBuf,
    /// When traffic leaves a node.
    #[serde(default)]
    pub failover: FailoverSettings,
    /// The same for single regions.
    #[serde(default)]
    pub regions: BTreeMap<String, FailoverSettings>,
    /// What automation may do.
    #[serde(default)]
    pub automation: AutomationSettings,
}

/// [`BudgetPolicy`] and [`FreezePolicy`] as a file says them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutomationSettings {
    /// [`BudgetPolicy::concurrent`].
    pub concurrent: u32,
    /// [`BudgetPolicy::per_window`].
    pub per_window: u32,
    /// [`BudgetPolicy::window`].
    pub window_ms: u64,
    /// [`FreezePolicy::window`].
    pub freeze_window_ms: u64,
    /// [`FreezePolicy::share`].
    pub freeze_share: Ratio,
    /// [`FreezePolicy::thaw_after`].
    pub thaw_after_ms: u64,
}

impl Default for AutomationSettings {
    fn default() -> Self {
        let (budget, freeze) = (BudgetPolicy::default(), FreezePolicy::default());
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            concurrent: budget.concurrent,
            per_window: budget.per_window,
            window_ms: millis(budget.window),
            freeze_window_ms: millis(freeze.window),
            freeze_share: freeze.share,
            thaw_after_ms: millis(freeze.thaw_after),
        }
    }
}

impl FromFile for Settings {
    fn anchor(&mut self, base: &Path) {
        for path in [
            &mut self.state,
            &mut self.credentials,
            &mut self.signing_key,
            &mut self.founding,
        ] {
            anchor(path, base);
        }
    }
}

impl Settings {
    /// What the engine goes by.
    ///
    /// # Errors
    /// [`Error::Policy`] for the first field that makes no sense.
    pub fn policy(&self) -> Result<EnginePolicy, Error> {
        let of_region = |(region, settings): (&String, &FailoverSettings)| {
            Ok((Region(region.clone()), settings.policy()?))
        };
        let automation = &self.automation;
        Ok(EnginePolicy {
            failover: self.failover.policy()?,
            regions: self
                .regions
                .iter()
                .map(of_region)
                .collect::<Result<_, Error>>()?,
            budget: BudgetPolicy {
                concurrent: automation.concurrent,
                per_window: automation.per_window,
                window: Duration::from_millis(automation.window_ms),
            },
            freeze: FreezePolicy {
                window: Duration::from_millis(automation.freeze_window_ms),
                share: automation.freeze_share,
                thaw_after: Duration::from_millis(automation.thaw_after_ms),
            },
            ..EnginePolicy::default()
        })
    }
}

/// A running controller. Dropping it stops it.
#[derive(Debug)]
pub struct Handle {
    controller: Option<ControllerHandle>,
    runtime: tokio::runtime::Runtime,
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.controller().address()
    }

    /// What the mesh looks like.
    ///
    /// # Errors
    /// [`Error::Control`] if it has stopped.
    pub fn status(&self) -> Result<MeshStatus, Error> {
        Ok(self.runtime.block_on(self.controller().status())?)
    }

    /// The newest decisions, oldest first: about one node or all.
    ///
    /// # Errors
    /// [`Error::Control`] if it has stopped.
    pub fn explain(&self, node: Option<NodeId>, limit: usize) -> Result<Vec<Explanation>, Error> {
        Ok(self
            .runtime
            .block_on(self.controller().explain(node, limit))?)
    }

    /// Changes the mesh, as an administrator would.
    ///
    /// # Errors
    /// [`Error::Control`] with the refusal; nothing was changed then.
    pub fn change(&self, change: Change) -> Result<Changed, Error> {
        Ok(self.runtime.block_on(self.controller().change(change))?)
    }

    /// Stops it; when this returns, its port and its log are free.
    pub fn stop(mut self) {
        self.end();
    }

    fn controller(&self) -> &ControllerHandle {
        self.controller
            .as_ref()
            .expect("only `end` takes it, at the end of the handle's life")
    }

    fn end(&mut self) {
        if let Some(controller) = self.controller.take() {
            self.runtime.block_on(controller.stop());
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts a controller. When this returns it listens.
///
/// # Errors
/// [`Error`] names the file or the port, and the way out. Nothing runs then.
pub fn start(settings: &Settings) -> Result<Handle, Error> {
    let policy = settings.policy()?;
    let signer = SigningKey::read(&settings.signing_key)?;
    let founding = founding(&settings.founding, &signer)?;
    let config = ControllerConfig {
        listen: settings.listen,
        directory: Some(settings.state.clone()),
        credentials: settings.credentials.clone(),
        policy,
        ..ControllerConfig::default()
    };
    let parts = ControllerParts {
        credentials: Credentials::read(&settings.credentials)?,
        signer: Arc::new(signer),
        predictor: Box::new(TrendPredictor::new()),
        founding,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("vpnmesh-control")
        .enable_all()
        .build()
        .map_err(Error::system("start the controller's threads"))?;
    let controller = runtime.block_on(Controller::start(config, parts))?;
    Ok(Handle {
        controller: Some(controller),
        runtime,
    })
}

/// Runs a controller until SIGTERM or SIGINT, and stops it in order.
///
/// With [`Output::JsonLines`] it prints each decision once, and a `report` every 250 ms.
///
/// # Errors
/// Those of [`start`].
pub fn run(settings: &Settings, output: Output) -> Result<(), Error> {
    let ended = own_process()?;
    let handle = start(settings)?;
    let mut out =
        (output == Output::JsonLines).then(|| Lines::new(io::stdout(), "controller", "controller"));
    let mut print = |event: &str, record: Fields| {
        if let Some(lines) = &mut out
            && lines.print(Clock.now(), event, record).is_err()
        {
            out = None; // nobody reads any more: the mesh matters more than its records
        }
    };
    let listening = json!({"pid": std::process::id(), "address": handle.address()});
    print("started", fields(listening));
    let mut told = None;
    while !ended.load(Ordering::Acquire) {
        thread::sleep(REPORT_EVERY);
        if output == Output::Quiet {
            continue;
        }
        for explanation in handle.explain(None, NEWEST)? {
            if told.is_none_or(|number| explanation.number > number) {
                told = Some(explanation.number);
                print("decision", decision(&explanation));
            }
        }
        print("report", report(&handle.status()?));
    }
    handle.stop();
    print("stopped", fields(json!({})));
    Ok(())
}

/// The members with which the mesh begins; nothing where the file is gone, as the log has them then.
fn founding(path: &Path, signer: &SigningKey) -> Result<Membership, Error> {
    let store = MembershipStore::open(path, signer.verifying_key().clone())?;
    Ok(store.membership().cloned().unwrap_or_default())
}

fn decision(explanation: &Explanation) -> Fields {
    let mut record = fields(json!({
        "number": explanation.number,
        "node": explanation.node.map(|node| node.to_string()),
        "cause": explanation.cause,
        "text": explanation.to_string(),
    }));
    let (name, what) = match &explanation.decision {
        Decision::Acted(kind) => ("action", json!(kind)),
        Decision::Held { share } => ("held", json!({"share": share})),
        Decision::Declined(refusal) => ("declined", json!(refusal)),
    };
    record.insert(name.to_owned(), what);
    record
}

fn report(status: &MeshStatus) -> Fields {
    let nodes = status.nodes.iter().map(|node| {
        let engine = node.engine.as_ref();
        json!({
            "id": node.entry.id.to_string(),
            "name": node.entry.name,
            "region": node.entry.region.0,
            "state": node.entry.state,
            "connected": node.connected,
            "engine": engine,
            "sessions": node.sessions.map(|sessions| sessions.held),
        })
    });
    fields(json!({
        "version": status.version,
        "membership": status.membership,
        "frozen": status.frozen,
        "nodes": nodes.collect::<Vec<_>>(),
        "notes": status.notes,
    }))
}

const WORKERS: usize = 2;
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// Decisions within one period: more than an engine makes.
const NEWEST: usize = 64;
