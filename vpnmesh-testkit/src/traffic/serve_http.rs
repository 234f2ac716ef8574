//! The site's web server: small answers, and downloads that last as long as one likes.
//!
//! - `GET /item/N`: [`ITEM`] bytes of the pattern of seed N.
//! - `GET /download?seed=S&pace_bps=P&length=L`: the first L bytes of the pattern of seed S at P
//!   bit/s, chunked. Without a length it goes on until the client closes its sending half. The
//!   trailer says `x-sha256` and `x-length` of what was sent.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};
use sha2::{Digest, Sha256};
use vpnmesh_core::Bandwidth;

use super::chunks::encode_chunk;
use super::http::{Filled, Inbox, is_idle};
use super::pace::Pace;
use super::resource::{DownloadServed, ResourceTotals};
use super::threads::{Stop, Threads, lock};
use super::{Connections, Pattern, monotonic};

/// What the web server counted.
#[derive(Debug, Default)]
pub(crate) struct HttpState {
    connections: Mutex<Connections>,
    downloads: Mutex<VecDeque<DownloadServed>>, // at most DOWNLOADS; the oldest go first
    answered: AtomicU64,
    alive: AtomicU64, // connections now; at most CONNECTIONS
}

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask {
    Item(u64),
    Download {
        seed: u64,
        pace: Bandwidth,
        length: u64,
    },
    Unknown,
}

/// How a connection ended, seen from here.
type Ending = io::Result<()>;

impl HttpState {
    /// Adds what was counted to `totals`.
    pub(crate) fn add_to(&self, totals: &mut ResourceTotals) {
        totals.connections = lock(&self.connections).totals();
        totals.downloads = lock(&self.downloads).iter().cloned().collect();
        totals.answered = self.answered.load(Ordering::Relaxed);
    }

    fn handle_download(&self, served: DownloadServed) {
        let mut downloads = lock(&self.downloads);
        if downloads.len() == DOWNLOADS {
            downloads.pop_front();
        }
        downloads.push_back(served);
    }
}

