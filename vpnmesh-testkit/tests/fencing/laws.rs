//! What must hold whatever happens, each in a few lines.

use std::collections::BTreeMap;

use crate::model::{Flaw, NODES, State};

/// A law of the fence: its name, and whether it holds in the state after a step.
type Law = (&'static str, fn(&State, Flaw) -> bool);

/// The laws, cheapest first.
pub(crate) const LAWS: [Law; 6] = [
    (SITE, |state, _| site(state)),
    (WAY_BACK, |state, _| way_back(state)),
    (CLIENT, |state, _| client(state)),
    (ONE_HOLDER, |state, _| one_holder(state)),
    (ONCE, |state, _| !state.reopened()),
    (HEALS, State::heals),
];

pub(crate) const SITE: &str = "a site takes packets through those that the newest statement names";
pub(crate) const WAY_BACK: &str = "a site answers through a holder that it listens to";
pub(crate) const CLIENT: &str = "a client takes nothing below the move that it made the only one";
pub(crate) const ONE_HOLDER: &str = "a fence names one holder";
pub(crate) const ONCE: &str = "no activation opens twice";
pub(crate) const HEALS: &str = "once faults stop, one holder carries everything";

/// The first law that does not hold.
pub(crate) fn broken(state: &State, flaw: Flaw) -> Option<&'static str> {
    LAWS.iter()
        .find(|(_, holds)| !holds(state, flaw))
        .map(|(name, _)| *name)
}

fn site(state: &State) -> bool {
    let heard = state.heard();
    let newest = heard.newest;
    (0..NODES).all(|node| {
        let named = newest.holder == node;
        let left = newest.drained == Some(node);
        let shared = left && !newest.alone;
        let drains = left && newest.alone && heard.drains;
        let early = named || shared || drains;
        let late = named || shared || (drains && !heard.closed);
        state.site_accepts(node) == [early, late]
    })
}

fn way_back(state: &State) -> bool {
    let through = state.way_back();
    through.is_some_and(|node| state.site_accepts(node) == [true, true])
}

fn client(state: &State) -> bool {
    let mut holders: Vec<u8> = state.client_accepts().map(|(node, _)| node).collect();
    holders.sort_unstable();
    holders.dedup();
    let few = holders.len() <= if state.is_moving() { 3 } else { 1 };
    few && state.client_accepts().all(|(_, at)| at >= state.floor())
}

fn one_holder(state: &State) -> bool {
    let mut named = BTreeMap::new();
    let statements = state.sent().iter().filter_map(|sent| sent.statement());
    let statements = statements.chain([state.heard().newest]);
    let mut each = statements.map(|statement| (statement.at, statement.holder));
    each.all(|(at, holder)| *named.entry(at).or_insert(holder) == holder)
}
