//! A mesh, its traffic and its faults, all drawn from one seed.

use std::time::Duration;

use vpnmesh_core::{NodeState, Tier};

use super::actor::ActorId;
use super::dice::Dice;
use super::members::Shape;
use crate::link::{Link, derive_seed};

/// Everything that will happen to a mesh.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Where all of it comes from.
    pub seed: u64,
    /// How large the mesh is.
    pub shape: Shape,
    /// The share of packets that every path loses at all times.
    pub loss: f64,
    /// Client, site, port, period.
    pub streams: Vec<(usize, usize, u16, Duration)>,
    /// What happens when, counted from the end of the warm-up.
    pub faults: Vec<(Duration, Fault)>,
}

/// Something that is done to a mesh.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// An actor dies; it is started again after a while, or when all faults stop.
    Kill(Who, Option<Duration>),
    /// A client's holder and all its shadows die at once.
    KillAll(usize, Duration),
    /// SIGSTOP, and SIGCONT after a while.
    Freeze(Who, Duration),
    /// A path carries nothing.
    Cut(ActorId, ActorId, Ways, Duration),
    /// A node is cut off from all.
    Isolate(Who, Duration),
    /// A path loses a share of its packets.
    Loss(ActorId, ActorId, f64, Duration),
    /// A path becomes longer.
    Latency(ActorId, ActorId, Duration, Duration),
    /// The holder of a client is told to move its sessions away, step by step.
    Shift(Shift),
    /// A client asks for another tier.
    SetTier(usize, Tier),
    /// The membership gives a node another state for a while.
    SetState(usize, NodeState, Duration),
    /// A client's address changes.
    Roam(usize),
    /// The durable counter is put back, the actor started again.
    RollBack(Who, u64),
    /// A second process with the same key and the same counter runs for a while.
    CloneProcess(Who, Duration),
    /// A memory snapshot is resumed beside the original, with the signal, for a while.
    CloneMemory(ActorId, Duration),
    /// An actor's memory is put back, with the signal.
    RestoreMemory(ActorId, Duration),
}

/// Whom a fault befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// This actor.
    Actor(ActorId),
    /// Whoever holds the client then.
    HolderOf(usize),
}

/// Which directions of a path are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// Both.
    Both,
    /// From the first actor to the second.
    Forth,
}

/// A planned move in steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Shift {
    /// The client whose holder is told.
    pub client: usize,
    /// The share after each step.
    pub shares: Vec<f64>,
    /// The time between steps.
    pub every: Duration,
    /// Who dies in the middle.
    pub dies: Option<Dies>,
}

/// Who dies in a planned move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dies {
    /// The holder that is left.
    Source,
    /// The holder that takes over.
    Target,
}

