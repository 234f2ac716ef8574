//! Entering fresh user, network and mount namespaces, with or without root.

use std::fs;
use std::io;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use super::device::{Tun, loopback_up};
use super::priority::Priority;
use super::refusal::{REFUSED_EXIT_CODE, Refusal, probe_report, status_field};

/// Proof that the process is inside namespaces of its own; a [`Lab`](super::Lab) needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inside {
    user_namespace: bool,
    priority: Priority,
}

impl Inside {
    /// Whether there is a user namespace of our own too; else the process is root outside as well.
    #[must_use]
    pub const fn has_user_namespace(self) -> bool {
        self.user_namespace
    }

    /// The priority of everything but the emulator.
    pub(super) const fn priority(self) -> Priority {
        self.priority
    }
}

/// Moves this process into fresh user, network and mount namespaces, where it is root.
///
/// Call it first thing in `main`: the kernel refuses a process that has threads. Loopback is up
/// afterwards and TUN devices are known to work. There is no way back out. Where root allows it,
/// the calling thread keeps a high priority until it calls [`Lab::new`](super::Lab::new).
///
/// # Errors
/// [`Refusal`] says what forbids it and what would allow it; end the process then.
pub fn enter() -> Result<Inside, Refusal> {
    if status_field("Threads").is_some_and(|threads| threads != "1") {
        return Err(Refusal::Threads);
    }
    let priority = Priority::raise();
    let user_namespace = leave_namespaces().inspect_err(|_| priority.restore())?;
    // Mounts made in the lab stay in the lab.
    let propagation = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    match mount_change("/", propagation) {
        // In a chroot the root is no mount, so there is nothing to make private.
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(Refusal::of_namespaces(error.raw_os_error())),
    }
    loopback_up().map_err(|error| Refusal::of_namespaces(errno(&error)))?;
    Tun::create("probe0").map_err(|error| Refusal::of_tun(errno(&error)))?;
    Ok(Inside {
        user_namespace,
        priority,
    })
}

/// [`enter`], or print why not and exit with [`REFUSED_EXIT_CODE`].
#[must_use]
pub fn enter_or_exit(what: &str) -> Inside {
    enter().unwrap_or_else(|refusal| {
        eprintln!("LEFT OUT: {what}: {refusal}");
        eprintln!("to allow it: {}", refusal.remedy());
        eprintln!("{}", probe_report());
        std::process::exit(REFUSED_EXIT_CODE);
    })
}

/// Whether a user namespace came with the other two.
fn leave_namespaces() -> Result<bool, Refusal> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let refused = |error: rustix::io::Errno| Refusal::of_namespaces(error.raw_os_error());
    match unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWNS) {
        Ok(()) => {
            let mapped = map_root(uid.as_raw(), gid.as_raw());
            mapped.map_err(|error| Refusal::of_namespaces(errno(&error)))?;
            Ok(true)
        }
        // Root needs no user namespace for the other two.
        Err(error) if uid.is_root() => {
            unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS).map_err(|_| refused(error))?;
            Ok(false)
        }
        Err(error) => Err(refused(error)),
    }
}

/// Maps ourselves, and nobody else, to root inside.
fn map_root(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Moves the calling thread into fresh namespaces.
#[allow(unsafe_code)]
pub(super) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: only namespaces change. The descriptor table stays shared, which is what the call
    // could break.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
