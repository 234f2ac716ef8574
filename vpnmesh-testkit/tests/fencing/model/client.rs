//! What the client does, as `client/moves.rs` has it.

use super::{ALL, Client, Flaw, Holder, Message, Move, Session, Stage, State, Statement};
use super::{bit, holding};

impl Holder {
    pub(super) fn newest(&self) -> Move {
        *self.keys.last().expect("a holder has keys")
    }

    /// The keys that packets are sealed with.
    fn sealing(&self) -> Move {
        self.proven.unwrap_or(self.newest())
    }

    fn install(&mut self, at: Move) {
        self.keys.push(at);
        self.waiting = true;
    }
}

impl Client {
    pub(super) fn holders(&self) -> impl Iterator<Item = &Holder> {
        let all = [&self.active, &self.other, &self.draining];
        all.into_iter().flatten()
    }

    fn statement(&self, flaw: Flaw) -> Option<Statement> {
        let active = self.active.as_ref()?;
        let (newest, alone, drained) = match (self.stage, self.other.as_ref()) {
            (Some(Stage::Committing), Some(other)) => (other, true, Some(active.node)),
            (Some(_), Some(other)) => (other, false, Some(active.node)),
            (None, _) | (Some(_), None) => {
                let drained = self.draining.as_ref().map(|old| old.node);
                (active, true, drained)
            }
        };
        let (sealing, at) = (newest.sealing(), newest.newest());
        let unconfirmed =
            newest.waiting && self.stage.is_none() && sealing.generation < at.generation;
        let early = flaw == Flaw::ClientStatesEarly;
        Some(Statement {
            at: if unconfirmed && !early { sealing } else { at },
            alone,
            holder: newest.node,
            drained: drained.filter(|node| *node != newest.node),
        })
    }

    fn sites_know(&self, flaw: Flaw) -> bool {
        let wanted = self
            .statement(flaw)
            .map(|statement| (statement.at, statement.alone));
        self.answered.is_none() || self.answered >= wanted
    }

    fn next_move(&mut self) -> Move {
        self.number += 1;
        Move {
            generation: self.generation,
            number: self.number,
        }
    }
}

impl State {
    pub(super) fn handle_activated(&mut self, from: u8, at: Move, flaw: Flaw) {
        let client = &mut self.client;
        let confirm = |holder: &mut Option<Holder>| {
            let confirmed = holder
                .as_mut()
                .filter(|it| it.node == from && it.waiting && it.newest() == at);
            confirmed.is_some_and(|holder| {
                holder.keys = vec![at];
                holder.proven = Some(at);
                holder.waiting = false;
                true
            })
        };
        if confirm(&mut client.other) {
            if client.stage == Some(Stage::Activating) {
                client.stage = Some(Stage::Announcing);
            }
            self.advance_move(false, flaw);
        } else if confirm(&mut client.active) {
            client.tried = 0;
            if client.renewing && at.generation > client.generation {
                client.generation = at.generation;
                client.roster = ALL;
                client.renewing = false;
            }
        }
    }

    pub(super) fn handle_answer(&mut self, by: u8, statement: Statement, flaw: Flaw) {
        if self.client.holders().any(|holder| holder.node == by) {
            let answer = Some((statement.at, statement.alone));
            self.client.answered = self.client.answered.max(answer);
            self.advance_move(false, flaw);
        }
    }

    pub(super) fn handle_left(&mut self, from: u8, number: u32) {
        let client = &self.client;
        let other = client.other.as_ref().map(|other| other.newest().number);
        let active = client.active.as_ref().map(|active| active.node);
        let committing = client.stage == Some(Stage::Committing);
        if other == Some(number) && active == Some(from) && committing {
            self.settle();
        }
    }

    /// A primary orders a move in its own channel, which shows that it has the newest keys, and
    /// not while it makes a generation.
    pub(super) fn can_shift(&self, to: u8) -> bool {
        let client = &self.client;
        let active = client.active.as_ref().filter(|active| !active.waiting);
        active.is_some_and(|active| active.node != to && self.session(active.node).is_some())
            && client.stage.is_none()
            && client.roster & bit(to) != 0
    }

    pub(super) fn start_move(&mut self, to: u8) {
        self.client.renewing = false;
        self.client.stage = Some(Stage::Activating);
        self.client.then_back = false;
        self.client.other = Some(self.activate(to, true, Flaw::None));
    }

    /// The activation of a holder that has no leg yet.
    fn activate(&mut self, to: u8, planned: bool, flaw: Flaw) -> Holder {
        let client = &mut self.client;
        if flaw == Flaw::ClientRepeatsNumber {
            client.number -= 1;
        }
        let at = client.next_move();
        let active = client.active.as_ref().map(|active| active.node);
        let statement = Statement {
            at,
            alone: !planned,
            holder: to,
            drained: active.filter(|node| planned && *node != to),
        };
        self.send(Message::Activate {
            to,
            at,
            continues: false,
            receipt: Some(statement),
        });
        Holder {
            node: to,
            keys: vec![at],
            proven: None,
            waiting: true,
        }
    }

    /// New keys for a holder that has a leg already.
    fn reactivate(&mut self, planned: bool) {
        let client = &mut self.client;
        let active = client.active.as_ref().map(|active| active.node);
        let holder = if planned {
            client.other.as_ref()
        } else {
            client.active.as_ref()
        };
        let member = holder.filter(|holder| client.roster & bit(holder.node) != 0);
        let Some(to) = member.map(|holder| holder.node) else {
            return self.detach();
        };
        let at = client.next_move();
        let holder = if planned {
            client.other.as_mut()
        } else {
            client.active.as_mut()
        };
        if let Some(holder) = holder {
            holder.install(at);
        }
        let shared = Statement {
            at,
            alone: false,
            holder: to,
            drained: active.filter(|node| *node != to),
        };
        self.send(Message::Activate {
            to,
            at,
            continues: true,
            receipt: planned.then_some(shared),
        });
    }

