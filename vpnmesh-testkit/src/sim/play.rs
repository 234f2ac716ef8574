//! Runs a schedule: faults first, then all faults stop and the mesh must heal.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{NodeState, Ratio, Timestamp};
use vpnmesh_transport::node::NodeCommand;

use super::actor::ActorId;
use super::invariant::{Applied, Broken, bounds, healing, planned};
use super::schedule::{Dies, FAULTS, Fault, Schedule, Shift, Ways, Who};
use super::world::World;
use crate::link::Link;

/// What became of a schedule.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// How many faults there were of each kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often the laws were applied.
    pub applied: Applied,
    /// Planned moves without a fault nearby.
    pub quiet_moves: u64,
    /// How long the mesh took to heal.
    pub healed_after: Duration,
    /// The law that did not hold.
    pub broken: Option<Broken>,
    /// All that happened, if a law did not hold.
    pub story: Vec<String>,
}

/// Plays what `seed` means.
#[must_use]
pub fn play(seed: u64) -> Outcome {
    let mut player = Player::new(Schedule::of(seed));
    let result = player.play();
    let broken = result
        .err()
        .or_else(|| player.world.witness().broken().cloned());
    if broken.is_some() {
        player.note_drops();
    }
    let story = if broken.is_some() {
        player.story()
    } else {
        Vec::new()
    };
    Outcome {
        seed,
        faults: player.counts,
        applied: player.world.witness().applied(),
        quiet_moves: player.quiet_moves,
        healed_after: player.healed_after,
        broken,
        story,
    }
}

/// The end of a fault.
#[derive(Debug, Clone)]
enum Undo {
    Start(ActorId),
    Thaw(ActorId),
    Mend(ActorId, ActorId),
    End(ActorId),
    State(usize),
    Share(usize, f64),
    Kill(ActorId),
}

struct Player {
    schedule: Schedule,
    world: World,
    agenda: BTreeMap<(Timestamp, u64), Undo>,
    entries: u64,
    counts: BTreeMap<&'static str, u64>,
    disturbed: Vec<(Timestamp, Timestamp)>,
    quiet_moves: u64,
    healed_after: Duration,
    /// The node whose state the membership changed last.
    changed: usize,
    /// Paths lose packets all the time: no law is about single packets then.
    lossy: bool,
}

impl Player {
    fn new(schedule: Schedule) -> Self {
        let mut world = World::new(schedule.seed, schedule.shape, Link::delay_ms(10));
        let actors: Vec<ActorId> = world.actors().map(|(id, _)| id).collect();
        for a in &actors {
            for b in &actors {
                world.set_way(*a, *b, schedule.link(*a, *b));
            }
        }
        Self {
            changed: 0,
            lossy: schedule.loss > 0.0,
            schedule,
            world,
            agenda: BTreeMap::new(),
            entries: 0,
            counts: BTreeMap::new(),
            disturbed: Vec::new(),
            quiet_moves: 0,
            healed_after: Duration::ZERO,
        }
    }

    fn play(&mut self) -> Result<(), Broken> {
        self.keep_journals();
        self.run_to(self.world.now() + WARM_UP / 2)?;
        for (client, site, port, every) in self.schedule.streams.clone() {
            self.world.stream(client, site, port, every);
        }
        self.run_to(self.world.now() + WARM_UP / 2)?;
        let start = self.world.now();
        for (at, fault) in self.schedule.faults.clone() {
            self.run_to(start + at)?;
            self.act(fault);
        }
        self.run_to(start + FAULTS + AFTERMATH)?;
        self.stop_faults();
        self.heal()?;
        self.note_drops();
        healing::check_traffic(&mut self.world)?;
        self.check()?;
        bounds::check(&self.world)?;
        if !self.lossy {
            self.quiet_moves = planned::check(&self.world, &self.disturbed)?;
        }
        Ok(())
    }

    /// Actors that will be snapshotted live with a journal from the start.
    fn keep_journals(&mut self) {
        for (_, fault) in &self.schedule.faults {
            if let Fault::CloneMemory(id, _) | Fault::RestoreMemory(id, _) = fault {
                self.world.restart_with_journal(*id);
            }
        }
    }

    fn run_to(&mut self, end: Timestamp) -> Result<(), Broken> {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= end
        {
            let (at, _) = *entry.key();
            let undo = entry.remove();
            self.world.run_until(at, |_| false);
            self.check()?;
            self.undo(undo);
        }
        self.world.run_until(end, |_| false);
        self.check()
    }

