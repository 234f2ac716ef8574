//! The transitions of [`MeshState`].

use postcard::ser_flavors::Size;
use postcard::serialize_with_flavor;
use vpnmesh_core::{
    ClientEntry, ClientId, Membership, NodeEntry, NodeId, NodeState, Order, Ratio, SiteEntry,
    SiteId, Version,
};

use super::{Effect, MeshState, Refusal, is_name, kind_for};
use crate::{LogEntry, MeshCommand};

impl MeshState {
    /// Applies one entry.
    ///
    /// # Errors
    /// A [`Refusal`]. A stale entry changes nothing; any other refused entry moves the version on
    /// and changes nothing else.
    pub fn apply(&mut self, entry: &LogEntry) -> Result<Vec<Effect>, Refusal> {
        if entry.version <= self.version {
            return Err(Refusal::Stale {
                have: self.version,
                offered: entry.version,
            });
        }
        let mut next = self.clone();
        next.version = entry.version;
        let changed = next.change(&entry.command);
        if changed.is_ok() {
            *self = next;
        }
        self.version = entry.version;
        changed
    }

    /// Whether the command would be refused now.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn check(&self, command: &MeshCommand) -> Result<(), Refusal> {
        self.clone().change(command).map(drop)
    }

    fn change(&mut self, command: &MeshCommand) -> Result<Vec<Effect>, Refusal> {
        match command {
            MeshCommand::BeginTerm => Ok(vec![self.membership_changed()]),
            MeshCommand::PutNode(node) => self.put_node(node),
            MeshCommand::PutClient(client) => self.put_client(client),
            MeshCommand::PutSite(site) => self.put_site(site),
            MeshCommand::Forget(id) => self.forget(*id),
            MeshCommand::Started {
                node,
                incarnation,
                random,
            } => self.start(*node, *incarnation, *random),
            MeshCommand::SetState {
                node,
                state,
                automatic,
            } => {
                let effects = self.set_state(*node, *state, Ratio::ZERO)?;
                if *automatic && *state == NodeState::Removed {
                    self.may_return.insert(*node);
                }
                Ok(effects)
            }
            MeshCommand::SetTier { client, tier } => {
                let unknown = Refusal::UnknownMember { id: client.0 };
                self.clients.get_mut(client).ok_or(unknown)?.tier = *tier;
                Ok(vec![self.membership_changed()])
            }
            MeshCommand::Warm { node, standby } => self.warm(*node, *standby),
            MeshCommand::Release { node, standby } => self.release(*node, *standby),
            MeshCommand::SetShare { node, to, share } => self.set_share(*node, *to, *share),
            MeshCommand::Hold { node, held } => {
                self.known(*node)?;
                if *held {
                    self.held.insert(*node);
                } else {
                    self.held.remove(node);
                }
                Ok(Vec::new())
            }
            MeshCommand::Freeze(frozen) => {
                self.frozen = *frozen;
                Ok(Vec::new())
            }
        }
    }

    fn put_node(&mut self, node: &NodeEntry) -> Result<Vec<Effect>, Refusal> {
        self.admit(node.id.0, &node.name, self.nodes.contains_key(&node.id))?;
        self.nodes.insert(node.id, node.clone());
        self.joined()
    }

    fn put_client(&mut self, client: &ClientEntry) -> Result<Vec<Effect>, Refusal> {
        self.admit(
            client.id.0,
            &client.name,
            self.clients.contains_key(&client.id),
        )?;
        self.clients.insert(client.id, client.clone());
        self.joined()
    }

    fn put_site(&mut self, site: &SiteEntry) -> Result<Vec<Effect>, Refusal> {
        self.admit(site.id.0, &site.name, self.sites.contains_key(&site.id))?;
        self.sites.insert(site.id, site.clone());
        self.joined()
    }

    /// Somebody joined or changed: whether all may know it.
    fn joined(&mut self) -> Result<Vec<Effect>, Refusal> {
        let membership = self.membership();
        membership.check().map_err(Refusal::Membership)?;
        let bytes = serialize_with_flavor(&membership, Size::default());
        let (bytes, limit) = (bytes.unwrap_or(usize::MAX), Membership::MAX_ENCODED);
        if bytes > limit {
            return Err(Refusal::Full { bytes, limit });
        }
        Ok(vec![self.membership_changed()])
    }

    /// Whether a member may have that id and name; `known` if one of its kind has the id already.
    fn admit(&mut self, id: u64, name: &str, known: bool) -> Result<(), Refusal> {
        if !is_name(name) {
            let name = name.to_owned();
            return Err(Refusal::Name { name });
        }
        let members = self.members();
        if members
            .iter()
            .any(|(other, taken)| *taken == name && *other != id)
        {
            let name = name.to_owned();
            return Err(Refusal::NameTaken { name });
        }
        if !known && members.iter().any(|(other, _)| *other == id) {
            return Err(Refusal::OtherKind { id });
        }
        self.next_id = self.next_id.max(id.saturating_add(1));
        Ok(())
    }

    fn members(&self) -> Vec<(u64, &str)> {
        let nodes = self.nodes.values().map(|n| (n.id.0, n.name.as_str()));
        let clients = self.clients.values().map(|c| (c.id.0, c.name.as_str()));
        let sites = self.sites.values().map(|s| (s.id.0, s.name.as_str()));
        nodes.chain(clients).chain(sites).collect()
    }

    fn forget(&mut self, id: u64) -> Result<Vec<Effect>, Refusal> {
        let node = NodeId(id);
        let gone = self.nodes.remove(&node).is_some()
            || self.clients.remove(&ClientId(id)).is_some()
            || self.sites.remove(&SiteId(id)).is_some();
        if !gone {
            return Err(Refusal::UnknownMember { id });
        }
        self.incarnations.remove(&node);
        self.orders.remove(&node);
        self.held.remove(&node);
        self.may_return.remove(&node);
        self.standbys
            .retain(|of, (standby, _)| *of != node && *standby != node);
        self.shares
            .retain(|of, (to, ..)| *of != node && *to != node);
        Ok(vec![self.membership_changed()])
    }

    fn start(
        &mut self,
        node: NodeId,
        incarnation: u64,
        random: [u8; 16],
    ) -> Result<Vec<Effect>, Refusal> {
        self.known(node)?;
        match self.incarnations.get(&node) {
            Some(&(seen, _)) if seen >= incarnation => Err(Refusal::Incarnation { node, seen }),
            _ => {
                self.incarnations.insert(node, (incarnation, random));
                Ok(Vec::new())
            }
        }
    }

    fn set_state(
        &mut self,
        node: NodeId,
        state: NodeState,
        share: Ratio,
    ) -> Result<Vec<Effect>, Refusal> {
        let unknown = Refusal::UnknownMember { id: node.0 };
        let entry = self.nodes.get_mut(&node).ok_or(unknown)?;
        let changed = std::mem::replace(&mut entry.state, state) != state;
        self.may_return.remove(&node);
        if state != NodeState::Draining {
            self.standbys.remove(&node);
            self.shares.remove(&node);
        }
        let order = Order {
            version: self.version,
            node,
            kind: kind_for(state),
            share: if state == NodeState::Removed {
                Ratio::ONE
            } else {
                share
            },
        };
        self.orders.insert(node, order);
        let mut effects = vec![Effect::Ordered(order)];
        if changed {
            effects.push(self.membership_changed());
        }
        Ok(effects)
    }

    fn warm(&mut self, node: NodeId, standby: NodeId) -> Result<Vec<Effect>, Refusal> {
        self.pair(node, standby)?;
        let version = self.version;
        self.standbys.insert(node, (standby, version));
        Ok(vec![Effect::Warm {
            version,
            node,
            standby,
        }])
    }

    fn release(&mut self, node: NodeId, standby: NodeId) -> Result<Vec<Effect>, Refusal> {
        self.pair(node, standby)?;
        if self
            .standbys
            .get(&node)
            .is_some_and(|(warm, _)| *warm == standby)
        {
            self.standbys.remove(&node);
        }
        let version = self.version;
        Ok(vec![Effect::Release {
            version,
            node,
            standby,
        }])
    }

    fn set_share(
        &mut self,
        node: NodeId,
        to: NodeId,
        share: Ratio,
    ) -> Result<Vec<Effect>, Refusal> {
        self.pair(node, to)?;
        let version = self.version;
        let moved = Effect::Share {
            version,
            node,
            to,
            share,
        };
        let mut effects = vec![moved];
        let removed = self
            .nodes
            .get(&node)
            .is_some_and(|n| n.state == NodeState::Removed);
        if removed {
            return Ok(effects); // nothing moves back to it
        }
        let state = if share > Ratio::ZERO {
            NodeState::Draining
        } else {
            NodeState::Active
        };
        let standby = self.standbys.get(&node).copied();
        effects.extend(self.set_state(node, state, share)?);
        if let Some(standby) = standby {
            self.standbys.insert(node, standby); // until it is released
        }
        if share > Ratio::ZERO {
            self.shares.insert(node, (to, share, version));
        }
        Ok(effects)
    }

    fn pair(&self, node: NodeId, other: NodeId) -> Result<(), Refusal> {
        self.known(node)?;
        self.known(other)?;
        (node != other)
            .then_some(())
            .ok_or(Refusal::Itself { node })
    }

    fn known(&self, node: NodeId) -> Result<(), Refusal> {
        let known = self.nodes.contains_key(&node);
        known
            .then_some(())
            .ok_or(Refusal::UnknownMember { id: node.0 })
    }

    const fn membership_changed(&mut self) -> Effect {
        self.membership = self.version;
        Effect::MembershipChanged
    }
}

impl LogEntry {
    /// The entry that follows `version` in the same term.
    #[must_use]
    pub const fn after(version: Version, command: MeshCommand) -> Self {
        let version = Version {
            term: version.term,
            index: version.index + 1,
        };
        Self { version, command }
    }

    /// The entry that begins `term` after `version`.
    #[must_use]
    pub const fn begin_term(version: Version, term: u64) -> Self {
        let version = Version {
            term,
            index: version.index + 1,
        };
        Self {
            version,
            command: MeshCommand::BeginTerm,
        }
    }
}
