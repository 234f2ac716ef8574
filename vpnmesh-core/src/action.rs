//! What the engine decided to do, and why.

use std::fmt;
use std::time::Duration;

use crate::{Evidence, Forecast, NodeId, Ratio};

/// Something to do. The engine never does it itself.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Action {
    /// What to do.
    pub kind: ActionKind,
    /// Why.
    pub cause: Cause,
}

/// What can be done to the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum ActionKind {
    /// Bring `standby` up to date so that it can take over from `node`. Answer with
    /// [`Event::StandbyReady`](crate::Event::StandbyReady) or
    /// [`Event::StandbyFailed`](crate::Event::StandbyFailed).
    WarmStandby {
        /// The node at risk. It keeps its traffic.
        node: NodeId,
        /// Who shall take over.
        standby: NodeId,
    },
    /// `standby` is no longer needed for `node`.
    ReleaseStandby {
        /// The node that was at risk.
        node: NodeId,
        /// Who would have taken over.
        standby: NodeId,
    },
    /// Let `to` carry this share of the traffic that `node` had. Above zero, `node` takes no new
    /// sessions; zero gives everything back.
    SetShare {
        /// The node that loses traffic.
        node: NodeId,
        /// The node that gets it.
        to: NodeId,
        /// The share of `node`'s traffic that goes to `to` now.
        share: Ratio,
    },
    /// Take the node out of the membership: it holds nothing any more.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
    /// Take the node back as one that may get traffic again. No traffic returns by itself.
    RestoreNode {
        /// The node.
        node: NodeId,
    },
    /// Automation stops: too many nodes fell sick at once. Clients go on by themselves.
    Freeze {
        /// Nodes that fell sick within the window.
        sick: u32,
        /// Nodes there are.
        of: u32,
    },
    /// Automation goes on.
    Thaw,
}

impl ActionKind {
    /// The node it is about; `None` for the mesh as a whole.
    #[must_use]
    pub const fn node(&self) -> Option<NodeId> {
        match self {
            Self::WarmStandby { node, .. }
            | Self::ReleaseStandby { node, .. }
            | Self::SetShare { node, .. }
            | Self::RemoveNode { node }
            | Self::RestoreNode { node } => Some(*node),
            Self::Freeze { .. } | Self::Thaw => None,
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WarmStandby { node, standby } => write!(f, "warm {standby} for {node}"),
            Self::ReleaseStandby { node, standby } => write!(f, "release {standby} from {node}"),
            Self::SetShare { node, to, share } => write!(f, "{share} of {node} goes to {to}"),
            Self::RemoveNode { node } => write!(f, "remove {node}"),
            Self::RestoreNode { node } => write!(f, "take {node} back"),
            Self::Freeze { sick, of } => write!(f, "freeze: {sick} of {of} nodes fell sick"),
            Self::Thaw => f.write_str("thaw"),
        }
    }
}

/// Why something was done or left undone.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Cause {
    /// The risk reached the threshold.
    Forecast {
        /// The forecast that decided.
        forecast: Forecast,
        /// The policy's threshold.
        threshold: Ratio,
    },
    /// The risk went away again.
    Receded {
        /// The forecast that decided.
        forecast: Forecast,
        /// The policy's line, below the threshold.
        recede: Ratio,
    },
    /// A running move reached its next step.
    Step {
        /// What started the move.
        begun_by: Origin,
    },
    /// The standby chosen before is of no use.
    StandbyFailed {
        /// That standby.
        standby: NodeId,
        /// What is wrong with it.
        reason: StandbyFailure,
        /// What started the move.
        begun_by: Origin,
    },
    /// Enough witnesses agree that the node is dead.
    Dead {
        /// The nodes that say so, ordered by id.
        witnesses: Vec<NodeId>,
        /// The engine itself heard nothing either.
        unheard: bool,
    },
    /// The node came back with a new incarnation.
    Joined,
    /// An operator asked for it.
    Operator,
    /// The security floor demands it.
    SecurityFloor,
    /// The membership says that an earlier engine had begun it.
    Resumed,
    /// Too many nodes fell sick within one window.
    ManySick {
        /// How many.
        sick: u32,
        /// Nodes there are.
        of: u32,
        /// The window.
        window: Duration,
    },
    /// No more nodes fell sick for a while.
    Calm,
}

