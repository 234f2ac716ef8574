//! What a client of the mesh does all the time: downloads, requests, heartbeats, datagrams.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::browse::{self, Browser};
use super::control::Measured;
use super::datagrams::{self, Numbered};
use super::download::{self, DownloadState};
use super::heartbeat;
use super::io::TimedUdp;
use super::threads::{Threads, lock};
use super::window::nanos;
use super::{
    ArrivalTotals, ArrivedWindow, Buckets, ConnectionTotals, ConnectionWindow, Connections,
    HeartbeatTotals, HeartbeatWindow, RequestTotals, RequestWindow, Requests, SentWindow, Silence,
    Silences, TrafficError, Window, monotonic,
};

/// How a [`Load`] is set up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoadConfig {
    /// The client's number; each client of a resource has its own.
    pub stream: u32,
    /// The inner address that everything is bound to.
    pub source: IpAddr,
    /// The long downloads.
    pub downloads: Vec<DownloadConfig>,
    /// The web servers; connections go to them in turn. Empty: no requests.
    pub http: Vec<SocketAddr>,
    /// Requests in a second over all connections, 1 to 1000.
    pub http_per_second: u32,
    /// Keep-alive connections, 1 to 64. Too few, and requests wait for each other on a long path.
    pub http_connections: u32,
    /// The echo; `None`: no heartbeats.
    pub heartbeat: Option<SocketAddr>,
    /// Time between heartbeats in ms, 1 to 1000: the resolution of every silence.
    pub heartbeat_every_ms: u32,
    /// Silences from this length on are listed one by one, in ms.
    pub silence_threshold_ms: u32,
    /// Where the numbered datagrams go; `None`: none, in either direction.
    pub datagrams: Option<SocketAddr>,
    /// Numbered datagrams in a second, 1 to 10,000.
    pub datagrams_per_second: u32,
    /// Size of each datagram and heartbeat in bytes, 40 to 1400.
    pub datagram_bytes: usize,
    /// Datagrams, replies and requests remembered. Fewer than an act has makes its window
    /// incomplete; each takes up to 32 bytes.
    pub remember: usize,
}

/// One long download.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DownloadConfig {
    /// The server.
    pub from: SocketAddr,
    /// The seed of the bytes.
    pub seed: u64,
    /// The pace in bit/s.
    pub pace_bps: u64,
    /// Ends after that many bytes; `None`: when the load stops.
    pub length: Option<u64>,
}

/// A client's traffic, running.
#[derive(Debug)]
pub struct Load {
    config: LoadConfig,
    threads: Threads,
    downloads: Vec<Arc<DownloadState>>,
    browser: Arc<Browser>,
    silences: Arc<Mutex<Silences>>,
    numbered: Arc<Numbered>,
}

/// What a client knows of a window.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoadWindow {
    /// TCP connections of downloads and requests.
    pub connections: ConnectionWindow,
    /// Bytes that each download received, in the order of the configuration.
    pub download_bytes: Vec<u64>,
    /// Requests that were due.
    pub http: RequestWindow,
    /// Silences.
    pub heartbeat: HeartbeatWindow,
    /// Datagrams sent to the site.
    pub up: SentWindow,
    /// Datagrams from the site, by their send time.
    pub down: ArrivedWindow,
}

/// What the plot of a client needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoadSeries {
    /// Bytes of all downloads together, per 100 ms.
    pub bytes: Buckets,
    /// Silences from the threshold on.
    pub silences: Vec<Silence>,
    /// Connections that broke and wrong bytes.
    pub connections: ConnectionWindow,
}

/// How it goes now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoadSnapshot {
    /// Rate of all downloads over the last second, in bit/s.
    pub download_bps: u64,
    /// Bytes per 100 ms over the last 4 s, for a small plot.
    pub recent: Buckets,
    /// Requests answered in the last second.
    pub http_per_second: u64,
    /// Median latency of these.
    pub http_p50_ns: Option<u64>,
    /// The last silence from the threshold on.
    pub last_silence: Option<Silence>,
    /// Time since the last reply to a heartbeat.
    pub quiet_ns: u64,
    /// Median round trip of the last second.
    pub rtt_ns: Option<u64>,
    /// The sums until now.
    pub totals: LoadTotals,
}