impl Schedule {
    /// What `seed` means.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(derive_seed(seed, 0xfa_17));
        let shape = Shape {
            nodes: dice.range(3, 6),
            clients: dice.range(1, 3),
            sites: dice.range(1, 2),
            tier: dice.pick(&[Tier::Basic, Tier::Standard, Tier::Standard, Tier::Premium]),
        };
        let planned_only = dice.one_in(4);
        let lossy = !planned_only && dice.one_in(4);
        let loss = if lossy {
            dice.range(1, 20) as f64 / 1000.0
        } else {
            0.0
        };
        let mut schedule = Self {
            seed,
            shape,
            loss,
            streams: streams(shape, &mut dice),
            faults: Vec::new(),
        };
        for _ in 0..dice.range(2, 6) {
            let at = dice.millis(0, FAULTS.as_millis() as usize);
            let fault = if planned_only {
                schedule.gentle(&mut dice)
            } else {
                schedule.any(&mut dice)
            };
            schedule.faults.push((at, fault));
        }
        schedule.faults.sort_by_key(|(at, _)| *at);
        schedule
    }

    /// The path between two actors when nothing is wrong with it.
    #[must_use]
    pub fn link(&self, a: ActorId, b: ActorId) -> Link {
        let number = |id: ActorId| match id {
            ActorId::Node(index) => index as u64,
            ActorId::Client(index) => 1000 + index as u64,
            ActorId::Site(index) => 2000 + index as u64,
        };
        let (low, high) = (number(a).min(number(b)), number(a).max(number(b)));
        let mut dice = Dice::new(derive_seed(self.seed, low * 10_000 + high));
        let delay = dice.range(1, 40) as u64;
        Link::delay_ms(delay).jitter_ms(delay / 6).loss(self.loss)
    }

    /// A change that must cost nothing.
    fn gentle(&self, dice: &mut Dice) -> Fault {
        let client = dice.below(self.shape.clients);
        match dice.below(8) {
            0 => Fault::SetTier(client, tier(dice)),
            1 => {
                let state = dice.pick(&[NodeState::Draining, NodeState::Standby]);
                Fault::SetState(dice.below(self.shape.nodes), state, dice.millis(500, 4000))
            }
            _ => Fault::Shift(shift(client, None, dice)),
        }
    }

    fn any(&self, dice: &mut Dice) -> Fault {
        let client = dice.below(self.shape.clients);
        let (node, path) = (self.node(client, dice), self.path(dice));
        match dice.below(24) {
            0 => Fault::Kill(node, None),
            1..=3 => Fault::Kill(node, Some(dice.millis(20, 4000))),
            4 => Fault::KillAll(client, dice.millis(100, 3000)),
            5..=7 => Fault::Freeze(node, freeze_span(dice)),
            8 => Fault::Cut(path.0, path.1, Ways::Both, dice.millis(50, 3000)),
            9 => Fault::Cut(path.0, path.1, Ways::Forth, dice.millis(50, 3000)),
            10 => Fault::Isolate(node, dice.millis(50, 3000)),
            11 => Fault::Loss(
                path.0,
                path.1,
                dice.range(50, 600) as f64 / 1000.0,
                dice.millis(100, 3000),
            ),
            12 => Fault::Latency(path.0, path.1, dice.millis(20, 400), dice.millis(100, 3000)),
            13 => Fault::Shift(shift(client, None, dice)),
            14 => {
                let dies = dice.pick(&[Dies::Source, Dies::Target]);
                Fault::Shift(shift(client, Some(dies), dice))
            }
            15 => Fault::SetTier(client, tier(dice)),
            16 => {
                let state =
                    dice.pick(&[NodeState::Draining, NodeState::Removed, NodeState::Standby]);
                Fault::SetState(dice.below(self.shape.nodes), state, dice.millis(200, 4000))
            }
            17 => Fault::Roam(client),
            18 => Fault::Kill(
                Who::Actor(ActorId::Client(client)),
                Some(dice.millis(10, 1500)),
            ),
            19 => {
                let site = ActorId::Site(dice.below(self.shape.sites));
                Fault::Kill(Who::Actor(site), Some(dice.millis(10, 1500)))
            }
            20 => Fault::RollBack(self.who(client, dice), dice.range(1, 3) as u64),
            21 => Fault::CloneProcess(self.who(client, dice), dice.millis(200, 3000)),
            22 => Fault::CloneMemory(self.actor(dice), dice.millis(200, 3000)),
            _ => Fault::RestoreMemory(self.actor(dice), dice.millis(20, 2000)),
        }
    }

    fn node(&self, client: usize, dice: &mut Dice) -> Who {
        if dice.one_in(3) {
            return Who::Actor(ActorId::Node(dice.below(self.shape.nodes)));
        }
        Who::HolderOf(client)
    }

    fn who(&self, client: usize, dice: &mut Dice) -> Who {
        if dice.one_in(2) {
            Who::HolderOf(client)
        } else {
            Who::Actor(self.actor(dice))
        }
    }

    fn actor(&self, dice: &mut Dice) -> ActorId {
        match dice.below(4) {
            0 => ActorId::Client(dice.below(self.shape.clients)),
            1 => ActorId::Site(dice.below(self.shape.sites)),
            _ => ActorId::Node(dice.below(self.shape.nodes)),
        }
    }

    /// Two actors that speak to each other, in either order.
    fn path(&self, dice: &mut Dice) -> (ActorId, ActorId) {
        let node = dice.below(self.shape.nodes);
        let far = match dice.below(3) {
            0 => ActorId::Client(dice.below(self.shape.clients)),
            1 => ActorId::Site(dice.below(self.shape.sites)),
            _ => ActorId::Node((node + dice.range(1, self.shape.nodes - 1)) % self.shape.nodes),
        };
        if dice.one_in(2) {
            (ActorId::Node(node), far)
        } else {
            (far, ActorId::Node(node))
        }
    }
}

