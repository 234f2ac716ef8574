//! A point-to-point tunnel: one device, one peer, no mesh.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use vpnmesh_core::{Prefix, PublicKey};
use vpnmesh_keys::IdentityKey;
use vpnmesh_transport::handshake::Refusal;
use vpnmesh_transport::io::{Clock, Driver, DriverHandle, Link, Tun, UdpSocket};
use vpnmesh_transport::tunnel::{
    TunnelCommand, TunnelConfig, TunnelEvent, TunnelMachine, TunnelReport,
};
use vpnmesh_transport::{
    Cipher, Ciphers, CryptoSuite, Entropy, Identity, Incarnation, OsEntropy, Pq, Profile,
};

use super::Output;
use super::json::{self, Fields, fields};
use super::lines::Lines;
use super::run::own_process;
use crate::Error;
use crate::settings::DscpSetting;

/// What a tunnel is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The TUN device: created, or taken if it exists. No address and no route is set.
    pub device: String,
    /// The file of the own key, as `wg genkey` prints it.
    pub key_file: PathBuf,
    /// The own UDP address.
    pub listen: SocketAddr,
    /// The peer.
    pub peer: Peer,
    /// The inner addresses behind the peer; empty allows every one.
    pub allow: Vec<Prefix>,
    /// What is asked for, and the weakest that is served.
    pub suite: Suite,
    /// Whether ML-KEM is asked for, and whether the peer may go without.
    pub pq: PqSetting,
    /// What outer headers tell of the inner packets.
    pub dscp: DscpSetting,
}

/// A peer by key and address: `PUBKEY@IP:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its key.
    pub key: PublicKey,
    /// Where it is.
    pub address: SocketAddr,
}

/// A handshake profile, with one packet cipher if it is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Suite {
    /// ML-KEM-768; AES-256-GCM where the processor has AES, else ChaCha20-Poly1305.
    #[default]
    Standard,
    /// ML-KEM-1024, else as standard.
    High,
    /// ML-KEM-768 and AES-128-GCM.
    Light,
    /// Standard with AES-256-GCM.
    Aes256Gcm,
    /// Standard with ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

/// [`Pq`] as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PqSetting(pub Pq);

impl FromStr for PqSetting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let named = Pq::ALL.into_iter().find(|pq| pq.name() == text);
        let wrong = || Error::invalid("pq", text, "is none of require, prefer, off");
        named.map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for PqSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl FromStr for Peer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::invalid(
                "peer",
                text,
                "is not PUBKEY@IP:PORT with a key of 44 characters as `wg pubkey` prints it",
            )
        };
        let (key, address) = text.split_once('@').ok_or_else(wrong)?;
        Ok(Self {
            key: IdentityKey::public_from_base64(key).map_err(|_| wrong())?,
            address: address.parse().map_err(|_| wrong())?,
        })
    }
}

impl Suite {
    const ALL: [Self; 5] = [
        Self::Standard,
        Self::High,
        Self::Light,
        Self::Aes256Gcm,
        Self::ChaCha20Poly1305,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::High => "high",
            Self::Light => "light",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    fn profile(self) -> Profile {
        match self {
            Self::Standard | Self::Aes256Gcm | Self::ChaCha20Poly1305 => Profile::Standard,
            Self::High => Profile::High,
            Self::Light => Profile::Light,
        }
    }

    fn ciphers(self) -> Ciphers {
        match self {
            Self::Standard | Self::High | Self::Light => Ciphers::of_this_machine(),
            Self::Aes256Gcm => Ciphers::of(&[Cipher::Aes256Gcm]),
            Self::ChaCha20Poly1305 => Ciphers::of(&[Cipher::ChaCha20Poly1305]),
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let named = Self::ALL.into_iter().find(|suite| suite.name() == text);
        named.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid("suite", text, format!("is none of {names}"))
        })
    }
}

/// Runs a tunnel until SIGTERM or SIGINT. Prints `ready` on standard output after the handshake,
/// or with [`Output::JsonLines`] an object for each event and a report every second.
///
/// # Errors
/// [`Error`] names the key file, the port or the device, and the way out.
pub fn run(settings: &Settings, output: Output) -> Result<(), Error> {
    let ended = own_process()?;
    let driver = start(settings)?;
    let mut lines = Lines::new(io::stdout(), "tunnel", &settings.device);
    let mut report_at = Clock.now();
    while !ended.load(Ordering::Acquire) {
        match driver.events().recv_timeout(POLL) {
            Ok(event) => tell(&event, output, &mut lines),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                driver.stop()?;
                return Err(Error::Stopped { role: "tunnel" });
            }
        }
        if let Some(fault) = driver.inner_fault() {
            let problem = format!("ended ({fault}); start the tunnel anew");
            return Err(Error::invalid("device", &settings.device, problem));
        }
        if output == Output::JsonLines && Clock.now() >= report_at {
            report_at = Clock.now() + REPORT_EVERY;
            let _ = driver.command(TunnelCommand::Report); // the next one may fit
        }
    }
    driver.stop()?;
    Ok(())
}

fn start(settings: &Settings) -> Result<DriverHandle<TunnelMachine>, Error> {
    let machine = machine(settings, false)?;
    let udp = UdpSocket::bind(settings.listen)?;
    let tun = open(&settings.device)?;
    Ok(Driver::spawn(machine, udp, Some(Box::new(tun)))?)
}

