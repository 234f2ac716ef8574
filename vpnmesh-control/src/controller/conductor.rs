//! What the controller decides: the mesh as it is written down, and the engine that wants it
//! otherwise.
//!
//! Sans-I/O. Whatever shall change goes through the log: [`Conductor::next_entry`] says what to
//! write, and [`Conductor::handle_written`] brings it about once it is durable.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vpnmesh_core::{
    Action, ActionKind, ClientEntry, ClientId, Command, Engine, EnginePolicy, Event, Explanation,
    FailurePredictor, Membership, NodeEntry, NodeId, NodeState, SiteEntry, SiteId, Timestamp,
};

use crate::{
    AgentReport, Candidate, CandidateKind, Change, Changed, Counters, Effect, Error, Handover,
    Hello, LogEntry, MeshCommand, MeshState, MeshStatus, NodeView, Refusal, SessionCounts,
};

/// The number by which an administrator's change is answered.
pub(super) type Ticket = u64;

/// Decides for the mesh. Drain the `poll_*` and `next_entry` after every `handle_*`.
#[derive(Debug)]
pub(super) struct Conductor {
    state: MeshState,
    engine: Engine,
    said: BTreeMap<NodeId, Said>,                        // members only
    proposals: VecDeque<Proposal>,                       // at most MAX_PROPOSALS
    effects: VecDeque<Effect>,                           // drained after every entry
    answers: VecDeque<(Ticket, Result<Changed, Error>)>, // likewise
    notes: VecDeque<String>,                             // at most MeshStatus::MAX_NOTES
    pub(super) counters: Counters,
}

/// What a node said last about itself.
#[derive(Clone, Default, Debug)]
struct Said {
    software: String,
    sessions: Option<SessionCounts>,
    handover: Option<Handover>,
}

/// Something to write down, and what to do then.
#[derive(Debug)]
struct Proposal {
    entry: Wanted,
    then: Option<Then>,
    ticket: Option<Ticket>,
    member: Option<u64>,
}

#[derive(Debug)]
enum Wanted {
    Command(MeshCommand),
    Term(u64),
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Order(Command),
    Join(NodeId),
}

impl Conductor {
    /// Decides by that policy with those forecasts. Nothing is known yet.
    pub(super) fn new(
        policy: EnginePolicy,
        predictor: Box<dyn FailurePredictor>,
    ) -> Result<Self, Error> {
        Ok(Self {
            state: MeshState::default(),
            engine: Engine::new(policy, predictor).map_err(Error::Policy)?,
            said: BTreeMap::new(),
            proposals: VecDeque::new(),
            effects: VecDeque::new(),
            answers: VecDeque::new(),
            notes: VecDeque::new(),
            counters: Counters::default(),
        })
    }

    /// The log says this; leads it in `term` from now on.
    pub(super) fn handle_recovery(
        &mut self,
        state: MeshState,
        term: u64,
        founding: &Membership,
        now: Timestamp,
    ) {
        self.state = state;
        self.propose(Wanted::Term(term));
        if self.state.is_empty() {
            let nodes = founding.nodes.iter().cloned().map(MeshCommand::PutNode);
            let clients = founding.clients.iter().cloned().map(MeshCommand::PutClient);
            let sites = founding.sites.iter().cloned().map(MeshCommand::PutSite);
            let members = nodes.chain(clients).chain(sites);
            members.for_each(|member| self.propose(Wanted::Command(member)));
        }
        self.engine.handle_membership(&self.state.membership(), now);
        self.engine.handle_inherited(self.state.may_return());
        for node in self.state.held().clone() {
            let _ = self.engine.handle_command(Command::Hold { node }, now); // gone meanwhile
        }
        if self.state.is_frozen() {
            let _ = self.engine.handle_command(Command::Freeze, now); // names no node
        }
        self.settle();
    }

