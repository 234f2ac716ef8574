//! TCP connections of a client, from an address of its choice.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use vpnmesh_core::Timestamp;

use super::http::is_idle;
use super::monotonic;
use super::threads::Stop;

/// Connects from `source`; reads and writes then give up after [`PATIENCE`] so that threads can
/// stop.
pub(crate) fn connect(source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&to.into(), CONNECT_PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Writes all of `data`, which is small, or gives up after [`STALLED`].
pub(crate) fn write(stream: &mut TcpStream, mut data: &[u8], stop: &Stop) -> io::Result<()> {
    let start = monotonic();
    while !data.is_empty() {
        match stream.write(data) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => data = &data[len..],
            Err(error) if is_idle(&error) => {}
            Err(error) => return Err(error),
        }
        if stop.is_set() || is_stalled(start, monotonic()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

/// Whether a connection that was last heard of at `last` counts as broken.
pub(crate) fn is_stalled(last: Timestamp, now: Timestamp) -> bool {
    now.since(last) > STALLED
}

/// Waits a little before the next attempt.
pub(crate) fn wait_before_retry() {
    std::thread::sleep(RETRY);
}

/// A connection without any progress for this long is broken, whatever the kernel thinks.
pub(crate) const STALLED: Duration = Duration::from_secs(60);

const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_millis(200);