impl Fault {
    /// The fault's name in a count.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Kill(Who::Actor(ActorId::Client(_)), _) => "client restart",
            Self::Kill(Who::Actor(ActorId::Site(_)), _) => "site restart",
            Self::Kill(_, None) => "kill",
            Self::Kill(_, Some(_)) => "kill and restart",
            Self::KillAll(..) => "all holders killed",
            Self::Freeze(..) => "zombie",
            Self::Cut(_, _, Ways::Both, _) => "partition of a path",
            Self::Cut(_, _, Ways::Forth, _) => "one-way partition",
            Self::Isolate(..) => "partition of a node",
            Self::Loss(..) => "loss burst",
            Self::Latency(..) => "latency burst",
            Self::Shift(Shift {
                dies: Some(Dies::Source),
                ..
            }) => "source dies in a move",
            Self::Shift(Shift {
                dies: Some(Dies::Target),
                ..
            }) => "target dies in a move",
            Self::Shift(_) => "planned move",
            Self::SetTier(..) => "tier change",
            Self::SetState(..) => "membership change",
            Self::Roam(_) => "roaming",
            Self::RollBack(..) => "disk rollback",
            Self::CloneProcess(..) => "process clone",
            Self::CloneMemory(..) => "memory clone",
            Self::RestoreMemory(..) => "memory restore",
        }
    }

    /// Whether packets may be lost because of it.
    #[must_use]
    pub const fn costs(&self) -> bool {
        match self {
            Self::Shift(shift) => shift.dies.is_some(),
            Self::SetState(_, state, _) => matches!(state, NodeState::Removed),
            Self::SetTier(..) => false,
            _ => true,
        }
    }
}

fn streams(shape: Shape, dice: &mut Dice) -> Vec<(usize, usize, u16, Duration)> {
    let mut streams = Vec::new();
    for client in 0..shape.clients {
        streams.push((client, dice.below(shape.sites), 5000, dice.millis(15, 40)));
        for port in 0..dice.range(1, 4) {
            let (site, every) = (dice.below(shape.sites), dice.millis(60, 200));
            streams.push((client, site, 5001 + port as u16, every));
        }
    }
    streams
}

fn shift(client: usize, dies: Option<Dies>, dice: &mut Dice) -> Shift {
    let mut shares: Vec<f64> = dice
        .pick(&[&[1.0][..], &[0.5, 1.0], &[0.1, 0.4, 0.7, 1.0]])
        .to_vec();
    if dice.one_in(3) {
        shares.pop();
        shares.extend([0.6, 0.0]); // turned back
    }
    let every = dice.millis(5, 500);
    Shift {
        client,
        shares,
        every,
        dies,
    }
}

fn tier(dice: &mut Dice) -> Tier {
    dice.pick(&[Tier::Basic, Tier::Standard, Tier::Premium])
}

/// Mostly longer than a client's patience, now and then just about as long.
fn freeze_span(dice: &mut Dice) -> Duration {
    if dice.one_in(3) {
        dice.millis(20, 300)
    } else {
        dice.millis(300, 5000)
    }
}

/// Faults begin within this span.
pub const FAULTS: Duration = Duration::from_secs(9);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_means_one_schedule_and_a_few_hundred_seeds_have_every_fault() {
        let kinds: BTreeSet<&str> = (0..400)
            .flat_map(|seed| Schedule::of(seed).faults)
            .map(|(_, fault)| fault.kind())
            .collect();
        assert_eq!(kinds.len(), 21, "{kinds:?}");
        assert_eq!(Schedule::of(7).faults, Schedule::of(7).faults);
    }
}
