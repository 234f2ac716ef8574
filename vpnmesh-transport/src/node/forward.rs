//! Inner packets: from clients to sites and to other clients of this node, and back.

use vpnmesh_core::{ClientId, SessionId, SiteId, Timestamp};

use super::held::Role;
use super::{NodeMachine, PeerId};
use crate::DropReason;
use crate::flow::InnerPacket;
use crate::station::Home;

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
        if self.station.home_of(inner.source)
            != Home::Client(client.ok_or(DropReason::UnknownIndex)?)
        {
            return Err(DropReason::NotAllowedSource);
        }
        match self.station.home_of(inner.destination) {
            Home::Site(site) => {
                let counter = self.send_to_site(site, packet, now)?;
                if let Some(held) = self.sessions.get_mut(&session) {
                    held.last_up.insert(site, counter);
                }
            }
            Home::Client(other) => self.send_to_client(other, packet, now)?,
            Home::Nowhere => return Err(DropReason::NoRoute),
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
        if self.station.home_of(inner.source) != Home::Site(site) {
            return Err(DropReason::NotAllowedSource);
        }
        match self.station.home_of(inner.destination) {
            Home::Client(client) => self.send_to_client(client, packet, now)?,
            Home::Site(other) => {
                self.send_to_site(other, packet, now)?;
            }
            Home::Nowhere => return Err(DropReason::NoRoute),
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

    fn count(&mut self, packet: &[u8]) {
        self.forwarded.0 += 1;
        self.forwarded.1 += packet.len() as u64;
    }
}
