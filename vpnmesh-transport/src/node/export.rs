//! A session in the standard form, for programs beside this one.

use vpnmesh_core::SessionId;

use super::NodeMachine;
use crate::record::{HolderKey, Placement, SessionDocument};

impl NodeMachine {
    /// Describes a session that is held here, with our branch of it sealed to `seal_to`.
    pub(super) fn export(
        &mut self,
        session: SessionId,
        seal_to: Option<&HolderKey>,
    ) -> Option<SessionDocument> {
        let held = self.sessions.get(&session)?;
        let membership = &self.station.membership;
        let client = membership.client(held.record.client)?;
        let address = membership.node(self.me)?.addresses.first()?;
        let rank = held.record.holders.iter().position(|node| *node == self.me);
        let place = Placement {
            holder: self.me,
            rank: u8::try_from(rank?).ok()?,
            client_internal_ip: client.prefixes.first()?.network(),
            server_port: address.port(),
            seq_number: held.last_down.unwrap_or(0),
        };
        let mut document = SessionDocument::describe(&held.record, &place).ok()?;
        if let Some(key) = seal_to {
            let entropy = &mut *self.station.config.entropy;
            document.seal(&held.branch, key, entropy).ok()?;
        }
        Some(document)
    }
}
