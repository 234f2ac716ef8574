//! Sends a queue of datagrams with as few system calls as the kernel allows.
//!
//! Datagrams to one peer of equal size and class are one message that the kernel segments
//! (`UDP_SEGMENT`), whether a machine put them into one buffer or each into its own; up to
//! [`MESSAGES`] messages go out in one `sendmmsg`. A class of zero is not mentioned: the socket's own
//! holds. Payloads are read where they lie. The send call of quinn-udp is not used: it switches segmentation off for good after
//! the first `EINVAL`, which one bad peer address is enough to cause.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use socket2::SockAddr;

use crate::TrafficClass;
use crate::machine::Transmit;

/// The memory of one `sendmmsg`, allocated once.
pub(super) struct Sender {
    runs: Vec<Run>,              // at most `MESSAGES`
    parts: Vec<libc::iovec>,     // at most `PARTS`
    names: Vec<SockAddr>,        // one per run
    controls: Vec<Control>,      // one per run
    headers: Vec<libc::mmsghdr>, // one per run
    segments: bool,              // whether the kernel segments at all
    maps_v4: bool,               // a dual-stack socket: IPv4 peers are written `::ffff:a.b.c.d`
}

// SAFETY: the pointers in `parts` and `headers` are written and read within one call of `send`.
unsafe impl Send for Sender {}

/// Transmits at the head of the queue that form one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) transmits: usize,
    bytes: usize,
    size: usize, // of every datagram but the last, which may be smaller
    class: TrafficClass,
}

impl Run {
    /// Whether the kernel has to cut it.
    pub(super) const fn is_segmented(&self) -> bool {
        self.size < self.bytes
    }

    /// Whether its class is not the socket's own.
    const fn is_classed(&self) -> bool {
        self.class.0 != 0
    }
}

/// Control messages as `CMSG_DATA` and `CMSG_NXTHDR` would lay them out. A message needs the first,
/// the second, both, or none.
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    /// "Cut this into datagrams of so many bytes."
    segment: Part,
    /// "Give them all this traffic class."
    class: Part,
}

/// One control message.
#[repr(C)]
#[derive(Clone, Copy)]
struct Part {
    header: libc::cmsghdr,
    value: [u8; mem::size_of::<usize>()], // padded as the kernel pads
}

impl Sender {
    pub(super) fn new(segments: bool, maps_v4: bool) -> Self {
        Self {
            runs: Vec::with_capacity(MESSAGES),
            parts: Vec::with_capacity(PARTS),
            names: Vec::with_capacity(MESSAGES),
            controls: Vec::with_capacity(MESSAGES),
            headers: Vec::with_capacity(MESSAGES),
            segments,
            maps_v4,
        }
    }

    /// Whether runs are segmented by the kernel.
    pub(super) fn segments(&self) -> bool {
        self.segments
    }

    /// The device below cannot do it: every datagram is its own message from now on.
    pub(super) fn stop_segmenting(&mut self) {
        self.segments = false;
    }

    /// Sends from the head of `queue`, which is not empty, and leaves it untouched.
    ///
    /// Says how many transmits the kernel took. An error concerns the first message. Without
    /// `segmented` the head must be single datagrams.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        queue: &VecDeque<Transmit>,
        segmented: bool,
    ) -> Result<usize, (io::Error, Run)> {
        self.plan(queue, segmented && self.segments);
        self.lay_out(queue);
        // SAFETY: `headers` holds `len` initialised messages; their names, parts and controls live
        // in `self` and the payloads in `queue`, both borrowed until the call returns. The kernel
        // reads them only.
        let taken = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        match usize::try_from(taken) {
            Ok(taken) => Ok(self.runs[..taken].iter().map(|run| run.transmits).sum()),
            Err(_) => Err((io::Error::last_os_error(), self.runs[0])),
        }
    }

    fn plan(&mut self, queue: &VecDeque<Transmit>, segmented: bool) {
        self.runs.clear();
        let mut at = 0;
        while at < queue.len() && self.runs.len() < MESSAGES {
            let most = if segmented {
                SEGMENTS.min(PARTS - at)
            } else {
                1
            };
            if at >= PARTS {
                break;
            }
            let run = first_run(queue.range(at..), most);
            if run.is_segmented() && !segmented {
                break; // it is taken apart when it is the head
            }
            at += run.transmits;
            self.runs.push(run);
        }
    }

    fn lay_out(&mut self, queue: &VecDeque<Transmit>) {
        self.parts.clear();
        self.names.clear();
        self.controls.clear();
        self.headers.clear();
        let mut rest = queue.iter();
        for run in &self.runs {
            let run_of = rest.by_ref().take(run.transmits);
            for (n, transmit) in run_of.enumerate() {
                if n == 0 {
                    self.names.push(self::name(transmit.to, self.maps_v4));
                    self.controls.push(Control::new(run, transmit.to));
                }
                self.parts.push(libc::iovec {
                    iov_base: transmit.payload.as_ptr().cast_mut().cast(),
                    iov_len: transmit.payload.len(),
                });
            }
        }
        let mut part = 0;
        for (n, run) in self.runs.iter().enumerate() {
            // SAFETY: all fields of `msghdr` are integers and pointers, for which zero is valid.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            let message = &mut header.msg_hdr;
            message.msg_name = self.names[n].as_ptr().cast_mut().cast();
            message.msg_namelen = self.names[n].len();
            message.msg_iov = self.parts[part..part + run.transmits].as_mut_ptr();
            message.msg_iovlen = run.transmits as _;
            let control = &mut self.controls[n];
            let (from, len): (*mut libc::c_void, usize) =
                match (run.is_segmented(), run.is_classed()) {
                    (false, false) => (ptr::null_mut(), 0),
                    (true, false) => ((&raw mut control.segment).cast(), mem::size_of::<Part>()),
                    (false, true) => ((&raw mut control.class).cast(), mem::size_of::<Part>()),
                    (true, true) => ((&raw mut *control).cast(), mem::size_of::<Control>()),
                };
            message.msg_control = from;
            message.msg_controllen = len as _;
            part += run.transmits;
            self.headers.push(header);
        }
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("segments", &self.segments)
            .finish_non_exhaustive()
    }
}