    /// An agent whose certificate says `hello.name` begins a session.
    pub(super) fn handle_hello(&mut self, hello: &Hello) -> Result<NodeId, Error> {
        let Some(entry) = self.state.node_named(&hello.name) else {
            let reason = format!("{} is no node of this mesh; let it join first", hello.name);
            return Err(Error::Denied { reason });
        };
        let node = entry.id;
        match self.state.incarnation(node) {
            Some(seen) if seen > hello.incarnation => {
                return Err(Refusal::Incarnation { node, seen }.into());
            }
            Some(seen) if seen == hello.incarnation => {
                if self.state.incarnation_random(node) != Some(hello.random) {
                    return Err(Refusal::Incarnation { node, seen }.into());
                }
            }
            _ => self.propose_then(
                MeshCommand::Started {
                    node,
                    incarnation: hello.incarnation,
                    random: hello.random,
                },
                Then::Join(node),
            ),
        }
        self.said
            .entry(node)
            .or_default()
            .software
            .clone_from(&hello.software);
        self.catch_up(hello);
        Ok(node)
    }

    /// A node knows of a later term: this log lost its end. Go beyond that term.
    fn catch_up(&mut self, hello: &Hello) {
        let (seen, have) = (hello.seen, self.state.version());
        if seen <= have || seen.term.saturating_sub(have.term) > MAX_JUMP {
            return;
        }
        self.note(format!(
            "{} has seen {seen:?}, but the log ends at {have:?}",
            hello.name
        ));
        self.propose(Wanted::Term(seen.term + 1));
    }

    /// A node reports.
    pub(super) fn handle_report(&mut self, node: NodeId, report: AgentReport, now: Timestamp) {
        match report {
            AgentReport::Sample(sample) => self.engine.handle_sample(node, &sample, now),
            AgentReport::Health(report) => self.engine.handle_report(&report, now),
            AgentReport::Event(event) => self.engine.handle_event(event, now),
            AgentReport::Sessions(counts) => {
                self.said.entry(node).or_default().sessions = Some(counts);
            }
            AgentReport::Handover(handover) => {
                self.said.entry(node).or_default().handover = Some(handover);
            }
        }
        self.settle();
    }

    /// An administrator wants a change; the answer carries the ticket.
    pub(super) fn handle_change(&mut self, change: Change, ticket: Ticket) {
        let taken = if self.proposals.len() >= MAX_PROPOSALS {
            let reason = "too many decisions wait to be written; see the status".to_owned();
            Err(Error::Denied { reason })
        } else {
            self.take(change)
        };
        match (taken, self.proposals.back_mut()) {
            (Ok(member), Some(last)) => {
                last.ticket = Some(ticket);
                last.member = member;
            }
            (Err(refused), _) => self.answers.push_back((ticket, Err(refused))),
            (Ok(_), None) => self.answers.push_back((ticket, Err(Error::Stopped))),
        }
    }