/// Sums since the start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoadTotals {
    /// TCP connections of downloads and requests.
    pub connections: ConnectionTotals,
    /// The downloads, in the order of the configuration.
    pub downloads: Vec<DownloadTotals>,
    /// Requests.
    pub http: RequestTotals,
    /// Heartbeats.
    pub heartbeat: HeartbeatTotals,
    /// Datagrams sent to the site.
    pub up_sent: u64,
    /// Datagrams from the site.
    pub down: ArrivalTotals,
}

/// What came of a download.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct DownloadTotals {
    /// Bytes received over the present connection.
    pub bytes: u64,
    /// SHA-256 of these, in hexadecimal.
    pub sha256: String,
    /// What the server says it sent, once it ended.
    pub sha256_sent: Option<String>,
    /// It ended with the server's trailer, and both sums and lengths agree.
    pub verified: bool,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            stream: 1,
            source: IpAddr::from([127, 0, 0, 1]),
            downloads: Vec::new(),
            http: Vec::new(),
            http_per_second: 50,
            http_connections: 8,
            heartbeat: None,
            heartbeat_every_ms: 10,
            silence_threshold_ms: 50,
            datagrams: None,
            datagrams_per_second: 200,
            datagram_bytes: 200,
            remember: 1 << 20,
        }
    }
}

impl Load {
    /// Binds and runs until it is dropped or stopped.
    ///
    /// Servers that do not answer yet are tried again; only what is wrong on this side is an
    /// error.
    ///
    /// # Errors
    /// [`TrafficError`] names the address that could not be bound or the thread that could not
    /// be started; nothing runs then.
    pub fn start(config: LoadConfig) -> Result<Self, TrafficError> {
        let bind = |what| {
            let address = SocketAddr::new(config.source, 0);
            TimedUdp::bind(address).map_err(|source| TrafficError::Bind {
                what,
                address,
                source,
            })
        };
        let heart = Arc::new(bind("heartbeat")?);
        let datagrams = Arc::new(bind("datagrams")?);
        let connections = Arc::new(Mutex::new(Connections::default()));
        let states = config.downloads.iter().enumerate();
        let mut load = Self {
            threads: Threads::default(),
            downloads: states
                .map(|(index, it)| Arc::new(DownloadState::new(index, it, connections.clone())))
                .collect(),
            browser: Arc::new(Browser {
                connections,
                requests: Mutex::new(Requests::new(config.remember)),
            }),
            silences: Arc::new(Mutex::new(Silences::new(every(&config), config.remember))),
            numbered: Arc::new(Numbered::new(config.remember)),
            config,
        };
        load.start_tcp()?;
        load.start_udp(heart, datagrams)?;
        Ok(load)
    }

    fn start_tcp(&mut self) -> Result<(), TrafficError> {
        let source = self.config.source;
        for state in &self.downloads {
            let state = state.clone();
            let work = move |stop| download::run(&state, source, &stop);
            self.threads.spawn("download", work)?;
        }
        if self.config.http.is_empty() {
            return Ok(());
        }
        for line in browse::lines(&self.config, monotonic()) {
            let browser = self.browser.clone();
            let work = move |stop| browse::run(&browser, &line, &stop);
            self.threads.spawn("http", work)?;
        }
        Ok(())
    }

