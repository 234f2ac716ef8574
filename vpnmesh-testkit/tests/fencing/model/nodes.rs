//! What nodes do, as `node/activate.rs` has it, and the site around its fence.

use vpnmesh_transport::site::SiteFence;

use super::{Flaw, GRACE, Heard, LEAP, Message, Move, Node, Session, State, Statement};

impl Node {
    fn seen(&self, generation: u32) -> Option<u32> {
        let branch = self.branches.iter().find(|(of, _)| *of == generation);
        branch.map(|(_, seen)| *seen)
    }

    pub(super) fn give(&mut self, generation: u32, seen: u32) {
        self.branches.retain(|(of, _)| *of != generation);
        self.branches.push((generation, seen));
        self.branches.sort_unstable();
    }

    pub(super) fn open(&mut self, at: Move) {
        self.reopened |= self.opened.contains(&at);
        self.opened.push(at);
        self.opened.sort_unstable();
    }
}

impl State {
    pub(super) fn handle_activation(
        &mut self,
        to: u8,
        at: Move,
        continues: bool,
        receipt: Option<Statement>,
        flaw: Flaw,
    ) {
        let node = self.node(to);
        let Some(seen) = node.seen(at.generation) else {
            return;
        };
        let held = node.session;
        let fenced = held.is_some_and(|session| at.number <= session.at.number);
        if fenced || (at.number <= seen && flaw != Flaw::HolderForgetsMoves) {
            return;
        }
        node.open(at);
        node.give(at.generation, at.number);
        if continues && held.is_some() {
            node.branches.retain(|(of, _)| *of >= at.generation);
        }
        node.session = Some(Session { at, leaving: false });
        self.send(Message::Activated { from: to, at });
        if let Some(statement) = receipt {
            self.send(Message::Relayed { by: to, statement });
        }
    }

    /// The old holder's last words travel in a reliable stream: they are heard once.
    pub(super) fn handle_leave(&mut self, to: u8, number: u32) {
        let left = Message::Leave { to, number };
        self.sent.retain(|sent| *sent != left);
        let newer = |session: Session| session.at.number > number;
        if self.node(to).session.is_some_and(newer) {
            return; // the client has come back since
        }
        if let Some(session) = &mut self.node(to).session {
            session.leaving = true;
            self.send(Message::FinalUp { from: to, number });
            self.send(Message::Left { from: to, number });
        }
    }

    pub(super) fn crash(&mut self, node: u8) {
        let node = self.node(node);
        node.branches.clear();
        node.session = None;
    }

    pub(super) fn handle_statement(&mut self, by: u8, statement: Statement, flaw: Flaw) {
        let order = |statement: &Statement| (statement.at, statement.alone);
        if order(&statement) > order(&self.heard.newest) {
            self.heard = Heard {
                newest: statement,
                drains: statement.alone && statement.drained.is_some(),
                closed: false,
            };
        }
        if flaw == Flaw::SiteIgnoresFence {
            self.site = SiteFence::default();
        }
        let grace = if flaw == Flaw::SiteDrainsForEver {
            LEAP * 1000
        } else {
            GRACE
        };
        let receipt = statement.receipt();
        self.site.take(receipt, grace, self.now);
        if self.site.is_in_force(&receipt) {
            self.send(Message::Answer { by, statement });
        }
    }

    pub(super) fn end_site_drain(&mut self) {
        self.heard.drains = false;
        self.now += LEAP;
    }
}
