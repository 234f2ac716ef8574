//! One TCP connection: the socket of smoltcp and who waits for it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use tokio::io::ReadBuf;

use super::StackConfig;
use super::flow::{DEFAULT_SEGMENT, Flow};
use super::patience::Patience;

/// A connection of the stack.
pub(super) struct Connection {
    /// The socket alone: so that the stack looks at one connection at a time.
    pub(super) set: SocketSet<'static>,
    handle: SocketHandle,
    pub(super) flow: Flow,
    pub(super) owner: Owner,
    /// Payload that the peer takes in one packet.
    pub(super) segment: usize,
    /// Whether it stands in the queue of those that have something to send.
    pub(super) queued: bool,
    /// When the stack looks at it again if nothing happens before.
    pub(super) timer: Option<Instant>,
    /// An ownerless connection that did not end by then is reset.
    pub(super) gone_at: Option<Instant>,
    /// When the peer's silence means a loss.
    pub(super) patience: Patience,
    ahead: Duration,            // of the socket's time before the stack's; only grows
    next_sequence: Option<u32>, // of the peer, if it sends in order
    singly: u8,                 // packets that are not joined, to come
    state: State,               // as of the last look
    ended: Option<Ended>,
    data_until: Option<Instant>, // the socket's end of TIME-WAIT, which would forget unread data
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// To whom a connection belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// To the listener at a port, until it is accepted.
    Listener(u16),
    /// To a stream.
    Stream,
    /// To nobody any more: it says what is left to say.
    Nobody,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both sides were done.
    Done,
    /// Nobody listens there.
    Refused,
    /// The peer reset it.
    Reset,
    /// The peer did not answer.
    Silent,
}

/// Whose doing a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Packet,
    Time,
    Program,
}

/// What a look at a connection found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Established,
    Ended,
}

