//! Visits every state that can be reached, each once, the nearest first.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::laws;
use crate::model::{Action, Budget, Flaw, State};

/// What a search saw.
#[derive(Debug)]
pub(crate) struct Explored {
    /// Different states.
    pub(crate) states: usize,
    /// Steps from a state to another or to the same one.
    pub(crate) steps: usize,
    /// The longest of the shortest ways to a state.
    pub(crate) depth: usize,
    /// The first law that was broken.
    pub(crate) broken: Option<Broken>,
}

/// A law that was broken, and the shortest way there.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) law: &'static str,
    pub(crate) way: Vec<Action>,
}

/// Which state came before, by which action.
type CameBy = HashMap<u128, Option<(u128, Action)>>;

/// Visits all states within the budget, or until a law is broken.
pub(crate) fn explore(budget: Budget, flaw: Flaw) -> Explored {
    let start = State::start(budget);
    let mut came_by: CameBy = HashMap::from([(start.name(), None)]);
    let mut open = VecDeque::from([(start, 0)]);
    let (mut steps, mut depth) = (0, 0);
    let mut broken = None;
    while let Some((state, far)) = open.pop_front() {
        let name = state.name();
        depth = far;
        if let Some(law) = laws::broken(&state, flaw) {
            broken = Some((law, name));
            break;
        }
        for action in state.actions() {
            let Some(next) = state.after(action, flaw) else {
                continue;
            };
            steps += 1;
            let reached = next.name();
            if let Entry::Vacant(entry) = came_by.entry(reached) {
                entry.insert(Some((name, action)));
                open.push_back((next, far + 1));
            }
        }
    }
    Explored {
        states: came_by.len(),
        steps,
        depth,
        broken: broken.map(|(law, at)| Broken {
            law,
            way: way_to(&came_by, at),
        }),
    }
}

fn way_to(came_by: &CameBy, mut at: u128) -> Vec<Action> {
    let mut way = Vec::new();
    while let Some((before, action)) = came_by[&at] {
        way.push(action);
        at = before;
    }
    way.reverse();
    way
}