/// One end of a tunnel that dials at once, with or without exported secrets.
pub(super) fn machine(settings: &Settings, exports: bool) -> Result<TunnelMachine, Error> {
    let suite = CryptoSuite::preferred();
    let key = IdentityKey::read(&settings.key_file)?;
    if key.public() == settings.peer.key {
        let problem = "holds the peer's own key; each end needs a key of its own";
        return Err(Error::invalid(
            "key file",
            settings.key_file.display(),
            problem,
        ));
    }
    let mut entropy = OsEntropy::new()?;
    let mut random = [0; 16];
    entropy.fill(&mut random);
    let config = TunnelConfig {
        suite,
        identity: Identity::from_secret(&suite, key.secret().duplicate()),
        incarnation: Incarnation {
            counter: clock(),
            random,
        },
        entropy: Box::new(entropy),
        profile: settings.suite.profile(),
        pq: settings.pq.0,
        ciphers: settings.suite.ciphers(),
        peer: settings.peer.key,
        endpoint: Some(settings.peer.address),
        allow: settings.allow.clone(),
        marking: settings.dscp.marking(),
        exports,
        cadence: TunnelConfig::CADENCE,
    };
    Ok(TunnelMachine::new(config, Clock.now())?)
}

/// A new device is set up; one that exists belongs to its administrator and stays as it is, but up.
fn open(device: &str) -> Result<Tun, Error> {
    let exists = Link::by_name(device).is_ok();
    let mut tun = Tun::open(device)?;
    if exists {
        let _ = tun.set_up(); // without the right to, whoever made it brings it up
    } else {
        tun.set_mtu(MTU)?;
        tun.set_up()?;
    }
    Ok(tun)
}

/// Lives are told apart by calendar time. Where it is wrong, the peer says what it has seen.
fn clock() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0).max(1)
}

fn tell(event: &TunnelEvent, output: Output, lines: &mut Lines<io::Stdout>) {
    let (name, record) = record(event);
    let printed = match output {
        Output::JsonLines => lines.print(Clock.now(), name, record),
        Output::Quiet => match event {
            TunnelEvent::Ready { .. } => {
                writeln!(io::stdout(), "ready").and_then(|()| io::stdout().flush())
            }
            TunnelEvent::Refused(refusal) => writeln!(io::stderr(), "{}", way_out(*refusal)),
            TunnelEvent::Restarted
            | TunnelEvent::Rekeyed
            | TunnelEvent::Exported(_)
            | TunnelEvent::Silent
            | TunnelEvent::Report(_) => Ok(()),
        },
    };
    drop(printed); // nobody reads any more: the tunnel matters more
}

fn record(event: &TunnelEvent) -> (&'static str, Fields) {
    let (name, record) = match event {
        TunnelEvent::Ready { remote, security } => {
            ("ready", json!({"remote": remote, "security": security}))
        }
        TunnelEvent::Restarted => ("restarted", json!({})),
        TunnelEvent::Rekeyed => ("rekeyed", json!({})),
        TunnelEvent::Exported(_) => ("exported", json!({})),
        TunnelEvent::Silent => ("silent", json!({})),
        TunnelEvent::Refused(refusal) => (
            "refused",
            json!({"reason": refusal.name(), "text": way_out(*refusal)}),
        ),
        TunnelEvent::Report(report) => ("report", report_record(report)),
    };
    (name, fields(record))
}

/// What the peer's refusal means, and what helps.
pub(super) fn way_out(refusal: Refusal) -> String {
    let name = refusal.name();
    let helps = match refusal {
        Refusal::Profile => "give both ends the same --suite",
        Refusal::Cipher => "give both ends a --suite with a common cipher",
        Refusal::Exchange => "one end requires ML-KEM and the other has it off: change --pq at one",
        _ => "see the log of the peer",
    };
    format!("the peer refuses ({name}): {helps}")
}

fn report_record(report: &TunnelReport) -> Value {
    json!({
        "remote": report.remote,
        "security": report.security,
        "path": report.path.as_ref().map(json::path),
        "sent": report.traffic.sent,
        "sent_bytes": report.traffic.sent_bytes,
        "received": report.traffic.received,
        "received_bytes": report.traffic.received_bytes,
        "drops": json::drops(&report.drops),
    })
}

const MTU: u32 = 1420; // as WireGuard
const POLL: Duration = Duration::from_millis(20);
const REPORT_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_and_a_suite_are_read_or_refused_with_the_way_out() {
        let key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let peer: Peer = format!("{key}@192.0.2.1:51820").parse().unwrap();
        assert_eq!(peer.address.port(), 51820);
        for wrong in ["", "x@192.0.2.1:1", key, "@", &format!("{key}@nowhere")] {
            let error = wrong.parse::<Peer>().unwrap_err().to_string();
            assert!(error.contains("PUBKEY@IP:PORT"), "{error}");
        }
        for suite in Suite::ALL {
            assert_eq!(suite.to_string().parse::<Suite>().unwrap(), suite);
        }
        for pq in Pq::ALL.map(PqSetting) {
            assert_eq!(pq.to_string().parse::<PqSetting>().unwrap(), pq);
        }
        let error = "maybe".parse::<PqSetting>().unwrap_err().to_string();
        assert!(error.contains("prefer"), "{error}");
        let error = "rot13".parse::<Suite>().unwrap_err().to_string();
        assert!(error.contains("chacha20-poly1305"), "{error}");
    }
}
