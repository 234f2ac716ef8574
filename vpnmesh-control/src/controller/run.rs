//! The task that owns the conductor, the store and the agents' streams.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use vpnmesh_core::{Membership, MeshSigner, NodeId, Timestamp, Version};

use super::conductor::{Conductor, Ticket};
use crate::rpc::{Request, SessionReply};
use crate::store::{Damage, MeshStore, Recovery};
use crate::{Changed, ControllerOrder, Effect, Error, Hello, LogEntry};

/// A controller without its port.
pub(super) struct Run {
    conductor: Conductor,
    store: Box<dyn MeshStore>,
    signer: Arc<dyn MeshSigner>,
    compact_after: u64,
    agents: BTreeMap<NodeId, Agent>, // members only
    waiting: BTreeMap<Ticket, oneshot::Sender<Result<Changed, Error>>>, // one per proposal at most
    signed: (Version, Vec<u8>),      // the membership in force
    next_number: u64,                // of sessions and tickets
    retry_at: Option<Instant>,       // when to try the store again
    tick_at: Instant,
    started: Instant,
}

/// An agent that is connected.
struct Agent {
    session: u64,
    orders: mpsc::Sender<ControllerOrder>,
}

impl Run {
    pub(super) fn new(
        conductor: Conductor,
        store: Box<dyn MeshStore>,
        signer: Arc<dyn MeshSigner>,
        compact_after: u64,
    ) -> Self {
        let now = Instant::now();
        Self {
            conductor,
            store,
            signer,
            compact_after,
            agents: BTreeMap::new(),
            waiting: BTreeMap::new(),
            signed: (Version::default(), Vec::new()),
            next_number: 0,
            retry_at: None,
            tick_at: now + TICK,
            started: now,
        }
    }

    /// Takes over what the log holds, and begins a term.
    ///
    /// # Errors
    /// What the store runs into: without a term on disk nothing may be decided.
    pub(super) async fn begin(
        &mut self,
        recovery: Recovery,
        founding: &Membership,
    ) -> Result<(), Error> {
        let term = recovery.next_term();
        if let Some(Damage {
            lost_bytes,
            kept_in,
        }) = &recovery.damage
        {
            let kept_in = kept_in.display();
            self.conductor.note(format!(
                "the log was damaged: its last {lost_bytes} bytes are in {kept_in}, term {term} goes on before them"
            ));
        }
        let now = self.now();
        self.conductor
            .handle_recovery(recovery.state, term, founding, now);
        self.write().await?;
        self.carry_out();
        Ok(())
    }