impl Control {
    fn new(run: &Run, to: SocketAddr) -> Self {
        let class = libc::c_int::from(run.class.0);
        let (level, kind) = if to.ip().to_canonical().is_ipv4() {
            (libc::IPPROTO_IP, libc::IP_TOS)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
        };
        Self {
            segment: Part::new(
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (run.size as u16).to_ne_bytes(),
            ),
            class: Part::new(level, kind, class.to_ne_bytes()),
        }
    }
}

impl Part {
    fn new<const N: usize>(level: libc::c_int, kind: libc::c_int, bytes: [u8; N]) -> Self {
        // SAFETY: `cmsghdr` is integers, for which zero is valid.
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        header.cmsg_len = (mem::offset_of!(Self, value) + N) as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        let mut value = [0; mem::size_of::<usize>()];
        value[..N].copy_from_slice(&bytes);
        Self { header, value }
    }
}

/// The longest run at the head: one peer, one class, one size, only the last may be smaller.
fn first_run<'a>(mut queue: impl Iterator<Item = &'a Transmit>, most: usize) -> Run {
    let Some(first) = queue.next() else {
        return Run {
            transmits: 0,
            bytes: 0,
            size: 0,
            class: TrafficClass(0),
        };
    };
    let (size, class) = (first.segment, first.class);
    let (mut transmits, mut bytes) = (1, first.payload.len());
    if size == 0 || size < bytes {
        return Run {
            transmits,
            bytes,
            size,
            class,
        };
    }
    for next in queue.take(most.saturating_sub(1)) {
        let len = next.payload.len();
        let alike = next.to == first.to && next.class == class;
        if !alike || len > size || len == 0 || bytes + len > RUN_BYTES {
            break;
        }
        transmits += 1;
        bytes += len;
        if len < size {
            break;
        }
    }
    Run {
        transmits,
        bytes,
        size,
        class,
    }
}

fn name(to: SocketAddr, maps_v4: bool) -> SockAddr {
    match to {
        SocketAddr::V4(v4) if maps_v4 => {
            SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => to.into(),
    }
}

/// Messages in one `sendmmsg`.
const MESSAGES: usize = 32;
/// Datagrams in one message: `UDP_MAX_SEGMENTS` of kernels before 6.7.
const SEGMENTS: usize = 64;
/// Datagrams in one `sendmmsg`: bounds how much is laid out again if the socket is full. Taste.
const PARTS: usize = 512;
/// Bytes in one message: the largest UDP payload over IPv4.
const RUN_BYTES: usize = 65_507;

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(sizes: &[(u16, usize)]) -> VecDeque<Transmit> {
        sizes
            .iter()
            .map(|&(port, len)| {
                Transmit::one(SocketAddr::from(([127, 0, 0, 1], port)), vec![0; len])
            })
            .collect()
    }

    fn runs(sizes: &[(u16, usize)]) -> Vec<usize> {
        let mut sender = Sender::new(true, false);
        sender.plan(&queue(sizes), true);
        sender.runs.iter().map(|run| run.transmits).collect()
    }

    #[test]
    fn a_run_is_one_peer_and_one_size_with_a_smaller_end() {
        assert_eq!(
            runs(&[(1, 9), (1, 9), (1, 4), (1, 4), (2, 4), (2, 5)]),
            [3, 1, 1, 1]
        );
    }

    #[test]
    fn a_run_has_one_class() {
        let mut marked = queue(&[(1, 9); 5]);
        marked[2].class = TrafficClass(0b11);
        let mut sender = Sender::new(true, false);
        sender.plan(&marked, true);
        let runs: Vec<_> = sender.runs.iter().map(|run| run.transmits).collect();
        assert_eq!(runs, [2, 1, 2]);
    }

    #[test]
    fn empty_datagrams_travel_alone() {
        assert_eq!(runs(&[(1, 0), (1, 0), (1, 3), (1, 0)]), [1, 1, 1, 1]);
    }

    #[test]
    fn a_run_ends_at_the_limits_of_the_kernel() {
        assert_eq!(runs(&[(1, 10); 70]), [64, 6]);
        assert_eq!(runs(&[(1, 1400); 60]), [46, 14]);
        assert_eq!(runs(&[(1, 10); 600]), [64; 8]);
        let peers: Vec<_> = (1..=40).map(|port| (port, 10)).collect();
        assert_eq!(runs(&peers), [1; MESSAGES]);
    }
}
