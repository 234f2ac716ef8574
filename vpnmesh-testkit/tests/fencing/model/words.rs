//! The words of the model: what members say to each other, what may happen, which rule is broken.

use vpnmesh_core::{ClientId, NodeId};
use vpnmesh_transport::receipt::{Fence, Phase, Receipt};

/// How many nodes there are.
pub(crate) const NODES: u8 = 3;

/// Names the keys of an activation; greater ones fence lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Move {
    pub(crate) generation: u32,
    pub(crate) number: u32,
}

/// What a client says to a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Statement {
    pub(crate) at: Move,
    pub(crate) alone: bool,
    pub(crate) holder: u8,
    pub(crate) drained: Option<u8>,
}

/// What travels between the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    Activate {
        to: u8,
        at: Move,
        continues: bool,
        receipt: Option<Statement>,
    },
    Activated {
        from: u8,
        at: Move,
    },
    /// From the client to a holder, for the site.
    Stated {
        by: u8,
        statement: Statement,
    },
    /// From the holder to the site.
    Relayed {
        by: u8,
        statement: Statement,
    },
    Answer {
        by: u8,
        statement: Statement,
    },
    Leave {
        to: u8,
        number: u32,
    },
    Left {
        from: u8,
        number: u32,
    },
    FinalUp {
        from: u8,
        number: u32,
    },
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Deliver(Message),
    /// The holder orders a move to another node.
    Shift(u8),
    TurnBack,
    /// A stage of a planned move lasted too long.
    Deadline,
    Commit,
    /// The client's time for the drained holder is over.
    Drained,
    /// The client takes its active holder for lost, rightly or not; that shadow is next.
    Suspect(u8),
    /// Likewise the other one.
    SuspectOther,
    /// A full handshake with a member, as there is no holder.
    Attach(u8),
    /// The client repeats its statement.
    Restate,
    /// The primary starts a generation.
    Renew,
    /// A node loses its memory and starts again.
    Crash(u8),
    /// A holder that was left forgets the session.
    End(u8),
    /// A node that thinks it holds the session passes a packet on to the site.
    Carry(u8),
    /// The site's time for the drained holder is over.
    SiteTime,
}

/// How often each kind of trouble may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) shifts: u8,
    pub(crate) backs: u8,
    pub(crate) suspicions: u8,
    pub(crate) crashes: u8,
    pub(crate) renewals: u8,
    pub(crate) attaches: u8,
}

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// The site takes every statement over, newer or not.
    SiteIgnoresFence,
    /// The site lets a drained holder speak for ever.
    SiteDrainsForEver,
    /// A crash takeover goes on with the number of the move before.
    ClientRepeatsNumber,
    /// The client still listens to a holder that it took for lost.
    ClientKeepsLost,
    /// The client names a generation to the site before its holder confirmed it.
    ClientStatesEarly,
    /// A holder does not remember which moves it has seen.
    HolderForgetsMoves,
}

impl Statement {
    pub(super) fn receipt(self) -> Receipt {
        Receipt {
            client: ClientId(1),
            fence: Fence {
                incarnation: 1,
                generation: self.at.generation,
                number: self.at.number,
            },
            phase: if self.alone {
                Phase::Alone
            } else {
                Phase::Shared
            },
            holder: id(self.holder),
            drained: self.drained.map(id),
        }
    }
}

impl Message {
    /// The statement that it carries.
    pub(crate) const fn statement(&self) -> Option<Statement> {
        match self {
            Self::Activate { receipt, .. } => *receipt,
            Self::Stated { statement, .. }
            | Self::Relayed { statement, .. }
            | Self::Answer { statement, .. } => Some(*statement),
            Self::Activated { .. }
            | Self::Leave { .. }
            | Self::Left { .. }
            | Self::FinalUp { .. } => None,
        }
    }
}

pub(super) const fn id(node: u8) -> NodeId {
    NodeId(node as u64 + 1)
}

pub(super) const fn bit(node: u8) -> u8 {
    1 << node
}