/// Listens on `address`.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Accepts until told to stop, then waits for its connections.
pub(crate) fn listen(listener: &TcpListener, state: &Arc<HttpState>, stop: &Stop) {
    let mut threads = Threads::default();
    while !stop.is_set() {
        let mut wait = [PollFd::new(listener, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        let _ = poll(&mut wait, Some(&patience)); // an error is seen again by accept
        let Ok((stream, from)) = listener.accept() else {
            continue;
        };
        threads.forget_finished();
        if state.alive.load(Ordering::Relaxed) >= CONNECTIONS {
            lock(&state.connections).handle_refused();
            continue;
        }
        state.alive.fetch_add(1, Ordering::Relaxed);
        let (served, stop) = (state.clone(), stop.clone());
        let spawned = threads.spawn("site connection", move |_| {
            connection(&served, stream, from, &stop);
            served.alive.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            state.alive.fetch_sub(1, Ordering::Relaxed); // no thread to be had; the stream is gone
        }
    }
}

fn connection(state: &HttpState, mut stream: TcpStream, from: SocketAddr, stop: &Stop) {
    lock(&state.connections).handle_opened();
    if let Err(error) = converse(state, &mut stream, from, stop) {
        let mut connections = lock(&state.connections);
        connections.handle_broken(&from.to_string(), error.to_string(), monotonic());
    }
}

/// Answers requests until the client closes.
fn converse(state: &HttpState, stream: &mut TcpStream, from: SocketAddr, stop: &Stop) -> Ending {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut inbox = Inbox::default();
    while !stop.is_set() {
        match inbox.head() {
            Ok(Some(head)) => match parse(&head.first) {
                Ask::Item(number) => {
                    write(stream, &item(number), stop)?;
                    state.answered.fetch_add(1, Ordering::Relaxed);
                }
                Ask::Download { seed, pace, length } => {
                    let mut download = Download::new(from, seed);
                    let ending = download.run(stream, pace, length, stop);
                    state.handle_download(download.served(ending.is_ok()));
                    return ending;
                }
                Ask::Unknown => write(stream, NOT_FOUND, stop)?,
            },
            Ok(None) => match inbox.fill(stream)? {
                Filled::Some | Filled::Idle => {}
                Filled::Closed => return Ok(()),
            },
            Err(malformed) => {
                write(stream, BAD_REQUEST, stop)?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, malformed));
            }
        }
    }
    Ok(())
}

/// A download under way.
struct Download {
    from: SocketAddr,
    seed: u64,
    sent: u64,
    hash: Sha256,
}

impl Download {
    fn new(from: SocketAddr, seed: u64) -> Self {
        Self {
            from,
            seed,
            sent: 0,
            hash: Sha256::new(),
        }
    }

    fn run(&mut self, stream: &mut TcpStream, pace: Bandwidth, length: u64, stop: &Stop) -> Ending {
        write(stream, DOWNLOAD_HEAD, stop)?;
        let pattern = Pattern::new(self.seed);
        let mut pace = Pace::new(pace, monotonic());
        let mut slice = vec![0; SLICE];
        let mut chunk = Vec::with_capacity(SLICE + 16);
        while self.sent < length && !stop.is_set() && !half_closed(stream)? {
            let left = usize::try_from(length - self.sent).unwrap_or(usize::MAX);
            let part = pace.allow(left.min(SLICE), monotonic());
            if part > 0 {
                pattern.fill(self.sent, &mut slice[..part]);
                self.hash.update(&slice[..part]);
                self.sent += part as u64;
                chunk.clear();
                encode_chunk(&slice[..part], &mut chunk);
                write(stream, &chunk, stop)?;
            }
            std::thread::sleep(TICK);
        }
        let end = format!(
            "0\r\nx-sha256: {}\r\nx-length: {}\r\n\r\n",
            self.digest(),
            self.sent
        );
        write(stream, end.as_bytes(), stop)
    }

    fn digest(&self) -> String {
        hexadecimal(&self.hash.clone().finalize())
    }

    fn served(&self, finished: bool) -> DownloadServed {
        DownloadServed {
            from: self.from,
            seed: self.seed,
            bytes: self.sent,
            sha256: self.digest(),
            finished,
        }
    }
}

/// Whether the client will send no more.
fn half_closed(stream: &TcpStream) -> io::Result<bool> {
    let mut byte = [0_u8; 1];
    match recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((len, _)) => Ok(len == 0),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes all of `data`, however long the path is silent; after a stop, for [`LAST_PATIENCE`].
fn write(stream: &mut TcpStream, mut data: &[u8], stop: &Stop) -> io::Result<()> {
    let mut stopped_at = None;
    while !data.is_empty() {
        match stream.write(data) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => data = &data[len..],
            Err(error) if is_idle(&error) => {}
            Err(error) => return Err(error),
        }
        let now = monotonic();
        if stop.is_set() && now.since(*stopped_at.get_or_insert(now)) > LAST_PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

fn parse(request: &str) -> Ask {
    let mut words = request.split(' ');
    let (Some("GET"), Some(target)) = (words.next(), words.next()) else {
        return Ask::Unknown;
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if let Some(number) = path.strip_prefix("/item/") {
        return number.parse().map_or(Ask::Unknown, Ask::Item);
    }
    if path != "/download" {
        return Ask::Unknown;
    }
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = |name: &str, default: u64| {
        let found = pairs.clone().find(|(key, _)| *key == name);
        found.map_or(Some(default), |(_, value)| value.parse().ok())
    };
    match (
        value("seed", 0),
        value("pace_bps", DEFAULT_PACE_BPS),
        value("length", u64::MAX),
    ) {
        (Some(seed), Some(pace), Some(length)) => Ask::Download {
            seed,
            pace: Bandwidth(pace),
            length,
        },
        _ => Ask::Unknown,
    }
}

fn item(number: u64) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {ITEM}\r\n\r\n").into_bytes();
    let mut body = [0; ITEM];
    Pattern::new(number).fill(0, &mut body);
    answer.extend_from_slice(&body);
    answer
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Length of a small answer: a usual API reply.
pub(crate) const ITEM: usize = 512;

const DOWNLOAD_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
    trailer: x-sha256, x-length\r\nconnection: close\r\n\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const DEFAULT_PACE_BPS: u64 = 8_000_000;
// One slice per tick: smooth enough for a plot in 100 ms buckets.
const TICK: Duration = Duration::from_millis(10);
const SLICE: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_millis(100);
const LAST_PATIENCE: Duration = Duration::from_secs(5);
const CONNECTIONS: u64 = 128;
const DOWNLOADS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_asked_for_by_seed_pace_and_length() {
        assert_eq!(
            parse("GET /download?seed=3&pace_bps=80&length=9 HTTP/1.1"),
            Ask::Download {
                seed: 3,
                pace: Bandwidth(80),
                length: 9
            }
        );
        assert_eq!(parse("GET /item/17 HTTP/1.1"), Ask::Item(17));
        for bad in [
            "",
            "POST /item/1 HTTP/1.1",
            "GET /item/x",
            "GET /download?seed=-1 H",
        ] {
            assert_eq!(parse(bad), Ask::Unknown, "{bad}");
        }
    }
}
