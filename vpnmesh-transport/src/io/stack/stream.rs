//! One connection as a program sees it.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;
use super::flow::Flow;
use super::host::Key;
use super::shared::Shared;

/// A TCP connection of a [`Stack`](super::Stack).
///
/// It lives as long as its ends: it survives whatever the mesh between them survives, and is never
/// given up for silence. Shutting it down ends one direction. Dropping it sends what was written,
/// for 120 s at most, and then the end; if there was more to read, it resets the connection. Errors
/// are `ConnectionReset` if the peer reset it, and `BrokenPipe` if the member has stopped or if its
/// own direction was shut down before.
pub struct TcpStream {
    shared: Arc<Shared>,
    key: Key,
    flow: Flow,
}

impl TcpStream {
    pub(super) fn new(shared: Arc<Shared>, key: Key, flow: Flow) -> Self {
        Self { shared, key, flow }
    }

    /// Waits until the peer agreed.
    pub(super) async fn opened(self) -> io::Result<Self> {
        poll_fn(|cx| self.poll(|connection| connection.poll_open(cx))).await?;
        Ok(self)
    }

    /// The address and port of this side.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.flow.local
    }

    /// The address and port of the peer.
    #[must_use]
    pub const fn peer_addr(&self) -> SocketAddr {
        self.flow.remote
    }

    /// Asks the connection; once the member has stopped, what it would wait for does not come.
    fn poll<R>(
        &self,
        ask: impl FnOnce(&mut Connection) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        self.shared.visit(|host, now| {
            let Some(Poll::Ready(answer)) = host.with(self.key, now, ask) else {
                return match host.check_open() {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(Err(error)),
                };
            };
            Poll::Ready(answer)
        })
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|connection| connection.poll_read(cx, to))
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(from)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|connection| connection.poll_write(cx, from))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing waits to be flushed: what was written leaves as soon as the window allows.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|connection| {
            connection.socket_mut().close();
            Poll::Ready(Ok(()))
        })
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.shared.visit(|host, now| {
            host.with(self.key, now, |connection| connection.abandon(now));
        });
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream")
            .field("local", &self.flow.local)
            .field("peer", &self.flow.remote)
            .finish_non_exhaustive()
    }
}
