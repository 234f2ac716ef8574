//! What stands at a protected site: a web server, long downloads, an echo and datagrams.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::control::Measured;
use super::io::TimedUdp;
use super::serve_http::{self, HttpState};
use super::serve_udp::{self, UdpState};
use super::threads::{Threads, lock};
use super::{
    ArrivalTotals, ArrivedWindow, ConnectionTotals, SentWindow, TrafficError, Window, monotonic,
};

/// How a [`Resource`] is set up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResourceConfig {
    /// Where the web server and the downloads listen; port 0 takes any.
    pub http: SocketAddr,
    /// Where the echo and the numbered datagrams listen; port 0 takes any.
    pub udp: SocketAddr,
    /// Numbered datagrams sent to each client in a second, 1 to 10,000. Few measure coarsely,
    /// many load the processors.
    pub datagrams_per_second: u32,
    /// Size of each of them in bytes, 40 to 1400. Above the inner MTU they are split.
    pub datagram_bytes: usize,
    /// Datagrams remembered per stream and direction. Fewer than an act sends makes its window
    /// incomplete; each takes 32 bytes.
    pub remember: usize,
}

/// A site's servers, running.
#[derive(Debug)]
pub struct Resource {
    threads: Threads,
    http: Arc<HttpState>,
    udp: Arc<Mutex<UdpState>>,
    http_address: SocketAddr,
    udp_address: SocketAddr,
}

/// What a site knows of a window, by the stream (the client's number).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResourceWindow {
    /// Datagrams that came from each client, by their send time.
    pub up: BTreeMap<u32, ArrivedWindow>,
    /// Datagrams that were sent to each client.
    pub down: BTreeMap<u32, SentWindow>,
}

/// What a site counted until now.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ResourceTotals {
    /// Heartbeats turned back.
    pub echoed: u64,
    /// Datagrams from each client.
    pub up: BTreeMap<u32, ArrivalTotals>,
    /// Datagrams sent to each client.
    pub down_sent: BTreeMap<u32, u64>,
    /// TCP connections of clients.
    pub connections: ConnectionTotals,
    /// Requests answered.
    pub answered: u64,
    /// Downloads that ended, rightly or not.
    pub downloads: Vec<DownloadServed>,
    /// Datagrams that were none of ours.
    pub strange: u64,
}

/// A download that ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DownloadServed {
    /// The client.
    pub from: SocketAddr,
    /// The seed of its bytes.
    pub seed: u64,
    /// How many bytes the kernel took.
    pub bytes: u64,
    /// SHA-256 of these, in hexadecimal.
    pub sha256: String,
    /// It ended with its trailer, not with a broken connection.
    pub finished: bool,
}

impl Default for ResourceConfig {
    fn default() -> Self {
        Self {
            http: ([0, 0, 0, 0], 80).into(),
            udp: ([0, 0, 0, 0], 7).into(),
            datagrams_per_second: 200,
            datagram_bytes: 200,
            remember: 1 << 20,
        }
    }
}

impl Resource {
    /// Binds and serves until it is dropped or stopped.
    ///
    /// # Errors
    /// [`TrafficError`] names the address that could not be bound or the thread that could not
    /// be started; nothing runs then.
    pub fn start(config: &ResourceConfig) -> Result<Self, TrafficError> {
        let http = Arc::new(HttpState::default());
        let udp = Arc::new(Mutex::new(UdpState::new(config)));
        let bound = |what, address| {
            move |source| TrafficError::Bind {
                what,
                address,
                source,
            }
        };
        let listener = serve_http::bind(config.http).map_err(bound("http", config.http))?;
        let socket = TimedUdp::bind(config.udp).map_err(bound("udp", config.udp))?;
        let http_address = listener.local_addr().map_err(bound("http", config.http))?;
        let udp_address = socket.local().map_err(bound("udp", config.udp))?;

        let socket = Arc::new(socket);
        let mut threads = Threads::default();
        let state = http.clone();
        threads.spawn("site http", move |stop| {
            serve_http::listen(&listener, &state, &stop)
        })?;
        let (state, half) = (udp.clone(), socket.clone());
        threads.spawn("site udp in", move |stop| {
            serve_udp::receive(&half, &state, &stop)
        })?;
        let (state, config) = (udp.clone(), config.clone());
        threads.spawn("site udp out", move |stop| {
            serve_udp::send(&socket, &state, &config, &stop);
        })?;
        Ok(Self {
            threads,
            http,
            udp,
            http_address,
            udp_address,
        })
    }

    /// Where the web server listens.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where the echo and the datagrams listen.
    #[must_use]
    pub fn udp_address(&self) -> SocketAddr {
        self.udp_address
    }

    fn totals(&self) -> ResourceTotals {
        let mut totals = lock(&self.udp).totals();
        self.http.add_to(&mut totals);
        totals
    }
}

impl Measured for Resource {
    type Window = ResourceWindow;
    type Series = ();
    type Snapshot = ResourceTotals;
    type Totals = ResourceTotals;

    fn window(&self, window: Window) -> ResourceWindow {
        lock(&self.udp).window(window, monotonic())
    }

    fn series(&self, _window: Window) {}

    fn snapshot(&self) -> ResourceTotals {
        self.totals()
    }

    fn stop(mut self) -> ResourceTotals {
        self.threads.stop();
        self.totals()
    }
}
