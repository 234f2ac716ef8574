//! Who came to a port and was not accepted yet, and the handle that accepts.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::host::Key;
use super::shared::Shared;
use super::stream::TcpStream;

/// Connections of one port before they are accepted; at most `StackConfig::backlog`.
#[derive(Debug, Default)]
pub(super) struct Listener {
    waiting: BTreeSet<Key>, // all of them
    ready: VecDeque<Key>,   // those that stand, oldest first
    pub(super) waker: Option<Waker>,
}

impl Listener {
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A connection began.
    pub(super) fn expect(&mut self, key: Key) {
        self.waiting.insert(key);
    }

    /// A connection stands.
    pub(super) fn offer(&mut self, key: Key) {
        self.ready.push_back(key);
    }

    /// A connection ended before it was accepted.
    pub(super) fn forget(&mut self, key: Key) {
        self.waiting.remove(&key);
        self.ready.retain(|ready| *ready != key);
    }

    /// The oldest connection that stands.
    pub(super) fn take(&mut self) -> Option<Key> {
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        Some(key)
    }

    pub(super) fn into_waiting(self) -> BTreeSet<Key> {
        self.waiting
    }
}

/// Accepts the connections that come to a port of the stack, on all its addresses. Dropping it
/// resets those that were not accepted.
pub struct TcpListener {
    shared: Arc<Shared>,
    local: SocketAddr,
}

impl TcpListener {
    pub(super) fn new(shared: Arc<Shared>, address: IpAddr, port: u16) -> Self {
        Self {
            shared,
            local: SocketAddr::new(address, port),
        }
    }

    /// The first address of the stack, and the port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the next connection, and says who it is. One task at a time: of several that wait,
    /// the last one is woken.
    ///
    /// # Errors
    /// `BrokenPipe` if the member has stopped.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// See [`Self::accept`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let port = self.local.port();
        let accepted = self.shared.visit(|host, _| {
            if let Some(accepted) = host.accept(port) {
                return Poll::Ready(Ok(accepted));
            }
            if let Err(error) = host.check_open() {
                return Poll::Ready(Err(error));
            }
            if let Some(listener) = host.listener(port) {
                listener.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        });
        accepted.map_ok(|(key, flow)| {
            let stream = TcpStream::new(Arc::clone(&self.shared), key, flow);
            (stream, flow.remote)
        })
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let port = self.local.port();
        self.shared
            .visit(|host, now| host.stop_listening(port, now));
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}
