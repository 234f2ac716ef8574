//! Draws the screen a few times a second from what members and traffic say.

use std::sync::mpsc::{self, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use vpnmesh_core::{Ratio, Timestamp};

use super::board::{Board, Said};
use super::layout::{self, Part, Place};
use super::stage::{Peers, Shown, lock};
use crate::screen::{ClientLine, Life, NodeLine, Screen};
use crate::traffic::monotonic;

/// The thread that draws.
#[derive(Debug)]
pub(super) struct Ticker {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

enum Order {
    Follow(Arc<Peers>, Timestamp),
    Draw(SyncSender<()>),
    Stop,
}

impl Ticker {
    /// Draws what `shown` holds and what the board says.
    pub(super) fn start(shown: Arc<Mutex<Shown>>, board: Arc<Board>, screen: Screen) -> Self {
        let (orders, inbox) = mpsc::channel(); // a few orders in each act
        let mut screen = screen;
        let thread = std::thread::spawn(move || {
            let started = monotonic();
            let mut peers: Option<(Arc<Peers>, Timestamp)> = None;
            loop {
                let (mut stop, mut drawn) = (false, None);
                match inbox.recv_timeout(EVERY) {
                    Ok(Order::Follow(all, since)) => peers = Some((all, since)),
                    Ok(Order::Draw(reply)) => drawn = Some(reply),
                    Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => stop = true,
                    Err(RecvTimeoutError::Timeout) => {}
                }
                let since = peers.as_ref().map_or(started, |(_, since)| *since);
                update(
                    &shown,
                    &board,
                    peers.as_ref().map(|(peers, _)| &**peers),
                    since,
                );
                screen.draw(&lock(&shown).state);
                if let Some(reply) = drawn {
                    let _nobody_waits = reply.send(());
                }
                if stop {
                    return;
                }
            }
        });
        Self { orders, thread }
    }

    /// Shows the traffic too, and time since `started`.
    pub(super) fn follow(&self, peers: Arc<Peers>, started: Timestamp) {
        let _it_has_stopped = self.orders.send(Order::Follow(peers, started));
    }

    /// Draws now, so that what was said is shown before what will be said.
    pub(super) fn draw(&self) {
        let (reply, drawn) = mpsc::sync_channel(1);
        if self.orders.send(Order::Draw(reply)).is_ok() {
            let _it_has_stopped = drawn.recv();
        }
    }

    /// Draws a last time.
    pub(super) fn stop(self) {
        let _it_has_stopped = self.orders.send(Order::Stop);
        let _panicked = self.thread.join();
    }
}

fn update(shown: &Mutex<Shown>, board: &Board, peers: Option<&Peers>, since: Timestamp) {
    let clients = peers.map(|peers| client_lines(board, peers));
    let mut shown = lock(shown);
    let said = board.look();
    let nodes = layout::all(Part::Controller).chain(layout::all(Part::Node));
    let lines = nodes.map(|node| node_line(node, &shown, &said)).collect();
    drop(said);
    shown.state.nodes = lines;
    shown.state.elapsed = monotonic().since(since);
    if let Some(clients) = clients {
        shown.state.clients = clients;
    }
}

fn client_lines(board: &Board, peers: &Peers) -> Vec<ClientLine> {
    let lines = peers.clients.iter().filter_map(|(name, peer)| {
        let snapshot = lock(peer).snapshot().ok()?;
        let via = board
            .look()
            .holder(name)
            .unwrap_or_else(|| "nobody".to_owned());
        Some(ClientLine::of(name, &via, &snapshot))
    });
    lines.collect()
}

fn node_line(node: &Place, shown: &Shown, said: &Said) -> NodeLine {
    let clients = || layout::all(Part::Client).map(|client| client.name.to_owned());
    let primary = |client: &String| said.holder(client).as_deref() == Some(node.name);
    let shadow = |client: &String| said.shadows(client).iter().any(|it| it == node.name);
    NodeLine {
        name: node.name.to_owned(),
        region: node.region.to_owned(),
        life: life(node, shown, said),
        risk: said
            .field(node.name, "risk")
            .as_f64()
            .map(Ratio::saturating),
        primary_of: clients().filter(primary).collect(),
        shadow_of: clients().filter(shadow).collect(),
    }
}

/// The director knows who is dead or frozen, the node itself how it is doing.
fn life(node: &Place, shown: &Shown, said: &Said) -> Life {
    let left = shown.lives.get(node.name).copied().unwrap_or_default();
    match left {
        Life::Dead | Life::Frozen => left,
        Life::Starting | Life::Ready | Life::Degraded | Life::Draining | Life::Removed => {
            if said.report(node.name).is_none() {
                return Life::Starting;
            }
            let risk = said.field(node.name, "risk").as_f64().unwrap_or(0.0);
            match said.field(node.name, "state").as_str() {
                Some("draining") => Life::Draining,
                Some("removed") => Life::Removed,
                _ if risk >= TROUBLE => Life::Degraded,
                _ => Life::Ready,
            }
        }
    }
}

const EVERY: Duration = Duration::from_millis(250);
/// From this risk on a node is shown as degraded: taste.
const TROUBLE: f64 = 0.3;
