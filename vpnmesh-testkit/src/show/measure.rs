//! What acts measure: moves, silences, and where return traffic goes.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use vpnmesh_core::Timestamp;

use super::Halt;
use super::board::Said;
use super::evidence::{Moment, MoveSample, ReturnSample, Seen, SilenceSample, ms};
use super::layout::{self, Part, Place};
use super::setup::site_of;
use super::stage::{Stage, lock};
use crate::traffic::control::{Measured, Peer};
use crate::traffic::{GRACE, LoadWindow, TrafficError, Window, monotonic};

/// A planned move that was seen and is not measured yet.
#[derive(Clone, Debug)]
pub(super) struct PendingMove {
    pub(super) moment: Moment,
    pub(super) client: &'static Place,
    /// The old path, the move, the new path.
    pub(super) windows: [Window; 3],
}

impl Stage {
    /// Measures a planned move of `client` later: `since` it was asked for, until it was done `at`.
    pub(super) fn measure_move(
        &mut self,
        client: &'static Place,
        from: Timestamp,
        done: Timestamp,
    ) {
        let over = Window::new(from, done + AFTERGLOW);
        self.pending.push(PendingMove {
            moment: self.moment(client.name),
            client,
            windows: [
                Window::new(from - STEADY, from),
                over,
                Window::new(over.to, over.to + STEADY),
            ],
        });
    }

    /// Measures all moves that were seen.
    pub(super) fn settle(&mut self) -> Result<(), Halt> {
        for pending in std::mem::take(&mut self.pending) {
            let [before, over, after] = pending.windows;
            thread::sleep((after.to + GRACE).since(monotonic()));
            let before = self.seen(pending.client, before)?;
            let over = self.seen(pending.client, over)?;
            let after = self.seen(pending.client, after)?;
            let stream = pending.client.ordinal().into();
            let sample = MoveSample::of(pending.moment, stream, &before, &over, &after);
            self.tell(format!(
                "{}: {} datagrams lost, {} twice, {} overtaken, p99 {} over steady",
                pending.client.name,
                sample.lost,
                sample.duplicated,
                sample.reordered,
                sample
                    .excess
                    .map_or("unknown".into(), |it| format!("{:.1} ms", ms(it))),
            ));
            self.evidence.moves.push(sample);
        }
        Ok(())
    }

    /// What both ends of a client's datagrams know of a window.
    pub(super) fn seen(&self, client: &Place, window: Window) -> Result<Seen, Halt> {
        let site = site_of(client).name;
        let there = ask(&self.peers.sites[site], |peer| peer.window(window));
        Ok(Seen {
            client: self.window(client.name, window)?,
            site: there.map_err(|error| Halt::new(format!("ask {site}"), error))?,
        })
    }

    /// What a client knows of a window.
    pub(super) fn window(&self, client: &str, window: Window) -> Result<LoadWindow, Halt> {
        let here = ask(&self.peers.clients[client], |peer| peer.window(window));
        here.map_err(|error| Halt::new(format!("ask {client}"), error))
    }

    /// The silence that `client` saw in `window`, with the round trip of `after`.
    pub(super) fn silence(
        &self,
        client: &str,
        window: Window,
        after: Window,
    ) -> Result<SilenceSample, Halt> {
        let seen = self.window(client, window)?.heartbeat;
        let after = self.window(client, after)?.heartbeat;
        let longest = seen.longest.filter(|silence| !silence.open);
        let measured = longest.zip(after.rtt_p50_ns);
        let (silence, rtt) =
            measured.ok_or_else(|| Halt::Missing(format!("heartbeats of {client}")))?;
        Ok(SilenceSample {
            moment: self.moment(client),
            silence: silence.span(),
            rtt: Duration::from_nanos(rtt),
            starved: Duration::from_nanos(silence.unsent),
        })
    }

    /// Checks that all sites send to `client` through `holder`.
    pub(super) fn check_return(&mut self, client: &str, holder: &str) {
        let followed = |said: &Said| {
            let astray = layout::all(Part::Site)
                .filter(|site| said.field(site.name, "holders")[client].as_str() != Some(holder));
            astray.count() as u64
        };
        let mut astray = 0;
        self.board.wait(RETURN, |said| {
            astray = followed(said);
            (astray == 0).then_some(())
        });
        let moment = self.moment(client);
        self.evidence.returns.push(ReturnSample { moment, astray });
    }

    /// A counter of drops for fencing, at a client or a site.
    pub(super) fn fenced(&self) -> u64 {
        let said = self.board.look();
        let sites = layout::all(Part::Site).map(|site| said.field(site.name, "fenced").as_u64());
        let clients = layout::all(Part::Client)
            .map(|client| said.field(client.name, "drops")["fenced"].as_u64());
        sites.chain(clients).flatten().sum()
    }

    /// Broken connections and wrong bytes until now.
    pub(super) fn count_connections(&mut self) -> Result<(), Halt> {
        for (name, peer) in &self.peers.clients {
            let snapshot = ask(peer, Peer::snapshot);
            let totals = snapshot
                .map_err(|error| Halt::new(format!("ask {name}"), error))?
                .totals;
            let counts = (totals.connections.broken, totals.connections.wrong_bytes);
            self.evidence.tcp.insert(name.clone(), counts);
        }
        Ok(())
    }
}

pub(super) fn ask<M: Measured, T>(
    peer: &Mutex<Peer<M>>,
    question: impl FnOnce(&mut Peer<M>) -> Result<T, TrafficError>,
) -> Result<T, TrafficError> {
    question(&mut lock(peer))
}

/// Sites report where they send to every 250 ms.
const RETURN: Duration = Duration::from_millis(1500);
/// The old and the new path are measured for so long.
const STEADY: Duration = Duration::from_secs(1);
/// Packets of a move are under way for so long after it.
const AFTERGLOW: Duration = Duration::from_millis(300);
