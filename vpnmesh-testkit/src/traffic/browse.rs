//! The web requests of a client, at an even rate over several keep-alive connections.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vpnmesh_core::Timestamp;

use super::http::{Filled, Inbox, Malformed};
use super::load::LoadConfig;
use super::serve_http::ITEM;
use super::threads::{Stop, lock};
use super::{Connections, Pattern, Requests, monotonic, tcp};

/// What all connections of a client record.
#[derive(Debug)]
pub(crate) struct Browser {
    pub(crate) connections: Arc<Mutex<Connections>>,
    pub(crate) requests: Mutex<Requests>,
}

/// One connection's share of the requests.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    name: String,
    source: IpAddr,
    to: SocketAddr,
    first: Timestamp,
    every: Duration,
    seed: u64,
}

/// The connections that together make the rate: request `i` belongs to connection `i` modulo
/// their number.
pub(crate) fn lines(config: &LoadConfig, start: Timestamp) -> Vec<Line> {
    let count = config.http_connections.clamp(1, 64);
    let every = Duration::from_secs(1) / config.http_per_second.clamp(1, 1000);
    let servers = config.http.iter().cycle();
    let line = |(index, to): (u32, &SocketAddr)| Line {
        name: format!("http {} to {to}", index + 1),
        source: config.source,
        to: *to,
        first: start + every * index,
        every: every * count,
        seed: u64::from(config.stream) << 40 | u64::from(index) << 32,
    };
    (0..count).zip(servers).map(line).collect()
}

/// Requests until told to stop; connects anew where the connection breaks.
pub(crate) fn run(browser: &Browser, line: &Line, stop: &Stop) {
    let mut due = line.first;
    let mut number = line.seed;
    while !stop.is_set() {
        let Ok(mut stream) = tcp::connect(line.source, line.to) else {
            lock(&browser.connections).handle_refused();
            tcp::wait_before_retry();
            due = due.max(monotonic());
            continue;
        };
        lock(&browser.connections).handle_opened();
        let mut inbox = Inbox::default();
        while wait(due, stop) {
            match exchange(&mut stream, &mut inbox, number, stop) {
                Ok(Some(body)) => browser.handle_body(line, number, &body, due),
                Ok(None) => break, // told to stop
                Err(error) => {
                    browser.handle_broken(line, &error, due);
                    break;
                }
            }
            number += 1;
            due += line.every;
        }
        due = due.max(monotonic());
    }
}

impl Browser {
    fn handle_body(&self, line: &Line, number: u64, body: &[u8], due: Timestamp) {
        let now = monotonic();
        let wrong = Pattern::new(number).wrong(0, body);
        if wrong == 0 {
            lock(&self.requests).handle_answer(due, now);
            return;
        }
        lock(&self.requests).handle_failure(due, now);
        let what = format!("{wrong} bytes of item {number}");
        lock(&self.connections).handle_wrong(&line.name, what, wrong, now);
    }

    fn handle_broken(&self, line: &Line, error: &io::Error, due: Timestamp) {
        let now = monotonic();
        lock(&self.requests).handle_failure(due, now);
        lock(&self.connections).handle_broken(&line.name, error.to_string(), now);
    }
}

/// Waits until `due`; false if it is time to stop.
fn wait(due: Timestamp, stop: &Stop) -> bool {
    loop {
        if stop.is_set() {
            return false;
        }
        let left = due.since(monotonic());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(STEP));
    }
}

/// Asks for item `number` and awaits all of it; `None` if told to stop meanwhile.
fn exchange(
    stream: &mut TcpStream,
    inbox: &mut Inbox,
    number: u64,
    stop: &Stop,
) -> io::Result<Option<Vec<u8>>> {
    let request = format!("GET /item/{number} HTTP/1.1\r\nhost: site\r\n\r\n");
    tcp::write(stream, request.as_bytes(), &Stop::default())?;
    let sent = monotonic();
    let mut headed = false;
    while !stop.is_set() {
        if !headed && let Some(head) = inbox.head().map_err(invalid)? {
            let length = head.field("content-length").and_then(|it| it.parse().ok());
            if !head.first.starts_with("HTTP/1.1 200 ") || length != Some(ITEM) {
                return Err(invalid(Malformed("not an item")));
            }
            headed = true;
        }
        if headed && let Some(body) = inbox.take(ITEM) {
            return Ok(Some(body));
        }
        if inbox.fill(stream)? == Filled::Closed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if tcp::is_stalled(sent, monotonic()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(None)
}

fn invalid(malformed: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, malformed)
}

const STEP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_together_make_an_even_rate() {
        let config = LoadConfig {
            http: vec![([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 80).into()],
            http_per_second: 50,
            http_connections: 4,
            ..LoadConfig::default()
        };
        let lines = lines(&config, Timestamp::ZERO);
        let mut due: Vec<u64> = lines
            .iter()
            .flat_map(|line| (0..5).map(|turn| (line.first + line.every * turn).0 / 1_000_000))
            .collect();
        due.sort_unstable();
        assert_eq!(due, (0..20).map(|i| i * 20).collect::<Vec<_>>());
        assert_eq!(lines[2].to, config.http[0]);
    }
}
