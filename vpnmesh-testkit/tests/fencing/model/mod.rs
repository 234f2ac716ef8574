//! One client, three nodes and one site in few words, so that every order of events can be tried.
//!
//! The site decides with the product's own [`SiteFence`], and statements order as the product's
//! [`Receipt`]s. Client and nodes follow `client/moves.rs` and `node/activate.rs` step by step; the
//! machines themselves are searched in `machines`.
//!
//! The network is the worst there is: whatever was sent may arrive at any later time, again and
//! again, in any order, or never. A [`Flaw`] breaks one rule on purpose.

mod client;
mod health;
mod nodes;
mod words;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use vpnmesh_core::{NodeId, Timestamp};
use vpnmesh_transport::flow::FlowHash;
use vpnmesh_transport::site::SiteFence;

pub(crate) use words::{Action, Budget, Flaw, Message, Move, NODES, Statement};
use words::{bit, id};

/// How far a planned move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    Activating,
    Announcing,
    Flowing,
    Committing,
}

/// A holder as its client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Holder {
    pub(crate) node: u8,
    /// What still opens, oldest first; never empty.
    pub(crate) keys: Vec<Move>,
    /// The newest keys that it has shown to have.
    proven: Option<Move>,
    /// Its newest activation was not answered yet.
    waiting: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Client {
    number: u32,
    generation: u32,
    greatest: u32,
    /// Nodes that may be activated, one bit each.
    roster: u8,
    renewing: bool,
    active: Option<Holder>,
    other: Option<Holder>,
    stage: Option<Stage>,
    then_back: bool,
    draining: Option<Holder>,
    tried: u8,
    answered: Option<(Move, bool)>,
    /// For the laws: the client has made this move the only one.
    floor: Move,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Node {
    /// Branches by generation, each with the greatest move seen.
    branches: Vec<(u32, u32)>,
    session: Option<Session>,
    /// For the laws: what it has opened in this life and those before.
    opened: Vec<Move>,
    /// For the laws: it opened something twice.
    reopened: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Session {
    at: Move,
    leaving: bool,
}

/// For the laws: what a site may do, by our own count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Heard {
    pub(crate) newest: Statement,
    /// The drained holder's time is not over.
    pub(crate) drains: bool,
    /// It said which packet was its last.
    pub(crate) closed: bool,
}

/// Everything that is the case.
#[derive(Debug, Clone)]
pub(crate) struct State {
    client: Client,
    nodes: [Node; NODES as usize],
    site: SiteFence,
    now: Timestamp,
    heard: Heard,
    /// Sorted.
    sent: Vec<Message>,
    budget: Budget,
}

impl State {
    /// A session at node 0 with the two others as its shadows.
    pub(crate) fn start(budget: Budget) -> Self {
        let at = Move {
            generation: 1,
            number: 1,
        };
        let first = Statement {
            at,
            alone: true,
            holder: 0,
            drained: None,
        };
        let mut nodes: [Node; NODES as usize] = Default::default();
        for node in &mut nodes {
            node.give(1, 1);
        }
        nodes[0].open(at);
        nodes[0].session = Some(Session { at, leaving: false });
        let mut site = SiteFence::default();
        site.take(first.receipt(), GRACE, Timestamp::ZERO);
        Self {
            client: Client {
                number: 1,
                generation: 1,
                greatest: 1,
                roster: ALL,
                renewing: false,
                active: Some(holding(0, at)),
                other: None,
                stage: None,
                then_back: false,
                draining: None,
                tried: 0,
                answered: Some((at, true)),
                floor: at,
            },
            nodes,
            site,
            now: Timestamp::ZERO,
            heard: Heard {
                newest: first,
                drains: false,
                closed: false,
            },
            sent: Vec::new(),
            budget,
        }
    }

    /// Names the state. Two states with one name are the same, but for one chance in 2^128.
    pub(crate) fn name(&self) -> u128 {
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &self.client, &self.nodes, &self.sent).hash(&mut hasher);
            (self.heard, self.budget, self.site_view()).hash(&mut hasher);
            hasher.finish()
        };
        u128::from(half(0)) << 64 | u128::from(half(1))
    }

    /// What can be seen of the site's fence from outside.
    fn site_view(&self) -> (u32, Option<NodeId>, [bool; 2 * NODES as usize]) {
        let number = self.site.newest().map_or(0, |newest| newest.fence.number);
        let accepted = std::array::from_fn(|at| {
            let counter = if at % 2 == 0 { EARLY } else { LATE };
            self.site.accepts(id(at as u8 / 2), counter, self.now)
        });
        (number, self.site.holder_for(FLOW, self.now), accepted)
    }

    /// Everything that might happen now.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut all: Vec<Action> = self
            .sent
            .iter()
            .map(|sent| Action::Deliver(*sent))
            .collect();
        all.extend([
            Action::TurnBack,
            Action::Deadline,
            Action::Commit,
            Action::Drained,
            Action::SuspectOther,
            Action::Restate,
            Action::Renew,
            Action::SiteTime,
        ]);
        for node in 0..NODES {
            all.extend([
                Action::Shift(node),
                Action::Suspect(node),
                Action::Attach(node),
                Action::Crash(node),
                Action::End(node),
                Action::Carry(node),
            ]);
        }
        all
    }

    /// Does what `action` says; `None` if it cannot happen.
    pub(crate) fn after(&self, action: Action, flaw: Flaw) -> Option<Self> {
        if !self.can(action, flaw) {
            return None;
        }
        let mut next = self.clone();
        next.act(action, flaw);
        Some(next)
    }

    fn can(&self, action: Action, flaw: Flaw) -> bool {
        let (client, budget) = (&self.client, &self.budget);
        match action {
            Action::Deliver(_) => true,
            Action::Shift(to) => budget.shifts > 0 && self.can_shift(to),
            Action::TurnBack => {
                budget.backs > 0 && client.stage.is_some_and(|stage| stage < Stage::Committing)
            }
            Action::Deadline => client.stage.is_some_and(|stage| stage != Stage::Flowing),
            Action::Commit => client.stage == Some(Stage::Flowing),
            Action::Drained => client.draining.is_some(),
            Action::Suspect(next) => budget.suspicions > 0 && self.can_lose_to(next),
            Action::SuspectOther => budget.suspicions > 0 && client.other.is_some(),
            Action::Attach(_) => budget.attaches > 0 && client.active.is_none(),
            Action::Restate => {
                let stated = self.stated(flaw);
                stated.is_some_and(|stated| self.sent.binary_search(&stated).is_err())
            }
            Action::Renew => budget.renewals > 0 && self.can_renew(),
            Action::Crash(_) => budget.crashes > 0,
            Action::End(node) => self.session(node).is_some_and(|session| session.leaving),
            Action::Carry(node) => {
                self.session(node).is_some() && self.site.accepts(id(node), LATE, self.now)
            }
            Action::SiteTime => self.heard.drains,
        }
    }

    fn act(&mut self, action: Action, flaw: Flaw) {
        let budget = &mut self.budget;
        match action {
            Action::Deliver(message) => self.deliver(message, flaw),
            Action::Shift(to) => {
                budget.shifts -= 1;
                self.start_move(to);
            }
            Action::TurnBack => {
                budget.backs -= 1;
                self.turn_back();
            }
            Action::Deadline => self.advance_move(true, flaw),
            Action::Commit => self.commit(),
            Action::Drained => self.end_drain(),
            Action::Suspect(next) => {
                budget.suspicions -= 1;
                self.take_over(next, flaw);
            }
            Action::SuspectOther => {
                budget.suspicions -= 1;
                self.lose_other();
            }
            Action::Attach(to) => {
                budget.attaches -= 1;
                self.attach(to);
            }
            Action::Restate => self.restate(flaw),
            Action::Renew => {
                budget.renewals -= 1;
                self.renew();
            }
            Action::Crash(node) => {
                budget.crashes -= 1;
                self.crash(node);
            }
            Action::End(node) => self.node(node).session = None,
            Action::Carry(node) => self.site.note_flow(FLOW, id(node), self.now),
            Action::SiteTime => self.end_site_drain(),
        }
    }

    fn node(&mut self, node: u8) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    fn session(&self, node: u8) -> Option<Session> {
        self.nodes[usize::from(node)].session
    }

    fn send(&mut self, message: Message) {
        if let Err(place) = self.sent.binary_search(&message) {
            self.sent.insert(place, message);
        }
    }

    fn deliver(&mut self, message: Message, flaw: Flaw) {
        match message {
            Message::Activate {
                to,
                at,
                continues,
                receipt,
            } => self.handle_activation(to, at, continues, receipt, flaw),
            Message::Activated { from, at } => self.handle_activated(from, at, flaw),
            Message::Stated { by, statement } => {
                if self.session(by).is_some() {
                    self.send(Message::Relayed { by, statement });
                }
            }
            Message::Relayed { by, statement } => self.handle_statement(by, statement, flaw),
            Message::Answer { by, statement } => self.handle_answer(by, statement, flaw),
            Message::Leave { to, number } => self.handle_leave(to, number),
            Message::Left { from, number } => self.handle_left(from, number),
            Message::FinalUp { from, number } => {
                let heard = &mut self.heard;
                let meant = heard.newest.at.number == number && heard.newest.drained == Some(from);
                heard.closed |= meant && heard.drains;
                self.site.close(id(from), number, Some(EARLY));
            }
        }
    }
}

fn holding(node: u8, at: Move) -> Holder {
    Holder {
        node,
        keys: vec![at],
        proven: Some(at),
        waiting: false,
    }
}

/// A packet that a holder sealed before it said its last word, and one that it sealed after.
const EARLY: u64 = 0;
const LATE: u64 = 9;
const FLOW: FlowHash = FlowHash(7);
const GRACE: Duration = Duration::from_secs(1);
const LEAP: Duration = Duration::from_secs(10);
const ALL: u8 = (1 << NODES) - 1;