    pub(super) fn turn_back(&mut self) {
        let client = &mut self.client;
        let Some(other) = client.other.as_ref() else {
            return;
        };
        if other.waiting {
            return match other.proven {
                Some(_) => client.then_back = true,
                None => self.lose_other(),
            };
        }
        std::mem::swap(&mut client.active, &mut client.other);
        client.stage = Some(Stage::Activating);
        client.then_back = false;
        self.reactivate(true);
    }

    pub(super) fn lose_other(&mut self) {
        self.client.other = None;
        self.client.stage = None;
        self.client.then_back = false;
        self.reactivate(false);
    }

    pub(super) fn advance_move(&mut self, overdue: bool, flaw: Flaw) {
        let Some(stage) = self.client.stage else {
            return;
        };
        if self.client.then_back && stage > Stage::Activating {
            return self.turn_back();
        }
        match stage {
            Stage::Activating if overdue => self.lose_other(),
            Stage::Announcing if overdue || self.client.sites_know(flaw) => {
                self.client.stage = Some(Stage::Flowing);
            }
            Stage::Committing if overdue => self.settle(),
            Stage::Activating | Stage::Announcing | Stage::Flowing | Stage::Committing => {}
        }
    }

    pub(super) fn commit(&mut self) {
        let client = &mut self.client;
        let (Some(active), Some(other)) = (&client.active, &client.other) else {
            return;
        };
        let (to, number) = (active.node, other.newest().number);
        client.stage = Some(Stage::Committing);
        self.send(Message::Leave { to, number });
    }

    fn settle(&mut self) {
        let client = &mut self.client;
        client.draining = client.active.take();
        client.active = client.other.take();
        client.stage = None;
        client.then_back = false;
    }

    pub(super) fn end_drain(&mut self) {
        self.client.draining = None;
        let lowest = self.client_accepts().map(|(_, at)| at).min();
        self.client.floor = self.client.floor.max(lowest.unwrap_or(self.client.floor));
    }

    /// The shadows that may be activated after a crash.
    pub(super) fn open(&self) -> u8 {
        let active = self.client.active.as_ref();
        let lost = active.map_or(0, |active| bit(active.node));
        self.client.roster & !self.client.tried & !lost
    }

    /// Whether the active holder can be lost with that shadow as the next one. Without a shadow
    /// the name does not matter.
    pub(super) fn can_lose_to(&self, next: u8) -> bool {
        let open = self.open();
        self.client.active.is_some() && (open & bit(next) != 0 || (open == 0 && next == 0))
    }

    pub(super) fn take_over(&mut self, next: u8, flaw: Flaw) {
        let open = self.open();
        let client = &mut self.client;
        let lost = client.active.take();
        client.tried |= lost.as_ref().map_or(0, |lost| bit(lost.node));
        client.renewing = false;
        client.draining = lost.filter(|_| flaw == Flaw::ClientKeepsLost);
        let ready = client.stage.is_some_and(|stage| stage >= Stage::Announcing);
        let other = client.other.take().filter(|_| ready);
        client.stage = None;
        client.then_back = false;
        let next = match other {
            Some(other) => other,
            None if open == 0 => return self.detach(),
            None => self.activate(next, false, flaw),
        };
        self.client.floor = self.client.floor.max(next.keys[0]);
        self.client.active = Some(next);
    }

    fn detach(&mut self) {
        let client = &mut self.client;
        client.active = None;
        client.other = None;
        client.draining = None;
        client.stage = None;
        client.then_back = false;
        client.renewing = false;
    }

    pub(super) fn attach(&mut self, to: u8) {
        let client = &mut self.client;
        client.greatest += 1;
        client.generation = client.greatest;
        let at = client.next_move();
        client.roster = ALL;
        client.tried = 0;
        client.active = Some(holding(to, at));
        client.floor = at;
        for node in &mut self.nodes {
            node.give(at.generation, at.number);
        }
        let node = self.node(to);
        node.open(at);
        node.session = Some(Session { at, leaving: false });
    }

    pub(super) fn can_renew(&self) -> bool {
        let client = &self.client;
        let active = client.active.as_ref().filter(|active| !active.waiting);
        let holds = |active: &Holder| {
            let session = self.session(active.node);
            session.is_some_and(|session| session.at == active.newest() && !session.leaving)
        };
        active.is_some_and(holds) && client.stage.is_none() && !client.renewing
    }

    /// The primary hands branches out; the client activates the next generation at it.
    pub(super) fn renew(&mut self) {
        let client = &mut self.client;
        client.greatest += 1;
        let seen = client.number;
        client.number += 1;
        let at = Move {
            generation: client.greatest,
            number: client.number,
        };
        client.renewing = true;
        let Some(active) = client.active.as_mut() else {
            return;
        };
        active.install(at);
        let to = active.node;
        for node in &mut self.nodes {
            node.give(at.generation, seen);
        }
        self.send(Message::Activate {
            to,
            at,
            continues: true,
            receipt: None,
        });
    }

    /// The statement and the way that it takes now.
    pub(super) fn stated(&self, flaw: Flaw) -> Option<Message> {
        let client = &self.client;
        let statement = client.statement(flaw)?;
        let other = client.other.as_ref().filter(|it| it.proven.is_some());
        let by = other.or(client.active.as_ref())?.node;
        Some(Message::Stated { by, statement })
    }

    pub(super) fn restate(&mut self, flaw: Flaw) {
        if let Some(stated) = self.stated(flaw) {
            self.send(stated);
        }
    }
}
