//! Ties to sites: receipt keys, and the statement which holder carries the session.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{PublicKey, Secret, SiteId, Timestamp};

use super::ClientMachine;
use super::moves::Stage;
use crate::handshake::{Direction, Established, direction};
use crate::message::ClientMessage;
use crate::receipt::{Fence, Phase, Receipt, STATE_AGAIN, UNKNOWN_KEY, Way};
use crate::station::{Hello, Route};
use crate::{DropReason, schedule};

/// What a client shares with a site.
#[derive(Debug)]
pub(super) struct Tie {
    /// The site's static key.
    peer: PublicKey,
    /// The receipt key, once the two have shaken hands.
    pub(super) key: Option<Secret<32>>,
    /// The greatest statement that the site confirmed.
    pub(super) answered: Option<(Fence, Phase)>,
    /// When the statement, or the handshake, is repeated.
    pub(super) due: Timestamp,
}

impl Tie {
    /// Whether the site confirmed `statement` or a later one.
    pub(super) fn has_answered(&self, statement: Option<(Fence, Phase)>) -> bool {
        self.answered.is_some() && self.answered >= statement
    }
}

impl ClientMachine {
    /// One tie for each site of the membership.
    pub(super) fn follow_sites(&mut self, now: Timestamp) {
        let sites = self.station.membership.sites.iter();
        let sites: BTreeMap<SiteId, PublicKey> = sites.map(|site| (site.id, site.key)).collect();
        self.ties
            .retain(|site, tie| sites.get(site) == Some(&tie.peer));
        for (site, peer) in sites {
            self.ties.entry(site).or_insert(Tie {
                peer,
                key: None,
                answered: None,
                due: now,
            });
        }
    }

    /// What the sites shall believe now.
    pub(super) fn statement(&self) -> Option<Receipt> {
        let active = self.active.as_ref()?;
        let stage = self.planned.as_ref().map(|planned| planned.stage);
        let (newest, phase, drained) = match (stage, self.other.as_ref()) {
            (Some(Stage::Committing), Some(other)) => (other, Phase::Alone, Some(active.node)),
            (Some(_), Some(other)) => (other, Phase::Shared, Some(active.node)),
            (None, _) | (Some(_), None) => (
                active,
                Phase::Alone,
                self.draining.as_ref().map(|(old, _)| old.node),
            ),
        };
        // A generation that its holder did not confirm yet is none that a site may know.
        let (generation, number) = match newest.leg.sealing().id {
            id if newest.activation.is_some()
                && stage.is_none()
                && id.generation < newest.generation =>
            {
                (id.generation, id.number)
            }
            _ => (newest.generation, newest.number),
        };
        Some(Receipt {
            client: self.me,
            fence: self.fence(generation, number),
            phase,
            holder: newest.node,
            drained: drained.filter(|node| *node != newest.node),
        })
    }

    /// Whether every site that ever answered knows that both holders are valid.
    pub(super) fn sites_know(&self) -> bool {
        let wanted = self
            .statement()
            .map(|receipt| (receipt.fence, receipt.phase));
        self.ties
            .values()
            .all(|tie| tie.answered.is_none() || tie.has_answered(wanted))
    }

    /// Repeats statements and handshakes that are due.
    pub(super) fn tend_ties(&mut self, now: Timestamp) {
        let Some(receipt) = self.statement() else {
            return;
        };
        let newest = Some((receipt.fence, receipt.phase));
        let due: Vec<SiteId> = self
            .ties
            .iter()
            .filter(|(_, tie)| tie.due <= now)
            .map(|(site, _)| *site)
            .collect();
        for site in due {
            let Some(tie) = self.ties.get_mut(&site) else {
                continue;
            };
            let Some(key) = &tie.key else {
                tie.due = now + DIAL_AGAIN;
                self.dial_site(site, now);
                continue;
            };
            tie.due = now
                + if tie.has_answered(newest) {
                    REPEAT
                } else {
                    RETRY
                };
            let body = receipt.seal(Way::Statement, key);
            self.tell_newest(&ClientMessage::ToSite { site, body });
        }
        while let Some((site, body)) = self.station.poll_relayed() {
            self.tell_newest(&ClientMessage::ToSite { site, body });
        }
    }

    /// Speaks through the holder that the statement names, once it answers; else the active one.
    fn tell_newest(&mut self, message: &ClientMessage) {
        let other = self
            .other
            .as_ref()
            .filter(|holder| holder.leg.sealing().confirmed);
        match other.map(|holder| holder.node) {
            Some(node) => self.tell(node, message),
            None => self.tell_active(message),
        }
    }

    fn dial_site(&mut self, site: SiteId, now: Timestamp) {
        let Some(key) = self.station.membership.site(site).map(|entry| entry.key) else {
            return;
        };
        if !self
            .station
            .is_dialing(&key, |hello| *hello == Hello::Receipts)
        {
            self.dial(key, Route::Relay(site), Hello::Receipts, now);
        }
    }

    /// Bytes from a site.
    pub(super) fn handle_from_site(&mut self, site: SiteId, body: &[u8], now: Timestamp) {
        if let Some(Direction::ToInitiator { receiver }) = direction(body) {
            if let Some(ended) = self.station.handle_reply(receiver, body, now) {
                self.handle_ended(ended, now);
            }
            return self.tend_ties(now);
        }
        let Some(tie) = self.ties.get_mut(&site) else {
            return self.station.out.drop_because(DropReason::UnknownPeer);
        };
        if body == [UNKNOWN_KEY] {
            tie.key = None;
            tie.answered = None;
            return tie.due = tie.due.min(now + DIAL_AGAIN);
        }
        if body == [STATE_AGAIN] {
            tie.answered = None;
            tie.due = now;
            return self.tend_ties(now);
        }
        let Some(key) = &tie.key else {
            return self.station.out.drop_because(DropReason::Stale);
        };
        match Receipt::open(Way::Answer, key, body) {
            Ok(receipt) => {
                let answer = Some((receipt.fence, receipt.phase));
                if tie.answered < answer {
                    tie.answered = answer;
                    tie.due = now + REPEAT;
                }
                self.advance_move(now);
            }
            Err(reason) => self.station.out.drop_because(reason),
        }
    }

    /// A handshake with a site ended.
    pub(super) fn handle_tied(
        &mut self,
        site: SiteId,
        established: Option<Box<Established>>,
        now: Timestamp,
    ) {
        let Some(tie) = self.ties.get_mut(&site) else {
            return;
        };
        if let Some(established) = established.filter(|it| it.peer == tie.peer) {
            tie.key = Some(schedule::receipt_key(&established.root));
            tie.due = now;
        }
    }
}

/// The keepalive of a statement that was confirmed.
const REPEAT: Duration = Duration::from_secs(10);
/// The control stream is reliable; a site that restarts meanwhile is not.
const RETRY: Duration = Duration::from_millis(500);
const DIAL_AGAIN: Duration = Duration::from_millis(400);
