//! How an orchestrator in another process asks a load or a resource.
//!
//! JSON lines in both directions. A request is `"snapshot"`, `{"window":{"from_ns":1,"to_ns":2}}`,
//! `{"series":{"from_ns":1,"to_ns":2}}` or `"stop"`; the answer is `{"ok":..}` or
//! `{"error":".."}`. After "stop", or when the input ends, the traffic is over.

use std::io::{BufRead, Read, Write};
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{TrafficError, Window};

/// Running traffic that can be asked what it measured.
pub trait Measured {
    /// What is known of a window.
    type Window: Serialize + DeserializeOwned;
    /// What plots need of a window.
    type Series: Serialize + DeserializeOwned;
    /// How it goes now.
    type Snapshot: Serialize + DeserializeOwned;
    /// The final sums.
    type Totals: Serialize + DeserializeOwned;

    /// Everything that was measured in `window`.
    fn window(&self, window: Window) -> Self::Window;

    /// What plots need of `window`, which may be the whole run.
    fn series(&self, window: Window) -> Self::Series;

    /// How it goes now, for the screen.
    fn snapshot(&self) -> Self::Snapshot;

    /// Ends the traffic in good order and gives the final sums.
    fn stop(self) -> Self::Totals;
}

/// What one can ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// [`Measured::window`].
    Window(Window),
    /// [`Measured::series`].
    Series(Window),
    /// [`Measured::snapshot`].
    Snapshot,
    /// [`Measured::stop`].
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer<T> {
    Ok(T),
    Error(String),
}

/// Answers requests until "stop" or the end of `input`; then the traffic is over.
///
/// # Errors
/// [`TrafficError::Channel`] if a line cannot be read or written; the traffic is over then too.
pub fn serve<M: Measured>(
    measured: M,
    mut input: impl BufRead,
    mut output: impl Write,
) -> Result<(), TrafficError> {
    let mut line = String::new();
    loop {
        line.clear();
        let mut bounded = (&mut input).take(MOST_REQUEST);
        let len = bounded
            .read_line(&mut line)
            .map_err(TrafficError::Channel)?;
        if len == 0 {
            measured.stop();
            return Ok(());
        }
        match serde_json::from_str(line.trim_end()) {
            Ok(Request::Window(window)) => say(&mut output, measured.window(window))?,
            Ok(Request::Series(window)) => say(&mut output, measured.series(window))?,
            Ok(Request::Snapshot) => say(&mut output, measured.snapshot())?,
            Ok(Request::Stop) => return say(&mut output, measured.stop()),
            Err(error) => write_line(&mut output, &Answer::<()>::Error(error.to_string()))?,
        }
    }
}

fn say(output: &mut impl Write, value: impl Serialize) -> Result<(), TrafficError> {
    write_line(output, &Answer::Ok(value))
}

fn write_line(output: &mut impl Write, value: &impl Serialize) -> Result<(), TrafficError> {
    let mut line = serde_json::to_vec(value).map_err(|e| TrafficError::Channel(e.into()))?;
    line.push(b'\n');
    let written = output.write_all(&line).and_then(|()| output.flush());
    written.map_err(TrafficError::Channel)
}

/// The orchestrator's end of the channel to one load or resource.
pub struct Peer<M> {
    input: Box<dyn BufRead + Send>,
    output: Box<dyn Write + Send>,
    speaks: PhantomData<fn() -> M>,
}

impl<M> std::fmt::Debug for Peer<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").finish_non_exhaustive()
    }
}

impl<M: Measured> Peer<M> {
    /// Asks through `output` and hears through `input`.
    pub fn new(input: impl BufRead + Send + 'static, output: impl Write + Send + 'static) -> Self {
        Self {
            input: Box::new(input),
            output: Box::new(output),
            speaks: PhantomData,
        }
    }

    /// Everything that was measured in `window`.
    ///
    /// # Errors
    /// As every question: [`TrafficError::Channel`], [`TrafficError::Answer`] or
    /// [`TrafficError::Refused`].
    pub fn window(&mut self, window: Window) -> Result<M::Window, TrafficError> {
        self.ask(Request::Window(window))
    }

    /// What plots need of `window`.
    ///
    /// # Errors
    /// As [`window`](Self::window).
    pub fn series(&mut self, window: Window) -> Result<M::Series, TrafficError> {
        self.ask(Request::Series(window))
    }

