//! Inner packets: from clients to sites and to other clients of this node, and back.

use std::net::IpAddr;

use vpnmesh_core::{ClientId, SessionId, SiteId, Timestamp};

use super::held::Role;
use super::{MAX_ROUTES, NodeMachine, PeerId};
use crate::DropReason;
use crate::flow::InnerPacket;

/// Who owns an inner address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Client(ClientId),
    Site(SiteId),
    Nobody,
}

impl NodeMachine {
    /// A packet of a client: its source must be the client's own.
    pub(super) fn forward_up(
        &mut self,
        session: SessionId,
        packet: &[u8],
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let inner = InnerPacket::parse(packet).ok_or(DropReason::Malformed)?;
        let client = self.sessions.get(&session).map(|held| held.record.client);
        if self.way_to(inner.source) != Way::Client(client.ok_or(DropReason::UnknownIndex)?) {
            return Err(DropReason::NotAllowedSource);
        }
        match self.way_to(inner.destination) {
            Way::Site(site) => {
                let counter = self.send_to_site(site, packet, now)?;
                if let Some(held) = self.sessions.get_mut(&session) {
                    held.last_up.insert(site, counter);
                }
            }
            Way::Client(other) => self.send_to_client(other, packet, now)?,
            Way::Nobody => return Err(DropReason::NoRoute),
        }
        self.count(packet);
        Ok(())
    }

    /// A packet of a site: its source must lie behind it.
    pub(super) fn forward_down(
        &mut self,
        site: SiteId,
        packet: &[u8],
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let inner = InnerPacket::parse(packet).ok_or(DropReason::Malformed)?;
        if self.way_to(inner.source) != Way::Site(site) {
            return Err(DropReason::NotAllowedSource);
        }
        match self.way_to(inner.destination) {
            Way::Client(client) => self.send_to_client(client, packet, now)?,
            Way::Site(other) => {
                self.send_to_site(other, packet, now)?;
            }
            Way::Nobody => return Err(DropReason::NoRoute),
        }
        self.count(packet);
        Ok(())
    }

    fn send_to_site(
        &mut self,
        site: SiteId,
        packet: &[u8],
        now: Timestamp,
    ) -> Result<u64, DropReason> {
        let peer = self
            .peers
            .get_mut(&PeerId::Site(site))
            .and_then(|peer| peer.leg.as_mut());
        let leg = peer.ok_or(DropReason::NoRoute)?;
        leg.send_packet(packet, &mut self.station.out, now)?;
        Ok(leg.sealing().sealed().saturating_sub(1))
    }

    fn send_to_client(
        &mut self,
        client: ClientId,
        packet: &[u8],
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let session = self.by_client.get(&client).ok_or(DropReason::NoRoute)?;
        let held = self.sessions.get_mut(session).ok_or(DropReason::NoRoute)?;
        if let Role::Leaving(leaving) = &held.role
            && leaving.down_closed
        {
            return Err(DropReason::Fenced); // the client knows that nothing more comes from here
        }
        held.leg.send_packet(packet, &mut self.station.out, now)?;
        held.last_down = held.leg.sealing().sealed().checked_sub(1);
        Ok(())
    }

    pub(super) fn way_to(&mut self, address: IpAddr) -> Way {
        if let Some(way) = self.routes.get(&address) {
            return *way;
        }
        let membership = &self.station.membership;
        let client = membership
            .client_at(address)
            .map(|client| Way::Client(client.id));
        let site = membership.site_at(address).map(|site| Way::Site(site.id));
        let way = client.or(site).unwrap_or(Way::Nobody);
        if self.routes.len() >= MAX_ROUTES {
            self.routes.clear();
        }
        self.routes.insert(address, way);
        way
    }

    fn count(&mut self, packet: &[u8]) {
        self.forwarded.0 += 1;
        self.forwarded.1 += packet.len() as u64;
    }
}
