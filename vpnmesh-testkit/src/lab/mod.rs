//! A rootless lab: hosts in namespaces of their own, with an emulated network between them.
//!
//! Every host is a Linux network namespace with real sockets, real TUN devices and real processes.
//! Its only way out is a layer-3 uplink whose other end is the emulator, so no two hosts share a
//! wire, and delay, jitter, loss, rate and cuts come from our own [`LinkModel`](crate::link::LinkModel),
//! whatever the kernel offers. Nothing has to be installed and nobody has to be root.
//!
//! It does not emulate layer 2, and hosts share the file system, the process numbers and the CPU.
//!
//! Start from [`enter()`], first thing in `main`, then [`Lab`]:
//!
//! ```no_run
//! use std::process::Command;
//! use vpnmesh_testkit::lab::{self, Lab, Link};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let inside = lab::enter_or_exit("the demonstration");
//! let lab = Lab::new(inside, 42)?;
//! lab.host("n1", "203.0.113.1".parse()?)?;
//! lab.host("c1", "198.51.100.1".parse()?)?;
//! lab.link("n1", "c1", Link::delay_ms(20).jitter_ms(2).loss(0.01))?;
//! let mut ping = Command::new("ping");
//! let child = lab.spawn("c1", { ping.args(["-c3", "203.0.113.1"]); ping })?;
//! lab.fabric().cut("n1", "c1", true)?;
//! child.wait()?;
//! # Ok(())
//! # }
//! ```

mod child;
mod counters;
pub mod device;
mod emulator;
mod enter;
mod error;
mod fabric;
mod flight;
mod host;
mod netlink;
mod network;
mod pace;
mod pipe;
mod priority;
mod refusal;
mod suite;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

pub use child::Child;
pub use counters::{Counters, Lateness, UplinkCounters};
pub use enter::{Inside, enter, enter_or_exit};
pub use error::Error;
pub use fabric::Fabric;
pub use host::{Host, UPLINK, UPLINK_MTU};
pub use refusal::{Errno, REFUSED_EXIT_CODE, Refusal, probe_report};
pub use suite::{Test, refused, run_suite, tool_is_missing};

pub use crate::link::Link;

use child::Spawner;

/// Hosts and the network between them. Shared by reference between threads.
#[derive(Debug)]
pub struct Lab {
    fabric: Fabric,
    spawner: Arc<Spawner>,
    /// By name; at most as many as the network takes.
    hosts: Mutex<BTreeMap<String, Host>>,
    emulator: Option<JoinHandle<()>>,
}

impl Lab {
    /// An empty lab, whose losses and jitter follow from `seed`.
    ///
    /// # Errors
    /// The kernel's: no thread or no descriptor left.
    pub fn new(inside: Inside, seed: u64) -> io::Result<Self> {
        let (fabric, emulator) = Fabric::start(seed)?;
        inside.priority().restore(); // of this thread, hence of all that it starts from now on
        let spawner = Arc::new(Spawner::start()?);
        Ok(Self {
            fabric,
            spawner,
            hosts: Mutex::default(),
            emulator: Some(emulator),
        })
    }

    /// Adds a host with one address and perfect links to all others.
    ///
    /// # Errors
    /// [`Error::Taken`], [`Error::Full`], or [`Error::Build`] if the kernel refuses a step.
    pub fn host(&self, name: &str, address: IpAddr) -> Result<Host, Error> {
        let mut hosts = self.hosts();
        if hosts.contains_key(name) {
            return Err(Error::Taken {
                what: name.to_owned(),
            });
        }
        self.not_taken(address)?;
        let (host, uplink) = Host::build(name, address, Arc::clone(&self.spawner))?;
        self.fabric.add_host(name, uplink, address)?;
        hosts.insert(name.to_owned(), host.clone());
        Ok(host)
    }

    /// The host of that name.
    ///
    /// # Errors
    /// [`Error::UnknownHost`].
    pub fn find(&self, name: &str) -> Result<Host, Error> {
        self.hosts()
            .get(name)
            .cloned()
            .ok_or_else(|| Error::UnknownHost {
                name: name.to_owned(),
            })
    }

    /// Sets the path between two hosts, both ways.
    ///
    /// # Errors
    /// [`Error::UnknownHost`].
    pub fn link(&self, a: &str, b: &str, link: Link) -> Result<(), Error> {
        self.fabric.set_both(a, b, link)
    }

    /// The network, to change and to read from any thread.
    #[must_use]
    pub const fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// Starts a program on a host. It dies with this process, and when its handle is dropped.
    ///
    /// # Errors
    /// [`Error::UnknownHost`] or [`Error::Spawn`].
    pub fn spawn(&self, host: &str, command: Command) -> Result<Child, Error> {
        self.find(host)?.spawn(command)
    }

    /// Gives a host one more address, of either family.
    ///
    /// # Errors
    /// [`Error::UnknownHost`], [`Error::Taken`], [`Error::Full`] or [`Error::Build`].
    pub fn add_address(&self, host: &str, address: IpAddr) -> Result<(), Error> {
        let found = self.find(host)?;
        self.not_taken(address)?;
        found.add_address(address)?;
        self.fabric.add_address(host, address)
    }

    /// Takes an address from a host; what is sent to it from now on reaches nobody.
    ///
    /// # Errors
    /// [`Error::UnknownHost`], or [`Error::Build`] if the host does not have it.
    pub fn remove_address(&self, host: &str, address: IpAddr) -> Result<(), Error> {
        self.find(host)?.remove_address(address)?;
        self.fabric.remove_address(address)
    }

    fn not_taken(&self, address: IpAddr) -> Result<(), Error> {
        if self.fabric.has_address(address)? {
            return Err(Error::Taken {
                what: address.to_string(),
            });
        }
        Ok(())
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.fabric.stop();
        if let Some(emulator) = self.emulator.take() {
            let _panicked = emulator.join();
        }
    }
}