    /// How it goes now.
    ///
    /// # Errors
    /// As [`window`](Self::window).
    pub fn snapshot(&mut self) -> Result<M::Snapshot, TrafficError> {
        self.ask(Request::Snapshot)
    }

    /// Ends the traffic and gives the final sums.
    ///
    /// # Errors
    /// As [`window`](Self::window).
    pub fn stop(&mut self) -> Result<M::Totals, TrafficError> {
        self.ask(Request::Stop)
    }

    fn ask<T: DeserializeOwned>(&mut self, request: Request) -> Result<T, TrafficError> {
        write_line(&mut self.output, &request)?;
        let mut line = String::new();
        let mut bounded = (&mut self.input).take(MOST_ANSWER);
        let len = bounded
            .read_line(&mut line)
            .map_err(TrafficError::Channel)?;
        if len == 0 {
            let ended = std::io::ErrorKind::UnexpectedEof.into();
            return Err(TrafficError::Channel(ended));
        }
        match serde_json::from_str(line.trim_end()) {
            Ok(Answer::Ok(value)) => Ok(value),
            Ok(Answer::Error(reason)) => Err(TrafficError::Refused(reason)),
            Err(source) => Err(TrafficError::Answer {
                line: line.chars().take(80).collect(),
                source,
            }),
        }
    }
}

const MOST_REQUEST: u64 = 4096;
// A window of an hour with every arrival in it is about 30 MB.
const MOST_ANSWER: u64 = 1 << 28;

#[cfg(test)]
mod tests {
    use vpnmesh_core::Timestamp;

    use super::*;

    struct Fake;

    impl Measured for Fake {
        type Window = u64;
        type Series = Vec<u64>;
        type Snapshot = String;
        type Totals = u64;

        fn window(&self, window: Window) -> u64 {
            window.to.0 - window.from.0
        }

        fn series(&self, _: Window) -> Vec<u64> {
            vec![1]
        }

        fn snapshot(&self) -> String {
            "fine".into()
        }

        fn stop(self) -> u64 {
            9
        }
    }

    fn converse(input: &str) -> String {
        let mut output = Vec::new();
        serve(Fake, input.as_bytes(), &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn each_request_is_one_line_and_so_is_its_answer() {
        let input =
            "\"snapshot\"\n{\"window\":{\"from_ns\":3,\"to_ns\":10}}\n\"stop\"\n\"snapshot\"\n";
        assert_eq!(
            converse(input),
            "{\"ok\":\"fine\"}\n{\"ok\":7}\n{\"ok\":9}\n"
        );
    }

    #[test]
    fn nonsense_is_refused_and_the_next_request_is_answered() {
        let output = converse("what?\n\"snapshot\"\n");
        let lines: Vec<&str> = output.lines().collect();
        assert!(lines[0].starts_with("{\"error\":"), "{output}");
        assert_eq!(lines[1], "{\"ok\":\"fine\"}");
    }

    #[test]
    fn a_peer_asks_and_understands() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let input = std::io::BufReader::new(theirs.try_clone().unwrap());
            serve(Fake, input, theirs).unwrap();
        });
        let input = std::io::BufReader::new(ours.try_clone().unwrap());
        let mut peer = Peer::<Fake>::new(input, ours);
        let window = Window::new(Timestamp(1), Timestamp(5));
        assert_eq!(peer.snapshot().unwrap(), "fine");
        assert_eq!(peer.window(window).unwrap(), 4);
        assert_eq!(peer.series(window).unwrap(), [1]);
        assert_eq!(peer.stop().unwrap(), 9);
        server.join().unwrap();
    }

    #[test]
    fn the_end_of_the_channel_is_an_error_for_the_peer() {
        let mut peer = Peer::<Fake>::new(&b""[..], std::io::sink());
        assert!(matches!(peer.snapshot(), Err(TrafficError::Channel(_))));
        let mut peer = Peer::<Fake>::new(&b"{\"error\":\"no\"}\n"[..], std::io::sink());
        assert!(matches!(peer.snapshot(), Err(TrafficError::Refused(_))));
        let mut peer = Peer::<Fake>::new(&b"hm\n"[..], std::io::sink());
        assert!(matches!(peer.snapshot(), Err(TrafficError::Answer { .. })));
    }
}