    fn start_udp(
        &mut self,
        heart: Arc<TimedUdp>,
        datagrams: Arc<TimedUdp>,
    ) -> Result<(), TrafficError> {
        let (stream, bytes) = (self.config.stream, self.config.datagram_bytes);
        if let Some(to) = self.config.heartbeat {
            let (state, socket, every) =
                (self.silences.clone(), heart.clone(), every(&self.config));
            self.threads.spawn("heartbeat out", move |stop| {
                heartbeat::send(&socket, &state, (stream, to), every, bytes, &stop);
            })?;
            let state = self.silences.clone();
            let work = move |stop| heartbeat::receive(&heart, &state, stream, &stop);
            self.threads.spawn("heartbeat in", work)?;
        }
        if let Some(to) = self.config.datagrams {
            let every = Duration::from_secs(1) / self.config.datagrams_per_second.clamp(1, 10_000);
            let (state, socket) = (self.numbered.clone(), datagrams.clone());
            self.threads.spawn("datagrams out", move |stop| {
                datagrams::send(&socket, &state, (stream, to), every, bytes, &stop);
            })?;
            let state = self.numbered.clone();
            let work = move |stop| datagrams::receive(&datagrams, &state, stream, &stop);
            self.threads.spawn("datagrams in", work)?;
        }
        Ok(())
    }

    fn threshold(&self) -> Duration {
        Duration::from_millis(self.config.silence_threshold_ms.into())
    }

    fn bytes(&self, window: Window) -> Buckets {
        let mut sum = Buckets::default();
        for state in &self.downloads {
            sum.add(&state.window(window));
        }
        sum
    }

    fn totals(&self) -> LoadTotals {
        LoadTotals {
            connections: lock(&self.browser.connections).totals(),
            downloads: self.downloads.iter().map(|state| state.totals()).collect(),
            http: lock(&self.browser.requests).totals(),
            heartbeat: lock(&self.silences).totals(),
            up_sent: lock(&self.numbered.up).next_number(),
            down: lock(&self.numbered.down).totals(),
        }
    }
}

impl Measured for Load {
    type Window = LoadWindow;
    type Series = LoadSeries;
    type Snapshot = LoadSnapshot;
    type Totals = LoadTotals;

    fn window(&self, window: Window) -> LoadWindow {
        let now = monotonic();
        LoadWindow {
            connections: lock(&self.browser.connections).window(window),
            download_bytes: self
                .downloads
                .iter()
                .map(|it| it.window(window).total())
                .collect(),
            http: lock(&self.browser.requests).window(window),
            heartbeat: lock(&self.silences).window(window, self.threshold(), now),
            up: lock(&self.numbered.up).window(window),
            down: lock(&self.numbered.down).window(window, now),
        }
    }

    fn series(&self, window: Window) -> LoadSeries {
        let heartbeat = lock(&self.silences).window(window, self.threshold(), monotonic());
        LoadSeries {
            bytes: self.bytes(window),
            silences: heartbeat.silences,
            connections: lock(&self.browser.connections).window(window),
        }
    }

    fn snapshot(&self) -> LoadSnapshot {
        let now = monotonic();
        let last = |span| Window::new(now - span, now);
        let second = last(Duration::from_secs(1));
        let http = lock(&self.browser.requests).window(second);
        let silences = lock(&self.silences);
        let heartbeat = silences.window(second, Duration::MAX, now);
        let long = silences.window(last(RECENT_SILENCES), self.threshold(), now);
        LoadSnapshot {
            download_bps: self.bytes(second).rate_bps(),
            recent: self.bytes(last(Duration::from_secs(4))),
            http_per_second: http.answered,
            http_p50_ns: http.p50_ns,
            last_silence: long.silences.last().copied(),
            quiet_ns: silences.open(now).map_or(0, |it| nanos(it.span())),
            rtt_ns: heartbeat.rtt_p50_ns,
            totals: {
                drop(silences);
                self.totals()
            },
        }
    }

    fn stop(mut self) -> LoadTotals {
        self.threads.stop();
        self.totals()
    }
}

fn every(config: &LoadConfig) -> Duration {
    Duration::from_millis(config.heartbeat_every_ms.clamp(1, 1000).into())
}

// Long enough that the screen keeps showing a gap, short enough to be cheap.
const RECENT_SILENCES: Duration = Duration::from_secs(60);
