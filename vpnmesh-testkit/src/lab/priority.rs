//! Priorities: the emulator must wake up on time on a busy machine, its hosts must not profit.
//!
//! Everything here is best effort. An unprivileged process may only ask for short time slices
//! (Linux 6.12); a higher priority takes root or a limit set by the administrator.

use rustix::process::{Resource, Rlimit, getpriority_process, setpriority_process};

/// The priority the process had before it was raised for the emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Priority(i32);

impl Priority {
    /// Raises the calling thread. Must come before a user namespace is entered, where the right to
    /// it ends; threads started afterwards inherit it.
    pub(super) fn raise() -> Self {
        let all = Rlimit {
            current: Some(40), // nice -20
            maximum: Some(40),
        };
        let before = Self(getpriority_process(None).unwrap_or(0));
        let _only_root_may = rustix::process::setrlimit(Resource::Nice, all);
        let _so_for_this = setpriority_process(None, RAISED);
        before
    }

    /// Puts the calling thread back.
    pub(super) fn restore(self) {
        let _lowering_is_always_allowed = setpriority_process(None, self.0);
    }
}

/// Asks for wake-ups on time for the calling thread: exact timers, short slices, and a higher
/// priority where limits allow it.
pub(super) fn wake_on_time() {
    let exact = std::num::NonZeroU64::new(1);
    let _coarser_timers = rustix::thread::set_current_timer_slack(exact);
    let _normal_priority = setpriority_process(None, RAISED);
    short_slices();
}

/// Slices of 100 µs: under EEVDF a thread with short slices runs soon after it wakes up.
#[allow(unsafe_code)]
fn short_slices() {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: getpriority_process(None).unwrap_or(0),
        sched_priority: 0,
        sched_runtime: 100_000, // the least the kernel takes
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the call reads `size` bytes of the structure, which is the kernel's and
    // outlives the call.
    let _older_kernel =
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// As audio servers ask for, above everything ordinary.
const RAISED: i32 = -15;
