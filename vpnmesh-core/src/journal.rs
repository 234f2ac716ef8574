//! What was decided, why, and what came of it: the memory behind `vpnmesh explain`.

use std::collections::VecDeque;
use std::fmt;

use crate::{ActionKind, Cause, NodeId, Ratio, StandbyFailure, Timestamp};

/// One decision with its cause and its consequences.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Explanation {
    /// Counts all decisions of this journal from 0; never used twice.
    pub number: u64,
    /// When it was decided, on the clock of the process that decided.
    pub at: Timestamp,
    /// The node it is about; `None` for the mesh as a whole.
    pub node: Option<NodeId>,
    /// What was decided.
    pub decision: Decision,
    /// Why; forecasts bring their evidence along.
    pub cause: Cause,
    /// What happened afterwards, oldest first; at most [`Explanation::MAX_OUTCOMES`].
    pub outcomes: Vec<Outcome>,
}

impl Explanation {
    /// Later outcomes are dropped.
    pub const MAX_OUTCOMES: usize = 16;
}

/// What was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Decision {
    /// To act.
    Acted(ActionKind),
    /// To leave a running move where it is.
    Held {
        /// The share that has moved.
        share: Ratio,
    },
    /// To do nothing, though there was a reason to act. The node keeps its traffic.
    Declined(Refusal),
}

/// Why nothing was done though there was a reason.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Refusal {
    /// No other node is healthy, or all of them failed as standby.
    NoCandidate,
    /// As many moves run or were begun lately as the budget allows.
    Budget,
    /// Automation is frozen.
    Frozen,
    /// The last change of this node is too fresh.
    Dwell,
    /// An operator holds this node where it is.
    HeldByOperator,
    /// Greater authority drives the running move.
    LowerAuthority,
}

/// Something that happened after a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Outcome {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: OutcomeKind,
}

/// What can happen after a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum OutcomeKind {
    /// The standby is up to date.
    StandbyReady,
    /// The standby is of no use.
    StandbyFailed {
        /// What is wrong with it.
        reason: StandbyFailure,
    },
    /// The node holds no session any more.
    Drained,
    /// The node did not say that it is empty; it was removed all the same.
    DrainTimedOut,
    /// The risk went away.
    Receded {
        /// What is left of it.
        probability: Ratio,
    },
    /// The risk came back.
    RoseAgain {
        /// How great it is now.
        probability: Ratio,
    },
    /// The node died after all.
    NodeDied,
    /// All traffic is back where it was.
    TurnedBack,
}

/// The last decisions, bounded: the oldest one goes first.
#[derive(Clone, Debug)]
pub struct Journal {
    limit: usize,
    next_number: u64,
    entries: VecDeque<Explanation>, // at most `limit`, at least 1
}

impl Journal {
    /// Keeps the last `limit` decisions, at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            next_number: 0,
            entries: VecDeque::new(),
        }
    }

    /// Something was decided.
    pub fn handle_decision(
        &mut self,
        node: Option<NodeId>,
        decision: Decision,
        cause: Cause,
        now: Timestamp,
    ) {
        if self.entries.len() >= self.limit {
            self.entries.pop_front();
        }
        self.entries.push_back(Explanation {
            number: self.next_number,
            at: now,
            node,
            decision,
            cause,
            outcomes: Vec::new(),
        });
        self.next_number += 1;
    }

    /// Something happened to `node`: it belongs to the last decision about it, if that is still here.
    pub fn handle_outcome(&mut self, node: NodeId, kind: OutcomeKind, now: Timestamp) {
        let about = self.entries.iter_mut().rev();
        if let Some(last) = about.into_iter().find(|entry| entry.node == Some(node))
            && last.outcomes.len() < Explanation::MAX_OUTCOMES
        {
            last.outcomes.push(Outcome { at: now, kind });
        }
    }

    /// The decisions, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Explanation> {
        self.entries.iter()
    }
}

impl Default for Journal {
    /// The last 1024 decisions.
    fn default() -> Self {
        Self::new(1024)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.at)?;
        match &self.decision {
            Decision::Acted(kind) => write!(f, "{kind}")?,
            Decision::Held { share } => write!(f, "hold the move at {share}")?,
            Decision::Declined(refusal) => write!(f, "nothing, as {refusal}")?,
        }
        if let Some(node) = self.node {
            write!(f, " [{node}]")?;
        }
        write!(f, " because: {}", self.cause)?;
        for Outcome { at, kind } in &self.outcomes {
            write!(f, "; {at:?} {kind}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCandidate => "no other node can take over",
            Self::Budget => "the budget of moves is spent",
            Self::Frozen => "automation is frozen",
            Self::Dwell => "the last change is too fresh",
            Self::HeldByOperator => "an operator holds the node",
            Self::LowerAuthority => "greater authority drives the move",
        })
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StandbyReady => f.write_str("the standby was ready"),
            Self::StandbyFailed { reason } => write!(f, "the standby {reason}"),
            Self::Drained => f.write_str("the node was empty"),
            Self::DrainTimedOut => f.write_str("the node did not say that it was empty"),
            Self::Receded { probability } => write!(f, "the risk fell to {probability}"),
            Self::RoseAgain { probability } => write!(f, "the risk rose to {probability}"),
            Self::NodeDied => f.write_str("the node died"),
            Self::TurnedBack => f.write_str("all traffic was back"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove(node: u64) -> Decision {
        Decision::Acted(ActionKind::RemoveNode { node: NodeId(node) })
    }

    #[test]
    fn the_oldest_decision_makes_room_and_numbers_go_on() {
        let mut journal = Journal::new(2);
        for node in 0..3 {
            journal.handle_decision(
                Some(NodeId(node)),
                remove(node),
                Cause::Operator,
                Timestamp(node),
            );
        }
        let numbers: Vec<u64> = journal.entries().map(|entry| entry.number).collect();
        assert_eq!(numbers, [1, 2]);
    }

    #[test]
    fn an_outcome_belongs_to_the_last_decision_about_its_node() {
        let mut journal = Journal::default();
        for node in [1, 1, 2] {
            journal.handle_decision(
                Some(NodeId(node)),
                remove(node),
                Cause::Operator,
                Timestamp(0),
            );
        }
        for _ in 0..20 {
            journal.handle_outcome(NodeId(1), OutcomeKind::Drained, Timestamp(1));
        }
        journal.handle_outcome(NodeId(9), OutcomeKind::Drained, Timestamp(1));
        let outcomes: Vec<usize> = journal
            .entries()
            .map(|entry| entry.outcomes.len())
            .collect();
        assert_eq!(outcomes, [0, Explanation::MAX_OUTCOMES, 0]);
    }

    #[test]
    fn an_explanation_reads_as_a_sentence() {
        let mut journal = Journal::default();
        journal.handle_decision(Some(NodeId(1)), remove(1), Cause::Operator, Timestamp(0));
        journal.handle_outcome(NodeId(1), OutcomeKind::Drained, Timestamp(5_000_000));
        let text = journal.entries().next().unwrap().to_string();
        let expected = "0.000000s remove n-1 [n-1] because: the operator asked for it; 0.005000s the node was empty";
        assert_eq!(text, expected);
    }
}
