//! Why a machine refuses the lab, and what would allow it.

use std::fmt;
use std::fs;
use std::io;

/// The exit code of a program that could not enter the lab: what test runners read as "skipped".
pub const REFUSED_EXIT_CODE: i32 = 77; // the convention of automake and meson

/// Why the lab cannot be built here. Nothing was changed, save where the process has already left
/// its namespaces: treat it as spent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The program started threads before it entered; a bug of the caller.
    Threads,
    /// The kernel was built without user or network namespaces.
    NoNamespaces,
    /// `kernel.unprivileged_userns_clone` is 0.
    CloneSysctl,
    /// AppArmor takes the rights of unprivileged user namespaces away.
    AppArmor,
    /// `user.max_user_namespaces` or `user.max_net_namespaces` is used up or zero.
    Limit,
    /// A seccomp filter, of a container most likely, forbids it.
    Seccomp,
    /// The kernel says no, and nothing tells why.
    Forbidden(Errno),
    /// The kernel has no TUN driver, or its module is not loaded.
    NoTun,
    /// `/dev/net/tun` is there, but not for us.
    TunForbidden(Errno),
}

/// An error number of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads => {
                f.write_str("the program entered the lab after it had started threads")
            }
            Self::NoNamespaces => f.write_str("this kernel has no user or network namespaces"),
            Self::CloneSysctl => {
                f.write_str("kernel.unprivileged_userns_clone = 0 forbids user namespaces")
            }
            Self::AppArmor => f.write_str("AppArmor restricts unprivileged user namespaces"),
            Self::Limit => f.write_str("no user or network namespace is left"),
            Self::Seccomp => f.write_str("a seccomp filter forbids namespaces"),
            Self::Forbidden(errno) => write!(f, "the kernel forbids namespaces: {errno}"),
            Self::NoTun => f.write_str("this kernel has no TUN driver"),
            Self::TunForbidden(errno) => write!(f, "/dev/net/tun cannot be used: {errno}"),
        }
    }
}

impl Refusal {
    /// What an administrator can do about it, as one line.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Threads => "enter the lab first thing in main, before any runtime or thread",
            Self::NoNamespaces => "run on a kernel with CONFIG_USER_NS=y and CONFIG_NET_NS=y",
            Self::CloneSysctl => "sysctl -w kernel.unprivileged_userns_clone=1, or run as root",
            Self::AppArmor => {
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
            }
            Self::Limit => "sysctl -w user.max_user_namespaces=1000 user.max_net_namespaces=1000",
            Self::Seccomp => {
                "start the container with --security-opt seccomp=unconfined or --privileged"
            }
            Self::Forbidden(_) => {
                "run as root on the host, or in a container started with --privileged"
            }
            Self::NoTun => "modprobe tun; in a container also --device /dev/net/tun",
            Self::TunForbidden(_) => {
                "chmod 0666 /dev/net/tun, or run as root; in a container --device /dev/net/tun"
            }
        }
    }

    /// Whether the kernel lacks the facility, rather than a policy forbidding it.
    #[must_use]
    pub const fn kernel_lacks_it(&self) -> bool {
        matches!(self, Self::NoNamespaces | Self::NoTun)
    }

    /// Why namespaces were refused with `errno`.
    pub(super) fn of_namespaces(errno: i32) -> Self {
        let is = |path: &str, value: &str| read(path).is_some_and(|text| text == value);
        if !fs::exists("/proc/self/ns/user").unwrap_or(true)
            || !fs::exists("/proc/self/ns/net").unwrap_or(true)
            || errno == libc::ENOSYS
        {
            return Self::NoNamespaces;
        }
        if matches!(errno, libc::ENOSPC | libc::EUSERS) || is(MAX_USER, "0") || is(MAX_NET, "0") {
            return Self::Limit;
        }
        if is(CLONE_SYSCTL, "0") {
            return Self::CloneSysctl;
        }
        if is(APPARMOR_SYSCTL, "1") {
            return Self::AppArmor;
        }
        if status_field("Seccomp").is_some_and(|mode| mode == "2") {
            return Self::Seccomp;
        }
        Self::Forbidden(Errno(errno))
    }

    /// Why a TUN device was refused with `errno`.
    pub(super) fn of_tun(errno: i32) -> Self {
        let driver = fs::read_to_string("/proc/misc").is_ok_and(|text| has_tun(&text));
        match errno {
            libc::ENODEV | libc::ENXIO => Self::NoTun,
            libc::ENOENT if !driver => Self::NoTun,
            _ => Self::TunForbidden(Errno(errno)),
        }
    }
}