    fn check(&self) -> Result<(), Broken> {
        self.world
            .witness()
            .broken()
            .map_or(Ok(()), |broken| Err(broken.clone()))
    }

    fn later(&mut self, after: Duration, undo: Undo) {
        self.entries += 1;
        self.agenda
            .insert((self.world.now() + after, self.entries), undo);
    }

    fn disturb(&mut self, span: Duration) {
        let now = self.world.now();
        self.disturbed.push((now, now + span));
    }

    fn find(&mut self, who: Who) -> Option<ActorId> {
        match who {
            Who::Actor(id) => Some(id),
            Who::HolderOf(client) => self
                .world
                .holder(client)
                .map(|(node, _)| ActorId::Node(node)),
        }
    }

    fn act(&mut self, fault: Fault) {
        *self.counts.entry(fault.kind()).or_default() += 1;
        self.world.note(format!("{fault:?}"));
        if fault.costs() {
            self.disturb(Duration::ZERO);
        }
        match fault {
            Fault::Kill(who, dead) => self.kill(who, dead.unwrap_or(UNTIL_THE_END)),
            Fault::KillAll(client, dead) => {
                let Some((holder, roster)) = self.world.holder(client) else {
                    return;
                };
                for node in roster.into_iter().chain([holder]) {
                    self.kill(Who::Actor(ActorId::Node(node)), dead);
                }
            }
            Fault::Freeze(who, span) => {
                let Some(id) = self.find(who) else { return };
                self.world.note(format!("{id:?} is frozen"));
                self.world.freeze(id);
                self.disturb(span);
                self.later(span, Undo::Thaw(id));
            }
            Fault::Cut(a, b, ways, span) => self.set_path(a, b, ways, span, |link| link.cut(true)),
            Fault::Isolate(who, span) => {
                let Some(id) = self.find(who) else { return };
                let others: Vec<ActorId> = self.world.actors().map(|(id, _)| id).collect();
                for other in others {
                    self.set_path(id, other, Ways::Both, span, |link| link.cut(true));
                }
            }
            Fault::Loss(a, b, share, span) => {
                self.set_path(a, b, Ways::Both, span, |link| link.loss(share));
            }
            Fault::Latency(a, b, more, span) => {
                self.set_path(a, b, Ways::Both, span, |mut link| {
                    link.delay += more;
                    link
                });
            }
            Fault::Shift(shift) => self.shift(&shift),
            Fault::SetTier(client, tier) => self.world.set_tier(client, tier),
            Fault::SetState(node, state, span) => {
                self.changed = node;
                self.world.set_node_state(node, state);
                if state == NodeState::Removed {
                    self.disturb(span);
                }
                self.later(span, Undo::State(node));
            }
            Fault::Roam(client) => self.world.roam(client),
            Fault::RollBack(who, by) => {
                let Some(id) = self.find(who) else { return };
                self.world.kill(id);
                self.world.roll_back(id, by + 1);
                self.world.start(id);
            }
            Fault::CloneProcess(who, span) => {
                let twin = self.find(who).and_then(|id| self.world.clone_process(id));
                self.end_later(twin, span);
            }
            Fault::CloneMemory(id, span) => {
                let twin = self.world.clone_memory(id);
                self.end_later(twin, span);
            }
            Fault::RestoreMemory(id, before) => {
                self.world.restore_memory(id, before);
            }
        }
    }

    fn end_later(&mut self, twin: Option<ActorId>, span: Duration) {
        if let Some(twin) = twin {
            self.disturb(span);
            self.later(span, Undo::End(twin));
        }
    }

    fn kill(&mut self, who: Who, dead: Duration) {
        let Some(id) = self.find(who) else { return };
        self.world.note(format!("{id:?} dies"));
        self.world.kill(id);
        self.disturb(dead);
        self.later(dead, Undo::Start(id));
    }

    fn set_path(
        &mut self,
        a: ActorId,
        b: ActorId,
        ways: Ways,
        span: Duration,
        change: impl Fn(Link) -> Link,
    ) {
        let link = change(self.schedule.link(a, b));
        self.world.set_way(a, b, link);
        if ways == Ways::Both {
            self.world.set_way(b, a, link);
        }
        self.disturb(span);
        self.later(span, Undo::Mend(a, b));
    }

