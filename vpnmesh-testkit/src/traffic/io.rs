//! A UDP socket that knows when the kernel received a datagram.
//!
//! The kernel stamps a datagram as it enters the network stack of this namespace, so the figures
//! hold also while this process waits for a processor. (The first few datagrams after the first
//! such socket of the machine was opened are stamped when they are read.)
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::SockAddr;
use vpnmesh_core::Timestamp;

use super::clock::{monotonic, realtime_nanos};

/// A UDP socket with receive timestamps.
#[derive(Debug)]
pub(crate) struct TimedUdp {
    socket: UdpSocket,
}

/// A datagram came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// How much of the buffer it fills.
    pub(crate) len: usize,
    /// Who sent it.
    pub(crate) from: SocketAddr,
    /// When the kernel received it, on the clock of [`monotonic`].
    pub(crate) at: Timestamp,
}

impl TimedUdp {
    /// Binds to `address`; receiving gives up after [`PATIENCE`] so that threads can stop.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open as long as `socket`, and the option is read from `on`,
        // which has the size given.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_TIMESTAMPNS,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket })
    }

    /// The address it is bound to.
    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends one datagram; whether the kernel took it.
    pub(crate) fn send(&self, data: &[u8], to: SocketAddr) -> bool {
        matches!(self.socket.send_to(data, to), Ok(sent) if sent == data.len())
    }

    /// Receives one datagram; `None` if none came within [`PATIENCE`]. Errors that a peer can
    /// cause are also `None`.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Option<Received> {
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut control = Control([0; CONTROL]);
        let mut message = MaybeUninit::<libc::msghdr>::zeroed();
        let mut len = -1;
        // SAFETY: the message points at `part`, `control` and the storage of the address, all of
        // which outlive the call, with their true sizes. A zeroed header is a valid one. The
        // kernel writes a whole address and its length, or the call fails and both are dropped.
        let (message, from) = unsafe {
            SockAddr::try_init(|storage, storage_len| {
                let message = message.assume_init_mut();
                message.msg_name = storage.cast();
                message.msg_namelen = *storage_len;
                message.msg_iov = &raw mut part;
                message.msg_iovlen = 1;
                message.msg_control = control.0.as_mut_ptr().cast();
                message.msg_controllen = CONTROL as _;
                len = libc::recvmsg(self.socket.as_raw_fd(), message, 0);
                if len < 0 {
                    return Err(io::Error::last_os_error());
                }
                *storage_len = message.msg_namelen;
                Ok(*message)
            })
        }
        .ok()?;
        let now = monotonic();
        Some(Received {
            len: usize::try_from(len).ok()?,
            from: from.as_socket()?,
            at: stamp(&message).map_or(now, |stamp| now - age(stamp, realtime_nanos())),
        })
    }
}

/// The time stamp among the control messages of `message`, in calendar nanoseconds.
fn stamp(message: &libc::msghdr) -> Option<u64> {
    // SAFETY: `message` came from a successful recvmsg whose control buffer is still alive; the
    // CMSG macros stay within the length that the kernel wrote.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(found) = header.as_ref() {
            if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_TIMESTAMPNS {
                let time: libc::timespec = libc::CMSG_DATA(header)
                    .cast::<libc::timespec>()
                    .read_unaligned();
                let seconds = u64::try_from(time.tv_sec).ok()?;
                return seconds
                    .checked_mul(1_000_000_000)?
                    .checked_add(u64::try_from(time.tv_nsec).ok()?);
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

/// How long ago `stamp` was; zero where the calendar clock jumped in between.
fn age(stamp: u64, now: u64) -> Duration {
    let age = Duration::from_nanos(now.saturating_sub(stamp));
    if age > OLDEST { Duration::ZERO } else { age }
}

#[repr(align(8))]
struct Control([u8; CONTROL]);

/// How long a receive waits before it gives the thread a chance to stop.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

// Room for one time stamp and its header, and some more.
const CONTROL: usize = 128;
// A datagram that waited longer than this in the socket means that the clock was set.
const OLDEST: Duration = Duration::from_secs(5);
// 1 s of everything that the load sends, many times over.
const RECEIVE_BUFFER: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_arrives_after_it_was_sent_and_before_it_was_read() {
        let a = TimedUdp::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let b = TimedUdp::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let before = monotonic();
        assert!(a.send(b"hello", b.local().unwrap()));
        let mut buffer = [0; 100];
        let received = b.receive(&mut buffer).unwrap();
        assert_eq!(&buffer[..received.len], b"hello");
        assert_eq!(received.from, a.local().unwrap());
        // The two clocks are read one after the other: allow for a step between the readings.
        assert!(received.at + Duration::from_millis(50) >= before);
        assert!(received.at <= monotonic());
    }

    #[test]
    fn a_datagram_that_waited_keeps_the_time_at_which_it_came() {
        let a = TimedUdp::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let b = TimedUdp::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let slack = Duration::from_millis(5); // between readings of the two clocks
        // The kernel starts stamping a moment after the first socket asked for it.
        let kept = (0..200).any(|_| {
            assert!(a.send(b"hello", b.local().unwrap()));
            let sent = monotonic();
            while monotonic() < sent + slack * 2 {
                std::hint::spin_loop();
            }
            b.receive(&mut [0; 100]).unwrap().at < sent + slack
        });
        assert!(kept);
    }

    #[test]
    fn a_clock_that_was_set_gives_no_age() {
        assert_eq!(age(5, 3), Duration::ZERO);
        assert_eq!(age(0, 3_600_000_000_000), Duration::ZERO);
        assert_eq!(age(1_000, 3_000), Duration::from_nanos(2_000));
    }
}
