//! A long download of a client: one connection for the whole run, every byte checked at once.

use std::io;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use vpnmesh_core::Timestamp;

use super::chunks::ChunkDecoder;
use super::http::{Filled, Head, Inbox};
use super::load::{DownloadConfig, DownloadTotals};
use super::serve_http::hexadecimal;
use super::threads::{Stop, lock};
use super::{Buckets, ByteSeries, Connections, Pattern, Window, monotonic, tcp};

/// What a client knows of one download.
#[derive(Debug)]
pub(crate) struct DownloadState {
    name: String,
    config: DownloadConfig,
    connections: Arc<Mutex<Connections>>,
    record: Mutex<Record>,
}

#[derive(Debug)]
struct Record {
    series: ByteSeries,
    bytes: u64, // over the present connection
    hash: Sha256,
    ended: Option<(String, u64)>, // what the server says it sent
}

impl DownloadState {
    /// Nothing received yet.
    pub(crate) fn new(
        index: usize,
        config: &DownloadConfig,
        connections: Arc<Mutex<Connections>>,
    ) -> Self {
        Self {
            name: format!("download {} from {}", index + 1, config.from),
            config: config.clone(),
            connections,
            record: Mutex::new(Record {
                series: ByteSeries::new(BUCKET, BUCKETS),
                bytes: 0,
                hash: Sha256::new(),
                ended: None,
            }),
        }
    }

    /// Bytes per bucket of `window`.
    pub(crate) fn window(&self, window: Window) -> Buckets {
        lock(&self.record).series.window(window, monotonic())
    }

    /// What came of it until now.
    pub(crate) fn totals(&self) -> DownloadTotals {
        let record = lock(&self.record);
        let sha256 = hexadecimal(&record.hash.clone().finalize());
        let verified = record.ended.as_ref() == Some(&(sha256.clone(), record.bytes));
        DownloadTotals {
            bytes: record.bytes,
            sha256,
            sha256_sent: record.ended.as_ref().map(|(sum, _)| sum.clone()),
            verified,
        }
    }

    fn handle_opened(&self) {
        lock(&self.connections).handle_opened();
        let mut record = lock(&self.record);
        (record.bytes, record.hash, record.ended) = (0, Sha256::new(), None);
    }

    fn handle_bytes(&self, data: &[u8], now: Timestamp) {
        let mut record = lock(&self.record);
        let offset = record.bytes;
        record.bytes += data.len() as u64;
        record.hash.update(data);
        record.series.handle_bytes(data.len() as u64, now);
        drop(record);
        let wrong = Pattern::new(self.config.seed).wrong(offset, data);
        if wrong > 0 {
            let what = format!("{wrong} of {} bytes from {offset} on", data.len());
            lock(&self.connections).handle_wrong(&self.name, what, wrong, now);
        }
    }

    /// The server ended the download with `trailer`.
    fn handle_end(&self, trailer: &Head) {
        let sum = trailer.field("x-sha256").unwrap_or_default().to_owned();
        let length = trailer.field("x-length").and_then(|it| it.parse().ok());
        lock(&self.record).ended = Some((sum, length.unwrap_or(0)));
        let totals = self.totals();
        if !totals.verified {
            let what = format!("sha-256 is {}, not as sent", totals.sha256);
            lock(&self.connections).handle_wrong(&self.name, what, 1, monotonic());
        }
    }
}

/// Downloads until the end or until told to stop; begins anew where the connection breaks.
pub(crate) fn run(state: &DownloadState, source: IpAddr, stop: &Stop) {
    while !stop.is_set() {
        let Ok(mut stream) = tcp::connect(source, state.config.from) else {
            lock(&state.connections).handle_refused();
            tcp::wait_before_retry();
            continue;
        };
        state.handle_opened();
        match receive(state, &mut stream, stop) {
            Ok(()) => return,
            Err(error) => {
                let mut connections = lock(&state.connections);
                connections.handle_broken(&state.name, error.to_string(), monotonic());
                drop(connections);
                tcp::wait_before_retry();
            }
        }
    }
}

fn receive(state: &DownloadState, stream: &mut TcpStream, stop: &Stop) -> io::Result<()> {
    tcp::write(stream, request(&state.config).as_bytes(), &Stop::default())?;
    let mut inbox = Inbox::default();
    let mut body: Option<ChunkDecoder> = None;
    let mut heard = monotonic();
    let mut stopping: Option<Timestamp> = None;
    loop {
        let filled = inbox.fill(stream)?;
        let now = monotonic();
        match filled {
            Filled::Some => heard = now,
            Filled::Idle => {}
            Filled::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        if body.is_none()
            && let Some(head) = inbox.head().map_err(invalid)?
        {
            check(&head)?;
            body = Some(ChunkDecoder::default());
        }
        if let Some(body) = &mut body {
            let data = inbox.take_all();
            let end = body.decode(&data, |part| state.handle_bytes(part, now));
            if let Some(trailer) = end.map_err(invalid)? {
                state.handle_end(&trailer);
                return Ok(());
            }
        }
        if stop.is_set() && stopping.is_none() {
            stream.shutdown(Shutdown::Write)?; // the server answers with its trailer
            stopping = Some(now);
        }
        let too_late = stopping.is_some_and(|since| now.since(since) > LAST_PATIENCE);
        if too_late || tcp::is_stalled(heard, now) {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

fn request(config: &DownloadConfig) -> String {
    let DownloadConfig {
        from,
        seed,
        pace_bps,
        length,
    } = config;
    let length = length.map_or(String::new(), |length| format!("&length={length}"));
    format!(
        "GET /download?seed={seed}&pace_bps={pace_bps}{length} HTTP/1.1\r\nhost: {from}\r\n\r\n"
    )
}

fn check(head: &Head) -> io::Result<()> {
    let chunked = head.field("transfer-encoding") == Some("chunked");
    if head.first.starts_with("HTTP/1.1 200 ") && chunked {
        Ok(())
    } else {
        Err(invalid(super::http::Malformed("not a download")))
    }
}

fn invalid(malformed: super::http::Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, malformed)
}

const BUCKET: Duration = Duration::from_millis(100);
// Two hours.
const BUCKETS: usize = 72_000;
// How long the trailer may take, through a slow path with a full queue.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