    fn shift(&mut self, shift: &Shift) {
        let Some((holder, roster)) = self.world.holder(shift.client) else {
            return;
        };
        for (step, share) in (0u32..).zip(&shift.shares) {
            self.later(shift.every * step, Undo::Share(holder, *share));
        }
        let target = roster.into_iter().find(|node| *node != holder);
        let dies = match shift.dies {
            Some(Dies::Source) => Some(holder),
            Some(Dies::Target) => target,
            None => None,
        };
        if let Some(node) = dies {
            let middle = shift.every * shift.shares.len() as u32 / 2;
            self.disturb(middle);
            self.later(middle, Undo::Kill(ActorId::Node(node)));
        }
    }

    fn undo(&mut self, undo: Undo) {
        self.world.note(format!("{undo:?}"));
        match undo {
            Undo::Start(id) => {
                if self.world.actor(id).is_none() {
                    self.world.start(id);
                }
            }
            Undo::Thaw(id) => self.world.thaw(id),
            Undo::Mend(a, b) => {
                let link = self.schedule.link(a, b);
                self.world.set_link(a, b, link);
            }
            Undo::End(twin) => self.world.kill(twin),
            Undo::State(node) => self.world.set_node_state(node, NodeState::Active),
            Undo::Share(node, share) => {
                let share = Ratio::saturating(share);
                self.world
                    .command_node(node, NodeCommand::SetShare { to: None, share });
            }
            Undo::Kill(id) => self.kill(Who::Actor(id), Duration::from_secs(1)),
        }
    }

    /// Everything is put right, and nothing happens any more.
    fn stop_faults(&mut self) {
        self.world.note("all faults stop");
        for undo in std::mem::take(&mut self.agenda).into_values() {
            match undo {
                Undo::Share(..) | Undo::Kill(_) => {}
                Undo::State(node) => {
                    self.undo(Undo::State(node));
                    self.changed = node;
                }
                undo => self.undo(undo),
            }
        }
        self.world.tell_membership(self.changed);
        self.schedule.loss = 0.0;
        let actors: Vec<ActorId> = self.world.actors().map(|(id, _)| id).collect();
        for a in &actors {
            for b in &actors {
                self.world.set_way(*a, *b, self.schedule.link(*a, *b));
            }
        }
        let share = Ratio::ZERO;
        for node in 0..self.schedule.shape.nodes {
            self.world
                .command_node(node, NodeCommand::SetShare { to: None, share });
        }
    }

    fn heal(&mut self) -> Result<(), Broken> {
        let start = self.world.now();
        loop {
            self.run_to(self.world.now() + LOOK)?;
            match healing::check(&mut self.world) {
                Ok(()) => break,
                Err(broken) if self.world.now().since(start) >= HEAL => return Err(broken),
                Err(_) => {}
            }
        }
        self.healed_after = self.world.now().since(start);
        Ok(())
    }

    /// Writes down what every machine dropped so far.
    fn note_drops(&mut self) {
        let shape = self.schedule.shape;
        let mut notes = Vec::new();
        for node in 0..shape.nodes {
            notes.extend(
                self.world
                    .node_report(node)
                    .map(|report| format!("Node({node}) dropped {:?}", report.drops)),
            );
        }
        for client in 0..shape.clients {
            notes.extend(
                self.world
                    .report(client)
                    .map(|report| format!("Client({client}) {report:?}")),
            );
        }
        for site in 0..shape.sites {
            notes.extend(self.world.site_report(site).map(|report| {
                format!(
                    "Site({site}) dropped {:?}, holders {:?}",
                    report.drops, report.holders
                )
            }));
        }
        notes.into_iter().for_each(|note| self.world.note(note));
    }

    fn story(&self) -> Vec<String> {
        let seed = self.schedule.seed;
        let head = format!(
            "seed {seed}: {:?}, loss {}",
            self.schedule.shape, self.schedule.loss
        );
        let lines = self.world.happened.iter();
        let lines = lines.map(|(at, happened)| format!("{:>9.4} {happened:?}", at.0 as f64 / 1e9));
        std::iter::once(head).chain(lines).collect()
    }
}

const WARM_UP: Duration = Duration::from_secs(3);
/// The last faults are seen to have an effect.
const AFTERMATH: Duration = Duration::from_secs(2);
/// Within this time the mesh is whole again.
const HEAL: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(250);
const UNTIL_THE_END: Duration = Duration::from_secs(600);
