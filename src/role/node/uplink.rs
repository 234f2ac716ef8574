//! The node's line to its controller, on a thread of its own.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

use tokio::sync::{oneshot, watch};
use vpnmesh_control::pki::Credentials;
use vpnmesh_control::{Agent, AgentConfig, AgentHandle, ControllerOrder, Hello, Link, Reporter};
use vpnmesh_core::Version;
use vpnmesh_transport::Incarnation;

use super::Node;
use crate::Error;
use crate::role::keeper::Input;
use crate::settings::ControlSettings;

/// A line to the controller. Dropping it ends the line.
#[derive(Debug)]
pub(super) struct Uplink {
    pub(super) reporter: Reporter,
    news: Receiver<News>,
    incarnation: watch::Sender<Incarnation>,
    _alive: oneshot::Sender<()>,
}

/// What comes from the controller's side.
#[derive(Debug)]
pub(super) enum News {
    /// The line came up, went down or was refused.
    Link(Link),
    /// An order.
    Order(ControllerOrder),
}

impl Uplink {
    /// Starts the agent; `wake` is told whenever there is news.
    pub(super) fn start(
        settings: &ControlSettings,
        name: &str,
        incarnation: Incarnation,
        seen: Version,
        wake: SyncSender<Input<Node>>,
    ) -> Result<Self, Error> {
        let failed = || Error::system("start the thread of the controller's line");
        let credentials = Credentials::read(&settings.credentials)?;
        let config = AgentConfig {
            name: name.to_owned(),
            controllers: vec![settings.address],
            credentials: settings.credentials.clone(),
            ..AgentConfig::default()
        };
        let hello = Hello {
            name: name.to_owned(),
            incarnation: incarnation.counter,
            random: incarnation.random,
            seen,
            software: concat!("vpnmesh ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed())?;
        let guard = runtime.enter();
        let agent = Agent::start(config, credentials, hello)?;
        drop(guard);
        let reporter = agent.reporter();
        let (sender, news) = sync_channel(MAX_NEWS);
        let (incarnation, lives) = watch::channel(incarnation);
        let (alive, ended) = oneshot::channel();
        let outlet = Outlet { sender, wake };
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = relay(agent, lives, outlet) => {}
                    _ = ended => {}
                }
            });
        };
        let thread = Builder::new().name("vpnmesh-uplink".into()).spawn(work);
        thread.map_err(failed())?;
        Ok(Self {
            reporter,
            news,
            incarnation,
            _alive: alive,
        })
    }

    /// The next news.
    pub(super) fn poll(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// The node goes by this incarnation from now on.
    pub(super) fn restart_as(&self, incarnation: Incarnation) {
        self.incarnation.send_replace(incarnation);
    }
}

struct Outlet {
    sender: SyncSender<News>,
    wake: SyncSender<Input<Node>>,
}

impl Outlet {
    /// A keeper that takes nothing for long loses orders; the next session brings them again.
    fn send(&self, news: News) {
        if self.sender.try_send(news).is_ok() {
            let _ = self.wake.try_send(Input::Wake); // a full queue wakes the keeper too
        }
    }
}

async fn relay(mut agent: AgentHandle, mut lives: watch::Receiver<Incarnation>, outlet: Outlet) {
    let mut link = agent.link();
    outlet.send(News::Link(link.borrow_and_update().clone()));
    loop {
        tokio::select! {
            order = agent.order() => match order {
                Some(order) => outlet.send(News::Order(order)),
                None => return,
            },
            Ok(()) = link.changed() => {
                let now = link.borrow_and_update().clone();
                outlet.send(News::Link(now));
            }
            Ok(()) = lives.changed() => {
                let life = *lives.borrow_and_update();
                agent.restart_as(life.counter, life.random);
            }
            else => return,
        }
    }
}

const MAX_NEWS: usize = 256;
