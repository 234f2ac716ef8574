//! Who carries tunnels.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

use async_trait::async_trait;

use crate::{Bandwidth, Error, NodeId, Ratio, TunnelId};

/// Carries tunnels: takes commands, reports events later.
///
/// A driver awaits it; the engine never does. Both calls are cancel safe: a dropped future changed
/// nothing, an event is handed out once.
#[async_trait]
pub trait TunnelManager: Debug + Send {
    /// Starts to carry out `command`. What comes of it is an event.
    ///
    /// # Errors
    /// [`Error::UnknownTunnel`], [`Error::TunnelExists`] and [`Error::TooManyTunnels`]; nothing changed then.
    async fn handle_command(&mut self, command: TunnelCommand) -> Result<(), Error>;

    /// The next thing that happened; waits for it.
    async fn next_event(&mut self) -> TunnelEvent;

    /// The tunnels and their states, ordered by id.
    fn tunnels(&self) -> Vec<TunnelStatus>;
}

const _: Option<&dyn TunnelManager> = None; // must stay object safe

/// The two ends of a tunnel and what is expected of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TunnelSpec {
    /// This end.
    pub from: NodeId,
    /// The other end.
    pub to: NodeId,
    /// What it should carry; zero if nobody knows.
    pub expected: Bandwidth,
}

/// What to do with a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TunnelCommand {
    /// Set it up.
    OpenTunnel {
        /// Its name from now on.
        tunnel: TunnelId,
        /// What it is.
        spec: TunnelSpec,
    },
    /// Carry this share of the traffic between its ends.
    SetTunnelShare {
        /// The tunnel.
        tunnel: TunnelId,
        /// The share.
        share: Ratio,
    },
    /// Tear it down.
    CloseTunnel {
        /// The tunnel.
        tunnel: TunnelId,
    },
}

/// What happened to a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TunnelEvent {
    /// It carries packets.
    TunnelUp {
        /// The tunnel.
        tunnel: TunnelId,
    },
    /// It carries this share now.
    TunnelShareSet {
        /// The tunnel.
        tunnel: TunnelId,
        /// The share.
        share: Ratio,
    },
    /// It carries nothing any more: the other end is gone.
    TunnelLost {
        /// The tunnel.
        tunnel: TunnelId,
    },
    /// It is closed, as asked; its name is free.
    TunnelClosed {
        /// The tunnel.
        tunnel: TunnelId,
    },
}

/// A tunnel as it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TunnelStatus {
    /// Its name.
    pub tunnel: TunnelId,
    /// What it is.
    pub spec: TunnelSpec,
    /// Whether it carries packets.
    pub up: bool,
    /// The share that it was told to carry.
    pub share: Ratio,
}

/// Tunnels that exist in memory: every tunnel comes up at once, until its far end is cut off.
///
/// For simulations, and for products whose paths need no setting up.
#[derive(Debug)]
pub struct MemoryTunnels {
    limit: usize,
    tunnels: BTreeMap<TunnelId, TunnelStatus>, // at most `limit`
    events: VecDeque<TunnelEvent>,             // at most MAX_EVENTS; the oldest goes first
}

impl MemoryTunnels {
    /// Carries at most `limit` tunnels.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            tunnels: BTreeMap::new(),
            events: VecDeque::new(),
        }
    }

    /// `node` is cut off: its tunnels carry nothing any more.
    pub fn cut(&mut self, node: NodeId) {
        let reaches = |spec: &TunnelSpec| spec.from == node || spec.to == node;
        let lost: Vec<TunnelId> = self
            .tunnels
            .values_mut()
            .filter(|status| status.up && reaches(&status.spec))
            .map(|status| {
                status.up = false;
                status.tunnel
            })
            .collect();
        for tunnel in lost {
            self.push(TunnelEvent::TunnelLost { tunnel });
        }
    }

    /// Carries out `command` at once.
    ///
    /// # Errors
    /// As [`TunnelManager::handle_command`].
    pub fn apply(&mut self, command: TunnelCommand) -> Result<(), Error> {
        let event = match command {
            TunnelCommand::OpenTunnel { tunnel, spec } => self.open(tunnel, spec)?,
            TunnelCommand::SetTunnelShare { tunnel, share } => {
                let status = self.tunnels.get_mut(&tunnel);
                status.ok_or(Error::UnknownTunnel { tunnel })?.share = share;
                TunnelEvent::TunnelShareSet { tunnel, share }
            }
            TunnelCommand::CloseTunnel { tunnel } => {
                let status = self.tunnels.remove(&tunnel);
                status.ok_or(Error::UnknownTunnel { tunnel })?;
                TunnelEvent::TunnelClosed { tunnel }
            }
        };
        self.push(event);
        Ok(())
    }

    /// The next thing that happened, if anything did.
    pub fn poll_event(&mut self) -> Option<TunnelEvent> {
        self.events.pop_front()
    }

    fn open(&mut self, tunnel: TunnelId, spec: TunnelSpec) -> Result<TunnelEvent, Error> {
        if self.tunnels.contains_key(&tunnel) {
            return Err(Error::TunnelExists { tunnel });
        }
        if self.tunnels.len() >= self.limit {
            return Err(Error::TooManyTunnels { limit: self.limit });
        }
        let status = TunnelStatus {
            tunnel,
            spec,
            up: true,
            share: Ratio::ZERO,
        };
        self.tunnels.insert(tunnel, status);
        Ok(TunnelEvent::TunnelUp { tunnel })
    }

    fn push(&mut self, event: TunnelEvent) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

