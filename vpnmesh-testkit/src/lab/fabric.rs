//! The handle of the emulator: change and read links while packets flow.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{ClockId, clock_gettime};

use super::counters::{Counters, Lateness, UplinkCounters};
use super::device::Tun;
use super::emulator::{Emulator, Request};
use super::error::Error;
use super::network::LinkId;
use crate::link::Link;

/// The network between the hosts. Clones are handles of the same one, for any thread.
///
/// A packet crosses the uplink of its sender, the path to its receiver and the downlink of its
/// receiver; each is a [`Link`] of its own, perfect at first. Changes hold for every packet that
/// is sent after the call returned; a cut also drops what is under way. Calls return within
/// microseconds and may be made from asynchronous code.
#[derive(Debug, Clone)]
pub struct Fabric {
    requests: mpsc::Sender<Request>,
    bell: Arc<OwnedFd>,
    /// Numbers of the hosts by name; at most as many as the network takes.
    names: Arc<RwLock<BTreeMap<String, usize>>>,
}

impl Fabric {
    /// Starts the emulator's thread.
    pub(super) fn start(seed: u64) -> io::Result<(Self, JoinHandle<()>)> {
        let bell = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (requests, inbox) = mpsc::channel(); // as many as threads that wait in `ask`
        let heard = Arc::clone(&bell);
        let thread = std::thread::Builder::new().name("lab-fabric".into());
        let thread = thread.spawn(move || Emulator::new(seed).run(&inbox, &heard))?;
        let names = Arc::default();
        Ok((
            Self {
                requests,
                bell,
                names,
            },
            thread,
        ))
    }

    /// Sets the path from one host to another; the way back stays.
    ///
    /// # Errors
    /// [`Error::UnknownHost`], [`Error::Closed`]; so for all methods here.
    pub fn set(&self, from: &str, to: &str, link: Link) -> Result<(), Error> {
        let path = self.path(from, to)?;
        self.ask(move |emulator| emulator.network().set_link(path, link))
    }

    /// Sets the path between two hosts, both ways.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_both(&self, a: &str, b: &str, link: Link) -> Result<(), Error> {
        self.set(a, b, link)?;
        self.set(b, a, link)
    }

    /// The settings of the path from one host to another.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn link(&self, from: &str, to: &str) -> Result<Link, Error> {
        let path = self.path(from, to)?;
        self.ask(move |emulator| emulator.network().link(path))
    }

    /// Changes single settings of the path from one host to another.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn adjust(
        &self,
        from: &str,
        to: &str,
        change: impl FnOnce(&mut Link) + Send + 'static,
    ) -> Result<(), Error> {
        let path = self.path(from, to)?;
        self.ask(move |emulator| adjust(emulator, path, change))
    }

    /// Sets both directions of a host's uplink.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_uplink(&self, host: &str, up: Link, down: Link) -> Result<(), Error> {
        let host = self.number(host)?;
        self.ask(move |emulator| {
            emulator.network().set_link(LinkId::Up(host), up);
            emulator.network().set_link(LinkId::Down(host), down);
        })
    }

    /// The settings of a host's uplink: up, down.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn uplink(&self, host: &str) -> Result<(Link, Link), Error> {
        let host = self.number(host)?;
        self.ask(move |emulator| {
            let network = emulator.network();
            (
                network.link(LinkId::Up(host)),
                network.link(LinkId::Down(host)),
            )
        })
    }

    /// Changes single settings of both directions of a host's uplink.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn adjust_uplink(
        &self,
        host: &str,
        change: impl Fn(&mut Link) + Send + 'static,
    ) -> Result<(), Error> {
        let host = self.number(host)?;
        self.ask(move |emulator| {
            adjust(emulator, LinkId::Up(host), &change);
            adjust(emulator, LinkId::Down(host), &change);
        })
    }

    /// Cuts the path between two hosts, both ways, or mends it; other settings stay.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn cut(&self, a: &str, b: &str, cut: bool) -> Result<(), Error> {
        self.adjust(a, b, move |link| link.cut = cut)?;
        self.adjust(b, a, move |link| link.cut = cut)
    }

    /// Cuts a host off from everyone, or connects it again.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn cut_host(&self, host: &str, cut: bool) -> Result<(), Error> {
        self.adjust_uplink(host, move |link| link.cut = cut)
    }

    /// What the path from one host to another did so far.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn counters(&self, from: &str, to: &str) -> Result<Counters, Error> {
        let path = self.path(from, to)?;
        self.ask(move |emulator| emulator.network().counters(path))
    }

    /// What the uplink of a host did so far.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn uplink_counters(&self, host: &str) -> Result<UplinkCounters, Error> {
        let host = self.number(host)?;
        self.ask(move |emulator| emulator.network().uplink_counters(host))
    }

    /// How punctually packets left the emulator since the last call with `forget`.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn lateness(&self, forget: bool) -> Result<Lateness, Error> {
        self.ask(move |emulator| {
            let lateness = *emulator.network().lateness();
            if forget {
                emulator.network().forget_lateness();
            }
            lateness
        })
    }

    /// The CPU time the emulator's thread has used. Near the wall time it is saturated, and its
    /// delays are no longer the links' alone.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn cpu_time(&self) -> Result<Duration, Error> {
        self.ask(|_| {
            let used = clock_gettime(ClockId::ThreadCPUTime);
            Duration::try_from(used).expect("CPU time is not negative")
        })
    }

    pub(super) fn add_host(&self, name: &str, uplink: Tun, address: IpAddr) -> Result<(), Error> {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let number = names.len();
        if !self.ask(move |emulator| emulator.add_host(uplink, address))? {
            return Err(Error::Full);
        }
        names.insert(name.to_owned(), number);
        Ok(())
    }

    pub(super) fn add_address(&self, host: &str, address: IpAddr) -> Result<(), Error> {
        let host = self.number(host)?;
        let added = self.ask(move |emulator| emulator.network().add_address(address, host))?;
        if added { Ok(()) } else { Err(Error::Full) }
    }

    pub(super) fn remove_address(&self, address: IpAddr) -> Result<(), Error> {
        self.ask(move |emulator| emulator.network().remove_address(address))
    }

    pub(super) fn has_address(&self, address: IpAddr) -> Result<bool, Error> {
        self.ask(move |emulator| emulator.network().has_address(address))
    }

    pub(super) fn stop(&self) {
        let _stopped_already = self.ask(Emulator::stop);
    }

    fn path(&self, from: &str, to: &str) -> Result<LinkId, Error> {
        Ok(LinkId::Path(self.number(from)?, self.number(to)?))
    }

    fn number(&self, host: &str) -> Result<usize, Error> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(host).copied().ok_or_else(|| Error::UnknownHost {
            name: host.to_owned(),
        })
    }

    /// Has the emulator's thread do `work` between two packets.
    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Emulator) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = mpsc::sync_channel(1);
        let request: Request = Box::new(move |emulator| {
            let _asker_gone = reply.send(work(emulator));
        });
        self.requests.send(request).map_err(|_| Error::Closed)?;
        let _already_ringing = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        answer.recv().map_err(|_| Error::Closed)
    }
}

fn adjust(emulator: &mut Emulator, id: LinkId, change: impl FnOnce(&mut Link)) {
    let mut link = emulator.network().link(id);
    change(&mut link);
    emulator.network().set_link(id, link);
}
