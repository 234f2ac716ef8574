//! The state of a stack between its tasks and the packet thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use smoltcp::time::Instant;

use super::alarm::Alarm;
use super::host::Host;
use super::instant;
use crate::io::Clock;
use crate::io::packet::PacketBatch;

/// Locked once for each batch of packets and for each call of a task, for microseconds.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    alarm: Alarm,
}

#[derive(Debug)]
struct State {
    host: Host,
    signalled: bool, // the alarm will show, or shows, that there is something to send
    armed: Option<Instant>, // the time that is set at the alarm
}

impl Shared {
    pub(super) fn new(host: Host) -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(State {
                host,
                signalled: false,
                armed: None,
            }),
            alarm: Alarm::new()?,
        })
    }

    /// Does something with the state, and wakes whom it concerns: the packet thread and tasks.
    pub(super) fn visit<R>(&self, work: impl FnOnce(&mut Host, Instant) -> R) -> R {
        let now = instant(Clock.now());
        // What runs under the lock panics at most for our own bugs, and others may go on then.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut state.host, now);
        let wakes = state.host.take_wakes();
        let signal = state.host.is_busy() && !state.signalled;
        state.signalled |= signal;
        self.arm(&mut state, now);
        drop(state);
        if signal {
            self.alarm.signal();
        }
        wakes.into_iter().for_each(Waker::wake);
        result
    }

    /// The packet thread takes what there is to send.
    pub(super) fn fill(&self, batch: &mut PacketBatch) -> usize {
        self.visit(|host, now| host.fill(batch, now))
    }

    /// Once nothing is left to send, the alarm is silent again.
    pub(super) fn rest(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.host.is_busy() {
            state.signalled = false;
            self.alarm.clear();
        }
    }

    /// Keeps the alarm at the first time that matters, or before.
    fn arm(&self, state: &mut State, now: Instant) {
        let next = state.host.next_time();
        let spent = state.armed.is_some_and(|armed| armed <= now);
        let earlier = match (next, state.armed) {
            (Some(next), Some(armed)) => next < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if spent || earlier {
            self.alarm.set(next);
            state.armed = next;
        }
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }
}