    /// Runs until `stopped` says so or everybody who could ask is gone.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Request>,
        mut stopped: watch::Receiver<bool>,
    ) {
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(request) => self.handle(request),
                    None => return,
                },
                () = tokio::time::sleep_until(wake_at) => self.handle_wake(),
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            self.settle().await;
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Begin { hello, reply } => self.begin_session(&hello, reply),
            Request::Report {
                node,
                session,
                report,
            } => {
                let now = self.now();
                if self.is_current(node, session) {
                    self.conductor.handle_report(node, report, now);
                }
            }
            Request::BadReport { node, error } => {
                self.conductor.counters.bad_reports += 1;
                tracing::debug!("{node} reported nonsense: {error}");
            }
            Request::End { node, session } => {
                if self.is_current(node, session) {
                    self.agents.remove(&node);
                    tracing::info!("the agent of {node} is gone");
                }
            }
            Request::Change { change, reply } => {
                let ticket = self.number();
                self.waiting.insert(ticket, reply);
                self.conductor.handle_change(change, ticket);
            }
            Request::Status { reply } => {
                let mut status = self.conductor.status();
                for node in &mut status.nodes {
                    node.connected = self.agents.contains_key(&node.entry.id);
                }
                answer(reply, json(&status));
            }
            Request::Explain { node, limit, reply } => {
                answer(reply, json(&self.conductor.explain(node, limit)));
            }
        }
    }

    /// A later session of a node ends the earlier one: there is one process per node.
    fn begin_session(
        &mut self,
        hello: &Hello,
        reply: oneshot::Sender<Result<SessionReply, Error>>,
    ) {
        let node = match self.conductor.handle_hello(hello) {
            Ok(node) => node,
            Err(refused) => {
                self.conductor.counters.refused_sessions += 1;
                tracing::warn!("refused the agent of {}: {refused}", hello.name);
                return answer(reply, Err(refused));
            }
        };
        let session = self.number();
        let (orders, outbox) = mpsc::channel(OUTBOX);
        self.agents.insert(node, Agent { session, orders });
        tracing::info!("the agent of {node} ({}) is connected", hello.name);
        let outstanding = self.conductor.state().outstanding(node);
        let membership = self.membership();
        let later = outstanding
            .into_iter()
            .filter_map(|effect| self.order(effect));
        let backlog = std::iter::once(membership).chain(later).collect();
        let set_up = SessionReply {
            node,
            session,
            version: self.conductor.state().version(),
            backlog,
            orders: outbox,
        };
        answer(reply, Ok(set_up));
    }

    fn handle_wake(&mut self) {
        let (now, at) = (self.now(), Instant::now());
        if at >= self.tick_at {
            let late = at.saturating_duration_since(self.tick_at);
            self.conductor.handle_own_delay(late, now);
            self.tick_at = at + TICK;
        }
        if self.retry_at.is_some_and(|retry| at >= retry) {
            self.retry_at = None;
        }
        self.conductor.handle_timeout(now);
    }

    /// Writes down what was decided, brings it about, and answers who asked.
    async fn settle(&mut self) {
        if self.retry_at.is_none() {
            while let Err(error) = self.write().await {
                let asked = self.conductor.handle_failure(error);
                if !asked {
                    self.retry_at = Some(Instant::now() + RETRY);
                    break;
                }
            }
        } else {
            self.conductor.refuse_waiting();
        }
        self.carry_out();
        while let Some((ticket, changed)) = self.conductor.poll_answer() {
            if let Some(reply) = self.waiting.remove(&ticket) {
                answer(reply, changed);
            }
        }
        if self.store.entries() >= self.compact_after
            && let Err(error) = self.store.compact(self.conductor.state()).await
        {
            self.compact_after = self.compact_after.saturating_mul(2); // not at every entry
            self.conductor.note(error.to_string());
        }
    }

    async fn write(&mut self) -> Result<(), Error> {
        while let Some(entry) = self.conductor.next_entry() {
            self.store
                .append(std::slice::from_ref::<LogEntry>(&entry))
                .await?;
            let now = self.now();
            self.conductor.handle_written(&entry, now);
        }
        Ok(())
    }

    /// Tells the agents. However often the membership changed, it is signed and sent once.
    fn carry_out(&mut self) {
        let mut changed = false;
        while let Some(effect) = self.conductor.poll_effect() {
            if effect == Effect::MembershipChanged {
                changed = true;
            } else {
                self.tell(&effect);
            }
        }
        if changed {
            let state = self.conductor.state();
            self.agents.retain(|node, _| state.node(*node).is_some());
            self.tell(&Effect::MembershipChanged);
        }
    }

    fn tell(&mut self, effect: &Effect) {
        let Some(order) = self.order(*effect) else {
            return;
        };
        let before = self.agents.len();
        self.agents.retain(|node, agent| {
            let reached = !effect.concerns(*node) || agent.orders.try_send(order.clone()).is_ok();
            if !reached {
                tracing::warn!("the agent of {node} does not take its orders: cut off");
            }
            reached
        });
        self.conductor.counters.slow_agents += (before - self.agents.len()) as u64;
    }

    fn order(&mut self, effect: Effect) -> Option<ControllerOrder> {
        Some(match effect {
            Effect::MembershipChanged => self.membership(),
            Effect::Ordered(order) => ControllerOrder::Signed {
                signed: self.signer.sign_order(&order),
                order,
            },
            Effect::Warm {
                version,
                node,
                standby,
            } => ControllerOrder::Warm {
                version,
                node,
                standby,
            },
            Effect::Release {
                version,
                node,
                standby,
            } => ControllerOrder::Release {
                version,
                node,
                standby,
            },
            Effect::Share {
                version,
                node,
                to,
                share,
            } => ControllerOrder::SetShare {
                version,
                node,
                to,
                share,
            },
        })
    }

    fn membership(&mut self) -> ControllerOrder {
        let state = self.conductor.state();
        if self.signed.0 != state.membership_version() {
            let membership = state.membership();
            self.signed = (membership.version, self.signer.sign_membership(&membership));
        }
        let (version, signed) = self.signed.clone();
        ControllerOrder::Membership { version, signed }
    }

    fn is_current(&self, node: NodeId, session: u64) -> bool {
        self.agents
            .get(&node)
            .is_some_and(|agent| agent.session == session)
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.started.elapsed()
    }

    fn wake_at(&self) -> Instant {
        let engine = self.conductor.poll_timeout().since(Timestamp::ZERO);
        let engine = self.started.checked_add(engine).unwrap_or(self.tick_at);
        let retry = self.retry_at.unwrap_or(self.tick_at);
        engine.min(self.tick_at).min(retry)
    }
}

/// Whoever asked may have gone.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    let _ = reply.send(value);
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain structs with text keys always encode")
}

const OUTBOX: usize = 64; // orders that an agent may be behind
const TICK: Duration = Duration::from_millis(250); // how finely own lateness is noticed
const RETRY: Duration = Duration::from_secs(1);