impl Connection {
    pub(super) fn new(config: &StackConfig, flow: Flow, owner: Owner) -> Self {
        let buffer = |bytes: usize| SocketBuffer::new(vec![0; bytes]); // untouched pages cost nothing
        let mut socket = Socket::new(buffer(config.receive_buffer), buffer(config.send_buffer));
        socket.set_congestion_control(CongestionControl::Cubic);
        socket.set_nagle_enabled(false); // writes gather in the buffer while the window is full
        socket.set_ack_delay(None); // there is one look, so one acknowledgement, for each batch
        socket.set_timeout(Some(config.patience.into()));
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Self {
            set,
            handle,
            flow,
            owner,
            segment: DEFAULT_SEGMENT,
            queued: false,
            timer: None,
            gone_at: None,
            patience: Patience::new(),
            ahead: Duration::ZERO,
            next_sequence: None,
            singly: 0,
            state: State::Closed,
            ended: None,
            data_until: None,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn socket(&self) -> &Socket<'static> {
        self.set.get(self.handle)
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// The socket's time.
    pub(super) fn time(&self, now: Instant) -> Instant {
        now + self.ahead
    }

    /// The stack's time for a time of the socket.
    pub(super) fn outside(&self, at: Instant) -> Instant {
        if at == Instant::ZERO {
            return at; // "now", whatever time it is
        }
        at - self.ahead
    }

    /// Makes it `due` for the socket, which is about to wait until then for a peer that will not
    /// answer.
    pub(super) fn run_ahead(&mut self, due: Instant, now: Instant) {
        let time = self.time(now);
        if due > time {
            self.ahead += due - time;
        }
    }

    /// Whether a packet with payload is to go in alone, because it does not follow the last one:
    /// each packet behind a gap makes one duplicate acknowledgement, and the peer waits for three.
    pub(super) fn is_astray(&mut self, sequence: u32) -> bool {
        if self.next_sequence.is_some_and(|next| next != sequence) {
            self.singly = DUPLICATES;
        }
        let astray = self.singly > 0;
        self.singly = self.singly.saturating_sub(1);
        astray
    }

    /// A packet went in whose successor begins at `next`.
    pub(super) fn note_sequence(&mut self, next: u32) {
        self.next_sequence = Some(next);
    }

    /// Compares the socket's state with that of the last look.
    pub(super) fn look(&mut self, cause: Cause, now: Instant) -> Option<News> {
        let time = self.time(now);
        let (before, state) = (self.state, self.socket().state());
        self.state = state;
        if before == state {
            return None;
        }
        match state {
            State::Closed => self.note_end(before, cause),
            State::Listen if before == State::SynReceived => self.note_end(before, cause),
            State::TimeWait => {
                self.data_until = Some(time + TIME_WAIT);
                None
            }
            _ if is_opening(before) && !is_opening(state) => {
                self.socket_mut().set_timeout(None); // flows survive whatever the mesh survives
                Some(News::Established)
            }
            _ => None,
        }
    }

    fn note_end(&mut self, before: State, cause: Cause) -> Option<News> {
        let ended = match (before, cause) {
            (State::LastAck | State::TimeWait | State::Closing, _) => Ended::Done,
            (State::SynSent, Cause::Packet) => Ended::Refused,
            (_, Cause::Packet) => Ended::Reset,
            (_, Cause::Time) => Ended::Silent,
            (_, Cause::Program) => Ended::Done,
        };
        self.ended = Some(ended);
        self.patience = Patience::new(); // nothing is repeated any more
        Some(News::Ended)
    }

    /// Moves those who wait and need not wait any longer to `wakes`.
    pub(super) fn collect(&mut self, wakes: &mut Vec<Waker>) {
        let socket = self.socket();
        let opening = is_opening(socket.state()) && self.ended.is_none();
        let readable = socket.can_recv() || !socket.may_recv();
        let free = socket.send_capacity() - socket.send_queue();
        let writable = free >= socket.send_capacity() / WORTH_A_WAKE || !socket.may_send();
        if !opening && readable {
            wakes.extend(self.reader.take());
        }
        if !opening && writable {
            wakes.extend(self.writer.take());
        }
    }

    /// Moves everybody who waits to `wakes`.
    pub(super) fn collect_all(&mut self, wakes: &mut Vec<Waker>) {
        wakes.extend(self.reader.take());
        wakes.extend(self.writer.take());
    }

    /// Whether the socket has nothing left to do and nobody will ask it for anything.
    /// `busy`: it has something to send now.
    pub(super) fn is_over(&self, busy: bool) -> bool {
        if self.owner == Owner::Stream {
            return false;
        }
        let socket = self.socket();
        match socket.state() {
            State::Closed => socket.remote_endpoint().is_none(), // else a reset has to leave
            State::Listen => true,
            State::TimeWait => self.owner == Owner::Nobody && !busy,
            _ => false,
        }
    }

    /// Whether the socket must not see that time has passed, as it would forget what was not read.
    pub(super) fn keeps_data(&self, now: Instant) -> bool {
        let time = self.time(now);
        let over = self.state == State::TimeWait && self.data_until.is_some_and(|at| at <= time);
        over && self.owner == Owner::Stream && self.socket().can_recv()
    }

    /// Whether the connection stands. What a dialer waits for.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.ended {
            Some(ended) => Poll::Ready(Err(error(ended))),
            None if is_opening(self.socket().state()) => {
                // A connection that opens can be written.
                self.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        let mut copy = |from: &mut [u8]| {
            let len = from.len().min(to.remaining());
            to.put_slice(&from[..len]);
            (len, ())
        };
        let socket = self.socket_mut();
        // The second call takes what lies at the other end of the ring.
        let read = socket.recv(&mut copy);
        if socket.can_recv() {
            let _ = socket.recv(&mut copy); // that of the first call is the outcome
        }
        if to.filled().len() > before || to.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match (read, self.ended) {
            (Ok(()), None) => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            (Err(RecvError::Finished), _) | (_, None | Some(Ended::Done)) => Poll::Ready(Ok(())),
            (_, Some(ended)) => Poll::Ready(Err(error(ended))),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted: usize = from.iter().map(|part| part.len()).sum();
        let socket = self.socket_mut();
        let mut written = 0;
        for part in from {
            match socket.send_slice(part) {
                Ok(taken) => written += taken,
                Err(_) => return Poll::Ready(Err(self.write_error())),
            }
        }
        if written == 0 && wanted > 0 {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(written))
    }

    fn write_error(&self) -> io::Error {
        match self.ended {
            Some(ended @ (Ended::Reset | Ended::Silent)) => error(ended),
            Some(Ended::Done | Ended::Refused) | None => io::ErrorKind::BrokenPipe.into(),
        }
    }

    /// The stream is gone: what was written still goes out, unless there was more to read.
    pub(super) fn abandon(&mut self, now: Instant) {
        self.owner = Owner::Nobody;
        (self.reader, self.writer) = (None, None);
        self.gone_at = Some(now + ALONE);
        let opening = is_opening(self.socket().state());
        let socket = self.socket_mut();
        if opening || socket.can_recv() {
            socket.abort();
        } else {
            socket.close();
        }
    }
}

/// Whether the peers have not agreed yet.
const fn is_opening(state: State) -> bool {
    matches!(state, State::Listen | State::SynSent | State::SynReceived)
}

fn error(ended: Ended) -> io::Error {
    match ended {
        Ended::Done => io::ErrorKind::NotConnected,
        Ended::Refused => io::ErrorKind::ConnectionRefused,
        Ended::Reset => io::ErrorKind::ConnectionReset,
        Ended::Silent => io::ErrorKind::TimedOut,
    }
    .into()
}

/// Duplicate acknowledgements that start a retransmission. RFC 5681, section 3.2.
const DUPLICATES: u8 = 3;
/// A writer waits until one part in so many of its buffer is free: else each acknowledgement would
/// wake it for a few bytes. Taste.
const WORTH_A_WAKE: usize = 4;
/// After so long in TIME-WAIT smoltcp empties a socket.
const TIME_WAIT: Duration = Duration::from_secs(10);
/// How long a connection without an owner tries to send the rest: more than the longest gap that a
/// mesh is built to heal.
const ALONE: Duration = Duration::from_secs(120);
