//! A host: a network namespace of its own, whose only way out is its uplink.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use vpnmesh_core::Prefix;

use super::child::{Child, Spawner};
use super::device::{Tun, loopback_up};
use super::enter::unshare;
use super::error::Error;
use super::netlink;

/// The name of a host's uplink device.
pub const UPLINK: &str = "wan0";

/// The MTU of uplinks: that of the Internet.
pub const UPLINK_MTU: u32 = 1500;

/// A host of the lab. Clones are handles of the same host.
///
/// It has loopback and the uplink `wan0`, over which the default route goes. No other host shares
/// a wire with it; every packet goes through the lab's [`Fabric`](super::Fabric).
#[derive(Debug, Clone)]
pub struct Host {
    name: Arc<str>,
    address: IpAddr,
    namespace: Arc<OwnedFd>,
    spawner: Arc<Spawner>,
}

impl Host {
    /// Builds the namespace; the uplink goes to whoever emulates the network.
    pub(super) fn build(
        name: &str,
        address: IpAddr,
        spawner: Arc<Spawner>,
    ) -> Result<(Self, Tun), Error> {
        let failed = |(step, source)| Error::Build {
            host: name.to_owned(),
            step,
            source,
        };
        let built = on_own_thread(|| build_here(address));
        let (namespace, uplink) = built.map_err(failed)?;
        let host = Self {
            name: name.into(),
            address,
            namespace: Arc::new(namespace),
            spawner,
        };
        Ok((host, uplink))
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address it was built with.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Starts a program on this host. It dies with this process, and when its handle is dropped.
    ///
    /// # Errors
    /// [`Error::Spawn`] if the program does not start.
    pub fn spawn(&self, command: Command) -> Result<Child, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let started = self.spawner.spawn(command, Arc::clone(&self.namespace));
        started.map_err(|source| Error::Spawn {
            host: self.name.to_string(),
            program,
            source,
        })
    }

    /// Runs `work` on a thread inside this host and hands back its result. Sockets and devices
    /// made there belong to the host for good, whichever thread uses them later.
    ///
    /// # Errors
    /// The kernel's, if the thread cannot start or cannot move.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_own_thread(|| {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.namespace.as_fd(), network)
                .map_err(|error| ("enter the namespace", error.into()))?;
            Ok(work())
        })
        .map_err(|(_, error)| error)
    }

    pub(super) fn add_address(&self, address: IpAddr) -> Result<(), Error> {
        let added = self.run(|| {
            if address.is_ipv6() {
                // It was off as long as the host had no such address.
                let _never_off = std::fs::write(IPV6_OFF_ON_UPLINK, "0");
            }
            let uplink = netlink::index_of(UPLINK)?;
            netlink::add_address(uplink, address, Prefix::host(address).bits())?;
            netlink::add_route(uplink, everywhere(address))
        });
        self.step("add an address", added)
    }

    pub(super) fn remove_address(&self, address: IpAddr) -> Result<(), Error> {
        let removed = self.run(|| {
            let uplink = netlink::index_of(UPLINK)?;
            netlink::remove_address(uplink, address, Prefix::host(address).bits())
        });
        self.step("remove an address", removed)
    }

    fn step(&self, step: &'static str, done: io::Result<io::Result<()>>) -> Result<(), Error> {
        done.and_then(|done| done).map_err(|source| Error::Build {
            host: self.name.to_string(),
            step,
            source,
        })
    }

    /// Sets a kernel parameter of the host's network, such as `net.ipv4.tcp_congestion_control`.
    ///
    /// # Errors
    /// The kernel's: no such parameter, or it is not per namespace.
    pub fn set_sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        self.run(|| std::fs::write(path, value))?
    }
}

type Step<T> = Result<T, (&'static str, io::Error)>;

fn build_here(address: IpAddr) -> Step<(OwnedFd, Tun)> {
    let named = |step| move |error: io::Error| (step, error);
    unshare(UnshareFlags::NEWNET).map_err(|e| named("make a network namespace")(e.into()))?;
    let namespace = File::open("/proc/thread-self/ns/net").map_err(named("open the namespace"))?;
    for scope in ["all", "default"] {
        // Some distributions check return paths, which roaming and two holders break.
        let path = format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter");
        let _no_such_check = std::fs::write(path, "0");
    }
    if address.is_ipv4() {
        // Without an address of that family its chatter would only disturb the counts.
        let _chatter = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    }
    loopback_up().map_err(named("set loopback up"))?;
    let uplink = Tun::create(UPLINK).map_err(named("create the uplink"))?;
    uplink
        .up(UPLINK_MTU, UPLINK_QUEUE)
        .map_err(named("set the uplink up"))?;
    uplink
        .add_address(address)
        .map_err(named("set the address"))?;
    uplink
        .add_route(everywhere(address))
        .map_err(named("set the default route"))?;
    Ok((namespace.into(), uplink))
}

/// A thread of its own, as a namespace is entered for good.
fn on_own_thread<T: Send>(work: impl FnOnce() -> Step<T> + Send) -> Step<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, work);
        let thread = thread.map_err(|error| ("start a thread", error))?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn everywhere(like: IpAddr) -> Prefix {
    Prefix::new(like, 0).expect("zero bits fit every address")
}

const IPV6_OFF_ON_UPLINK: &str = "/proc/sys/net/ipv6/conf/wan0/disable_ipv6";
/// Packets that wait for the emulator's thread in the kernel: about 10 ms at its full speed.
const UPLINK_QUEUE: u32 = 4096;
