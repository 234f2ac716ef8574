//! Counters of one driver: plain numbers on the packet thread, published once a turn.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What a driver did so far. Every field only grows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct IoCounters {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl IoCounters {
            /// All counters: name, what it says, value.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc),*).trim_ascii(), self.$name),)*].into_iter()
            }
        }

        /// The published counters of a running driver, readable from any thread.
        #[derive(Debug, Default)]
        pub struct IoStats {
            $($name: AtomicU64,)*
        }

        impl IoStats {
            /// The counters as of the driver's last turn.
            #[must_use]
            pub fn snapshot(&self) -> IoCounters {
                IoCounters { $($name: self.$name.load(Relaxed),)* }
            }

            /// Only the packet thread writes, so plain stores do.
            pub(super) fn publish(&self, now: &IoCounters) {
                $(self.$name.store(now.$name, Relaxed);)*
            }
        }
    };
}

counters! {
    /// Datagrams received.
    rx_datagrams,
    /// Bytes of UDP payload received.
    rx_bytes,
    /// Receive calls that brought something.
    rx_batches,
    /// Receive calls that failed; the socket lives on.
    rx_errors,
    /// Datagrams handed to the kernel.
    tx_datagrams,
    /// Bytes of UDP payload handed to the kernel.
    tx_bytes,
    /// Send calls that took something.
    tx_batches,
    /// Times that the socket's send buffer was full and the driver waited.
    tx_waits,
    /// Datagrams dropped because the driver's send queue was full.
    tx_dropped_queue_full,
    /// Datagrams larger than the path carries (`EMSGSIZE`).
    tx_dropped_too_big,
    /// Datagrams that the peer's host refused (`ECONNREFUSED`).
    tx_dropped_refused,
    /// Datagrams that the device queue had no room for (`ENOBUFS`).
    tx_dropped_no_buffers,
    /// Datagrams to an address that cannot be reached from here.
    tx_dropped_unreachable,
    /// Datagrams that the kernel refused for another reason.
    tx_dropped_other,
    /// Runs of datagrams that the kernel would not segment; they were sent one by one.
    tx_unsegmented,
    /// Inner packets read from the local packet I/O.
    inner_rx_packets,
    /// Bytes of these.
    inner_rx_bytes,
    /// Inner packets written to the local packet I/O.
    inner_tx_packets,
    /// Bytes of these.
    inner_tx_bytes,
    /// Inner packets dropped because the local side was full.
    inner_tx_dropped_full,
    /// Inner packets that the local side refused: not IP, or the interface is down.
    inner_tx_dropped_invalid,
    /// Inner packets dropped because there is no local packet I/O.
    inner_tx_dropped_absent,
    /// Commands handled.
    commands,
    /// Events dropped because nobody took them out.
    events_dropped,
    /// Timeouts handled.
    timeouts,
    /// Timeouts put off because the socket still held datagrams that came before.
    timeouts_deferred,
    /// Turns of the loop; each is one call that waits.
    turns,
    /// System calls on the socket and the device, and those that wait.
    system_calls,
}