/// What started a move of traffic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Origin {
    /// A forecast above the threshold.
    Forecast,
    /// An operator's drain.
    Operator,
    /// The security floor.
    SecurityFloor,
    /// A move found half done in the membership.
    Resumed,
}

impl Origin {
    /// Whose word it is.
    #[must_use]
    pub const fn authority(self) -> Authority {
        match self {
            Self::Forecast => Authority::Policy,
            Self::SecurityFloor => Authority::SecurityFloor,
            Self::Operator | Self::Resumed => Authority::Override,
        }
    }
}

/// Whose word counts more: the greater one wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Authority {
    /// What would be nicer.
    Optimiser,
    /// What the mesh's policy wants.
    Policy,
    /// What security demands.
    SecurityFloor,
    /// What an operator ordered.
    Override,
}

/// What is wrong with a standby.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum StandbyFailure {
    /// It did not start.
    DidNotStart,
    /// It did not get the sessions' state.
    DidNotSynchronise,
    /// It said nothing in time.
    TimedOut,
    /// It is no longer healthy itself.
    FellSick,
}

impl Cause {
    /// The measurements behind it; empty where no forecast decided.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        match self {
            Self::Forecast { forecast, .. } | Self::Receded { forecast, .. } => &forecast.evidence,
            Self::Step { .. }
            | Self::StandbyFailed { .. }
            | Self::Dead { .. }
            | Self::Joined
            | Self::Operator
            | Self::SecurityFloor
            | Self::Resumed
            | Self::ManySick { .. }
            | Self::Calm => &[],
        }
    }

    /// Whose word it is.
    #[must_use]
    pub const fn authority(&self) -> Authority {
        match self {
            Self::Operator | Self::Resumed => Authority::Override,
            Self::SecurityFloor => Authority::SecurityFloor,
            Self::Step { begun_by } | Self::StandbyFailed { begun_by, .. } => begun_by.authority(),
            Self::Forecast { .. }
            | Self::Receded { .. }
            | Self::Dead { .. }
            | Self::Joined
            | Self::ManySick { .. }
            | Self::Calm => Authority::Policy,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forecast {
                forecast,
                threshold,
            } => {
                let Forecast {
                    probability,
                    horizon,
                    ..
                } = forecast;
                write!(
                    f,
                    "risk {probability} within {horizon:?} reached {threshold}"
                )?;
                write_evidence(f, &forecast.evidence)
            }
            Self::Receded { forecast, recede } => {
                write!(f, "risk {} fell below {recede}", forecast.probability)
            }
            Self::Step { begun_by } => write!(f, "next step of a move begun by {begun_by}"),
            Self::StandbyFailed {
                standby, reason, ..
            } => write!(f, "{standby} {reason}"),
            Self::Dead { witnesses, unheard } => {
                let engine = if *unheard { " and the engine" } else { "" };
                write!(f, "dead, say {witnesses:?}{engine}")
            }
            Self::Joined => f.write_str("it came back"),
            Self::Operator => f.write_str("the operator asked for it"),
            Self::SecurityFloor => f.write_str("the security floor demands it"),
            Self::Resumed => f.write_str("it was begun before the engine started"),
            Self::ManySick { sick, of, window } => {
                write!(f, "{sick} of {of} nodes fell sick within {window:?}")
            }
            Self::Calm => f.write_str("no more nodes fell sick"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forecast => "a forecast",
            Self::Operator => "the operator",
            Self::SecurityFloor => "the security floor",
            Self::Resumed => "an earlier engine",
        })
    }
}

impl fmt::Display for StandbyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DidNotStart => "did not start",
            Self::DidNotSynchronise => "did not synchronise",
            Self::TimedOut => "did not answer in time",
            Self::FellSick => "fell sick itself",
        })
    }
}

fn write_evidence(f: &mut fmt::Formatter<'_>, evidence: &[Evidence]) -> fmt::Result {
    let mut separator = ": ";
    for Evidence { metric, value, .. } in evidence.iter().take(3) {
        write!(f, "{separator}{metric} {value:.3}")?;
        separator = ", ";
    }
    Ok(())
}