/// Everything on this machine that decides whether a lab can be built, one `name: value` a line.
///
/// Tests that leave the lab out print it, so that a reader can tell a lack from a bug.
#[must_use]
pub fn probe_report() -> String {
    let mut lines = Vec::new();
    for path in [
        "/proc/sys/kernel/osrelease",
        CLONE_SYSCTL,
        APPARMOR_SYSCTL,
        MAX_USER,
        MAX_NET,
        "/proc/self/uid_map",
    ] {
        let value = read(path).unwrap_or_else(|| "absent".to_owned());
        lines.push(format!("{path}: {value}"));
    }
    for field in ["Uid", "CapEff", "Seccomp", "Threads"] {
        let value = status_field(field).unwrap_or_else(|| "unknown".to_owned());
        lines.push(format!("{field}: {value}"));
    }
    for path in ["/proc/self/ns/user", "/proc/self/ns/net"] {
        lines.push(format!("{path}: {}", there(fs::exists(path))));
    }
    let driver = fs::read_to_string("/proc/misc").map(|text| has_tun(&text));
    lines.push(format!("tun in /proc/misc: {}", there(driver)));
    let tun = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(super::device::TUN_PATH);
    let tun = tun.map_or_else(|error| error.to_string(), |_| "opens".to_owned());
    lines.push(format!("{}: {tun}", super::device::TUN_PATH));
    lines.join("\n")
}

fn there(answer: io::Result<bool>) -> String {
    match answer {
        Ok(true) => "yes".to_owned(),
        Ok(false) => "no".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn has_tun(misc: &str) -> bool {
    misc.lines()
        .any(|line| line.split_whitespace().nth(1) == Some("tun"))
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

pub(super) fn status_field(name: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

const CLONE_SYSCTL: &str = "/proc/sys/kernel/unprivileged_userns_clone";
const APPARMOR_SYSCTL: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
const MAX_USER: &str = "/proc/sys/user/max_user_namespaces";
const MAX_NET: &str = "/proc/sys/user/max_net_namespaces";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_why_and_what_would_allow_it() {
        let all = [
            Refusal::Threads,
            Refusal::NoNamespaces,
            Refusal::CloneSysctl,
            Refusal::AppArmor,
            Refusal::Limit,
            Refusal::Seccomp,
            Refusal::Forbidden(Errno(libc::EPERM)),
            Refusal::NoTun,
            Refusal::TunForbidden(Errno(libc::EACCES)),
        ];
        for refusal in all {
            assert!(!refusal.to_string().is_empty() && !refusal.remedy().is_empty());
            assert!(!refusal.to_string().contains('\n') && !refusal.remedy().contains('\n'));
        }
    }

    #[test]
    fn a_used_up_limit_and_a_missing_call_are_told_apart() {
        assert_eq!(Refusal::of_namespaces(libc::ENOSPC), Refusal::Limit);
        assert!(Refusal::of_namespaces(libc::ENOSYS).kernel_lacks_it());
        assert!(!Refusal::of_tun(libc::EACCES).kernel_lacks_it());
        assert!(Refusal::of_tun(libc::ENODEV).kernel_lacks_it());
    }

    #[test]
    fn the_driver_is_found_by_its_whole_name() {
        assert!(has_tun("235 autofs\n200 tun\n"));
        assert!(!has_tun("235 tunnel\n"));
    }

    #[test]
    fn the_report_names_every_fact() {
        let report = probe_report();
        for fact in ["max_user_namespaces", "CapEff", "Seccomp", "/dev/net/tun"] {
            assert!(report.contains(fact), "{fact} is missing in:\n{report}");
        }
    }
}
