//! What wakes the packet thread for the stack: a word from a task, or a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use smoltcp::time::Instant;

use crate::io::wake::Wake;

/// One descriptor that is readable while a signal was not cleared, or after the time that was set.
#[derive(Debug)]
pub(super) struct Alarm {
    wake: Wake,
    timer: OwnedFd,
    both: OwnedFd,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let wake = Wake::new()?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let both = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&both, &wake, EventData::new_u64(0), EventFlags::IN)?;
        epoll::add(&both, &timer, EventData::new_u64(1), EventFlags::IN)?;
        Ok(Self { wake, timer, both })
    }

    pub(super) fn signal(&self) {
        self.wake.signal();
    }

    pub(super) fn clear(&self) {
        self.wake.clear();
    }

    /// Sets the time, on the dataplane's clock; `None` for never. What was set before is void.
    pub(super) fn set(&self, at: Option<Instant>) {
        let micros = at.map_or(0, |at| at.total_micros().max(1)); // zero would disarm
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: micros / MICROS,
                tv_nsec: micros % MICROS * 1000,
            },
        };
        // The one failure is a time that is no time, and this is one.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }
}

const MICROS: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::super::instant;
    use super::*;
    use crate::io::Clock;

    fn readable(alarm: &Alarm, patience: i64) -> bool {
        let patience = Timespec {
            tv_sec: patience,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(alarm, PollFlags::IN)], Some(&patience)).unwrap() > 0
    }

    #[test]
    fn a_signal_and_a_time_make_it_readable_until_they_are_taken_back() {
        let alarm = Alarm::new().unwrap();
        assert!(!readable(&alarm, 0));
        alarm.signal();
        assert!(readable(&alarm, 0));
        alarm.clear();
        assert!(!readable(&alarm, 0));

        alarm.set(Some(instant(Clock.now())));
        assert!(readable(&alarm, 20));
        alarm.set(None);
        assert!(!readable(&alarm, 0));
    }
}