    /// Proposes what the change needs: at least one entry.
    fn take(&mut self, change: Change) -> Result<Option<u64>, Error> {
        let hold = |node, held| MeshCommand::Hold { node, held };
        let set = |node, state| MeshCommand::SetState {
            node,
            state,
            automatic: false,
        };
        match change {
            Change::Drain(node) => {
                let draining = set(node, NodeState::Draining);
                self.propose_then(draining, Then::Order(Command::Drain { node }));
            }
            Change::Undrain(node) => {
                let entry = self
                    .state
                    .node(node)
                    .ok_or(Refusal::UnknownMember { id: node.0 })?;
                if entry.state == NodeState::Draining && self.state.share(node).is_none() {
                    self.propose(Wanted::Command(set(node, NodeState::Active)));
                }
                self.propose_then(hold(node, false), Then::Order(Command::Undrain { node }));
            }
            Change::Remove(node) => self.propose(Wanted::Command(set(node, NodeState::Removed))),
            Change::Hold(node) => {
                self.propose_then(hold(node, true), Then::Order(Command::Hold { node }));
            }
            Change::Release(node) => {
                self.propose_then(hold(node, false), Then::Order(Command::Release { node }));
            }
            Change::Freeze => {
                self.propose_then(MeshCommand::Freeze(true), Then::Order(Command::Freeze));
            }
            Change::Thaw => {
                self.propose_then(MeshCommand::Freeze(false), Then::Order(Command::Thaw));
            }
            Change::SetTier(client, tier) => {
                self.propose(Wanted::Command(MeshCommand::SetTier { client, tier }));
            }
            Change::Forget(member) => self.propose(Wanted::Command(MeshCommand::Forget(member))),
            Change::Join(candidate) => {
                let id = self.state.free_id();
                self.propose(Wanted::Command(join(id, candidate)));
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The process ran this much late.
    pub(super) fn handle_own_delay(&mut self, delay: Duration, now: Timestamp) {
        self.engine.handle_event(Event::OwnDelay { delay }, now);
        self.settle();
    }

    /// It is `now`.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.engine.handle_timeout(now);
        self.settle();
    }

    /// What to write next. Repeat it until [`Conductor::handle_written`] or
    /// [`Conductor::handle_failure`].
    pub(super) fn next_entry(&mut self) -> Option<LogEntry> {
        loop {
            let entry = match &self.proposals.front()?.entry {
                Wanted::Command(command) => LogEntry::after(self.state.version(), command.clone()),
                Wanted::Term(term) => LogEntry::begin_term(self.state.version(), *term),
            };
            let refused = match entry.command {
                MeshCommand::BeginTerm if entry.version <= self.state.version() => None, // too late
                _ => match self.state.check(&entry.command) {
                    Ok(()) => return Some(entry),
                    Err(refusal) => Some(refusal),
                },
            };
            let proposal = self.proposals.pop_front()?;
            if let (Some(ticket), Some(refusal)) = (proposal.ticket, refused) {
                self.answers.push_back((ticket, Err(refusal.into())));
            }
        }
    }

    /// The entry of [`Conductor::next_entry`] is durable.
    pub(super) fn handle_written(&mut self, entry: &LogEntry, now: Timestamp) {
        let Some(proposal) = self.proposals.pop_front() else {
            return;
        };
        let effects = self.state.apply(entry);
        let effects = effects.expect("next_entry has checked it against this very state");
        if effects.contains(&Effect::MembershipChanged) {
            let state = &self.state;
            self.said.retain(|node, _| state.node(*node).is_some());
            self.engine.handle_membership(&self.state.membership(), now);
        }
        self.effects.extend(effects);
        match proposal.then {
            None => {}
            Some(Then::Order(command)) => {
                let _ = self.engine.handle_command(command, now); // forgotten in the meantime
            }
            Some(Then::Join(node)) => self.engine.handle_event(Event::NodeJoined { node }, now),
        }
        if let Some(ticket) = proposal.ticket {
            let changed = Changed {
                version: entry.version,
                member: proposal.member,
            };
            self.answers.push_back((ticket, Ok(changed)));
        }
        self.settle();
    }

    /// The entry could not be written: an administrator may try again, automation will.
    ///
    /// Returns whether it was an administrator's, so that the next one may be tried at once.
    pub(super) fn handle_failure(&mut self, error: Error) -> bool {
        self.counters.store_failures += 1;
        self.note(error.to_string());
        let ticket = self.proposals.front().and_then(|proposal| proposal.ticket);
        if let Some(ticket) = ticket {
            self.proposals.pop_front();
            self.answers.push_back((ticket, Err(error)));
        }
        ticket.is_some()
    }

    /// Nothing can be written for a while: administrators get to know at once.
    pub(super) fn refuse_waiting(&mut self) {
        let note = self.notes.back().cloned().unwrap_or_default();
        let asked = self.proposals.iter().filter_map(|proposal| proposal.ticket);
        for ticket in asked {
            let reason = note.clone();
            self.answers
                .push_back((ticket, Err(Error::Denied { reason })));
        }
        self.proposals.retain(|proposal| proposal.ticket.is_none());
    }

    /// Something to tell the agents.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// An answer for an administrator.
    pub(super) fn poll_answer(&mut self) -> Option<(Ticket, Result<Changed, Error>)> {
        self.answers.pop_front()
    }

    /// When to come back if nothing arrives before.
    pub(super) fn poll_timeout(&self) -> Timestamp {
        self.engine.poll_timeout()
    }

    /// The mesh as it is written down.
    pub(super) const fn state(&self) -> &MeshState {
        &self.state
    }

    /// The newest decisions about one node or all, oldest first.
    pub(super) fn explain(&self, node: Option<NodeId>, limit: usize) -> Vec<&Explanation> {
        let newest = self.engine.journal().entries().rev();
        let about = newest.filter(|e| node.is_none() || e.node == node || e.node.is_none());
        let mut newest: Vec<&Explanation> = about.take(limit).collect();
        newest.reverse();
        newest
    }

    /// What the mesh looks like, but for which agents are connected.
    pub(super) fn status(&self) -> MeshStatus {
        let membership = self.state.membership();
        let view = |entry: NodeEntry| {
            let said = self.said.get(&entry.id).cloned().unwrap_or_default();
            NodeView {
                engine: self.engine.node(entry.id),
                connected: false,
                software: said.software,
                incarnation: self.state.incarnation(entry.id),
                sessions: said.sessions,
                handover: said.handover,
                entry,
            }
        };
        MeshStatus {
            version: self.state.version(),
            membership: membership.version,
            frozen: self.engine.is_frozen(),
            nodes: membership.nodes.into_iter().map(view).collect(),
            clients: membership.clients,
            sites: membership.sites,
            notes: self.notes.iter().cloned().collect(),
            counters: self.counters,
        }
    }

    /// Something an operator should know; said once until something else is.
    pub(super) fn note(&mut self, note: String) {
        if self.notes.back() == Some(&note) {
            return;
        }
        tracing::warn!("{note}");
        if self.notes.len() >= MeshStatus::MAX_NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back(note);
    }

    /// What the engine wants becomes proposals.
    fn settle(&mut self) {
        while let Some(Action { kind, cause }) = self.engine.poll_action() {
            tracing::info!("{kind}, because {cause}");
            if let Some(command) = command_for(kind) {
                self.propose(Wanted::Command(command));
            }
        }
    }

    fn propose(&mut self, entry: Wanted) {
        self.push(entry, None);
    }

    fn propose_then(&mut self, command: MeshCommand, then: Then) {
        self.push(Wanted::Command(command), Some(then));
    }

    /// At the bound the newest is dropped: what waits longer is what the state needs next. Changes
    /// by administrators are refused a little earlier.
    fn push(&mut self, entry: Wanted, then: Option<Then>) {
        if self.proposals.len() > MAX_PROPOSALS + 1 {
            self.counters.store_failures += 1;
            return;
        }
        self.proposals.push_back(Proposal {
            entry,
            then,
            ticket: None,
            member: None,
        });
    }
}

/// Freezing by itself is not written down: it ends with the engine.
fn command_for(action: ActionKind) -> Option<MeshCommand> {
    let set = |node, state| MeshCommand::SetState {
        node,
        state,
        automatic: true,
    };
    match action {
        ActionKind::WarmStandby { node, standby } => Some(MeshCommand::Warm { node, standby }),
        ActionKind::ReleaseStandby { node, standby } => {
            Some(MeshCommand::Release { node, standby })
        }
        ActionKind::SetShare { node, to, share } => Some(MeshCommand::SetShare { node, to, share }),
        ActionKind::RemoveNode { node } => Some(set(node, NodeState::Removed)),
        ActionKind::RestoreNode { node } => Some(set(node, NodeState::Active)),
        ActionKind::Freeze { .. } | ActionKind::Thaw => None,
    }
}

fn join(id: u64, candidate: Candidate) -> MeshCommand {
    let Candidate { name, key, kind } = candidate;
    match kind {
        CandidateKind::Node { region, addresses } => MeshCommand::PutNode(NodeEntry {
            id: NodeId(id),
            name,
            region,
            key,
            addresses,
            state: NodeState::Active,
        }),
        CandidateKind::Client { prefixes, tier } => MeshCommand::PutClient(ClientEntry {
            id: ClientId(id),
            name,
            key,
            prefixes,
            tier,
        }),
        CandidateKind::Site { region, prefixes } => MeshCommand::PutSite(SiteEntry {
            id: SiteId(id),
            name,
            region,
            key,
            prefixes,
        }),
    }
}

const MAX_PROPOSALS: usize = 32_768; // twice the members of a founding membership
const MAX_JUMP: u64 = 1 << 32; // terms: more than a log can lose