#[async_trait]
impl TunnelManager for MemoryTunnels {
    async fn handle_command(&mut self, command: TunnelCommand) -> Result<(), Error> {
        self.apply(command)
    }

    async fn next_event(&mut self) -> TunnelEvent {
        // Events come from commands alone, and a command needs `self` back first: with none
        // waiting there is nothing to wake up for.
        match self.poll_event() {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    fn tunnels(&self) -> Vec<TunnelStatus> {
        self.tunnels.values().copied().collect()
    }
}

const MAX_EVENTS: usize = 4096; // taste: a driver that is this far behind is lost anyway

#[cfg(test)]
mod tests {
    use super::*;

    const TUNNEL: TunnelId = TunnelId(1);

    fn open(tunnel: TunnelId, to: u64) -> TunnelCommand {
        let spec = TunnelSpec {
            from: NodeId(1),
            to: NodeId(to),
            expected: Bandwidth(0),
        };
        TunnelCommand::OpenTunnel { tunnel, spec }
    }

    #[test]
    fn a_tunnel_lives_from_open_to_close() {
        let mut tunnels = MemoryTunnels::new(8);
        let share = Ratio::ONE;
        let (tunnel, close) = (TUNNEL, TunnelCommand::CloseTunnel { tunnel: TUNNEL });
        tunnels.apply(open(tunnel, 2)).unwrap();
        tunnels
            .apply(TunnelCommand::SetTunnelShare { tunnel, share })
            .unwrap();
        assert_eq!(tunnels.tunnels()[0].share, share);
        tunnels.apply(close).unwrap();
        assert_eq!(tunnels.apply(close), Err(Error::UnknownTunnel { tunnel }));
        let events: Vec<TunnelEvent> = std::iter::from_fn(|| tunnels.poll_event()).collect();
        let up = TunnelEvent::TunnelUp { tunnel };
        let set = TunnelEvent::TunnelShareSet { tunnel, share };
        assert_eq!(events, [up, set, TunnelEvent::TunnelClosed { tunnel }]);
    }

    #[test]
    fn names_are_unique_and_the_limit_holds() {
        let mut tunnels = MemoryTunnels::new(1);
        tunnels.apply(open(TUNNEL, 2)).unwrap();
        let twice = tunnels.apply(open(TUNNEL, 3));
        assert_eq!(twice, Err(Error::TunnelExists { tunnel: TUNNEL }));
        let over = tunnels.apply(open(TunnelId(2), 3));
        assert_eq!(over, Err(Error::TooManyTunnels { limit: 1 }));
    }

    #[test]
    fn a_cut_node_loses_its_tunnels_and_no_other() {
        let mut tunnels = MemoryTunnels::new(8);
        tunnels.apply(open(TUNNEL, 2)).unwrap();
        tunnels.apply(open(TunnelId(2), 3)).unwrap();
        tunnels.cut(NodeId(2));
        tunnels.cut(NodeId(2));
        let up: Vec<bool> = tunnels.tunnels().iter().map(|status| status.up).collect();
        assert_eq!(up, [false, true]);
        let lost = std::iter::from_fn(|| tunnels.poll_event())
            .filter(|event| matches!(event, TunnelEvent::TunnelLost { .. }));
        assert_eq!(lost.count(), 1);
    }

    #[test]
    fn events_are_awaited_without_a_runtime() {
        use std::task::{Context, Poll, Waker};
        let mut tunnels = MemoryTunnels::new(8);
        let mut context = Context::from_waker(Waker::noop());
        assert!(
            tunnels
                .next_event()
                .as_mut()
                .poll(&mut context)
                .is_pending()
        );
        tunnels.apply(open(TUNNEL, 2)).unwrap();
        let event = tunnels.next_event().as_mut().poll(&mut context);
        assert_eq!(event, Poll::Ready(TunnelEvent::TunnelUp { tunnel: TUNNEL }));
    }
}
