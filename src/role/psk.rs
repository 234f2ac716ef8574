//! A post-quantum secret for a WireGuard that stands beside, fresh every two minutes.
//!
//! WireGuard mixes a pre-shared key into each of its handshakes, and has none of its own that would resist a
//! quantum computer. Our handshake runs between the same two hosts and gives both a secret; each hands
//! it to its own WireGuard. Packets stay WireGuard's business. Source: WireGuard, section 5.2 (optional
//! pre-shared symmetric key mode).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use serde_json::json;
use vpnmesh_core::{PublicKey, Secret};
use vpnmesh_keys::{IdentityKey, secret_to_base64};
use vpnmesh_transport::io::{Clock, Driver, UdpSocket};
use vpnmesh_transport::tunnel::TunnelEvent;
use zeroize::Zeroizing;

use super::Output;
use super::json::fields;
use super::lines::Lines;
use super::run::own_process;
use super::tunnel;
use crate::Error;

/// What it is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Keys, addresses and suite of our own handshake; `device` is the interface of WireGuard.
    pub tunnel: tunnel::Settings,
    /// The peer's key in WireGuard.
    pub wireguard_peer: PublicKey,
}

/// Keeps the pre-shared key of a WireGuard peer fresh until SIGTERM or SIGINT. Prints `ready` when the first
/// one was handed over, or with [`Output::JsonLines`] `rotated` for each.
///
/// # Errors
/// As [`tunnel::run`], and [`Error::Invalid`] if WireGuard does not take a key.
pub fn run(settings: &Settings, output: Output) -> Result<(), Error> {
    let ended = own_process()?;
    let machine = tunnel::machine(&settings.tunnel, true)?;
    let udp = UdpSocket::bind(settings.tunnel.listen)?;
    let driver = Driver::spawn(machine, udp, None)?;
    let interface = &settings.tunnel.device;
    let mut lines = Lines::new(io::stdout(), "psk", interface);
    let mut rotated = 0_u64;
    while !ended.load(Ordering::Acquire) {
        let event = match driver.events().recv_timeout(POLL) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Stopped { role: "psk" }),
        };
        let printed = match event {
            TunnelEvent::Exported(secret) => {
                hand_over(interface, &settings.wireguard_peer, &secret)?;
                rotated += 1;
                match output {
                    Output::JsonLines => {
                        lines.print(Clock.now(), "rotated", fields(json!({"count": rotated})))
                    }
                    Output::Quiet if rotated == 1 => {
                        writeln!(io::stdout(), "ready").and_then(|()| io::stdout().flush())
                    }
                    Output::Quiet => Ok(()),
                }
            }
            TunnelEvent::Refused(refusal) => {
                writeln!(io::stderr(), "{}", tunnel::way_out(refusal))
            }
            _ => Ok(()),
        };
        drop(printed); // nobody reads any more: the keys matter more
    }
    driver.stop()?;
    Ok(())
}

/// Over the socket of a WireGuard in user space if there is one, else by the program `wg`.
fn hand_over(interface: &str, peer: &PublicKey, secret: &Secret<32>) -> Result<(), Error> {
    let refused = |problem: String| Error::invalid("WireGuard interface", interface, problem);
    let socket = Path::new(SOCKETS).join(format!("{interface}.sock"));
    match UnixStream::connect(&socket) {
        Ok(stream) => ask(stream, peer, secret).map_err(refused),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            by_program(interface, peer, secret).map_err(refused)
        }
        Err(error) => Err(refused(format!("{}: {error}", socket.display()))),
    }
}

/// The configuration protocol of WireGuard in user space (wireguard.com/xplatform).
fn ask(mut stream: UnixStream, peer: &PublicKey, secret: &Secret<32>) -> Result<(), String> {
    let (peer, secret) = (hex(&peer.0), hex(secret.expose()));
    let request = Zeroizing::new(format!(
        "set=1\npublic_key={}\nupdate_only=true\npreshared_key={}\n\n",
        *peer, *secret
    ));
    let asked = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(request.as_bytes()));
    asked.map_err(|error| error.to_string())?;
    let lines = BufReader::new(stream.take(1024))
        .lines()
        .map_while(Result::ok);
    let answer: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    if answer.iter().any(|line| line == "errno=0") {
        return Ok(());
    }
    Err(format!(
        "does not take a pre-shared key ({})",
        answer.join(", ")
    ))
}

fn by_program(interface: &str, peer: &PublicKey, secret: &Secret<32>) -> Result<(), String> {
    let peer = IdentityKey::public_to_base64(peer);
    let wg = Command::new("wg")
        .args([
            "set",
            interface,
            "peer",
            &peer,
            "preshared-key",
            "/dev/stdin",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut wg = wg.map_err(|error| {
        format!("has no socket in {SOCKETS}, and `wg` of wireguard-tools does not start: {error}")
    })?;
    if let Some(mut input) = wg.stdin.take() {
        let text = secret_to_base64(secret);
        input
            .write_all(text.as_bytes())
            .map_err(|error| error.to_string())?;
    }
    let ended = wg.wait_with_output().map_err(|error| error.to_string())?;
    if ended.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned())
}

fn hex(bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(64));
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

const SOCKETS: &str = "/var/run/wireguard";
const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_does_not_exist_is_named() {
        let error = hand_over(
            "nosuchwg0",
            &PublicKey([1; 32]),
            &Secret::take(&mut [2; 32]),
        );
        let text = error.unwrap_err().to_string();
        assert!(text.contains("nosuchwg0"), "{text}");
    }

    #[test]
    fn a_socket_is_asked_in_its_own_words_and_its_no_is_told() {
        for (answer, taken) in [("errno=0\n\n", true), ("errno=-22\n\n", false)] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(answer.as_bytes()).unwrap();
            let done = ask(ours, &PublicKey([0xab; 32]), &Secret::take(&mut [1; 32]));
            assert_eq!(done.is_ok(), taken, "{done:?}");
            let mut asked = String::new();
            theirs.read_to_string(&mut asked).unwrap(); // our end is closed
            let key = "ab".repeat(32);
            let psk = "01".repeat(32);
            let wanted =
                format!("set=1\npublic_key={key}\nupdate_only=true\npreshared_key={psk}\n\n");
            assert_eq!(asked, wanted);
        }
    }
}
