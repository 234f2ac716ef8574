//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use vpnmesh::core::{Prefix, PublicKey};
use vpnmesh::keys::IdentityKey;
use vpnmesh::role::tunnel::{Peer, PqSetting, Suite};
use vpnmesh::settings::DscpSetting;

/// VPNs that heal themselves.
#[derive(Debug, Parser)]
#[command(name = "vpnmesh", version, after_help = super::exit::CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a key, or print the public half of one.
    Keygen(Keygen),
    /// Make a whole mesh directory from a description.
    Provision(Provision),
    /// Run a controller.
    Controller(Role),
    /// Run a node.
    Node(Role),
    /// Run a client.
    Client(Role),
    /// Run a site.
    Site(Role),
    /// Run a point-to-point tunnel in the foreground; prints `ready` after the handshake.
    Tunnel(Tunnel),
    /// Keep the pre-shared key of a WireGuard peer fresh and post-quantum, in the foreground.
    Psk(Psk),
    /// Show the mesh as its controller sees it.
    Status(Admin),
    /// Show what was decided, and why.
    Explain(Explain),
    /// Move all traffic away from a node, then remove it.
    Drain(OfNode),
    /// Turn a drain back, or take a removed node back.
    Undrain(OfNode),
    /// Trust a node with nothing any more, at once: its traffic is taken over by its shadows.
    Remove(OfNode),
    /// Let a member leave for good: its key belongs to nobody any more.
    Forget(OfMember),
    /// Stop all automation.
    Freeze(Admin),
    /// Let automation go on.
    Thaw(Admin),
    /// Train and score the models that predict.
    #[command(subcommand)]
    Predict(Predict),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Predict {
    /// Train on a folder of data and write the weights to a file.
    Train {
        #[command(flatten)]
        options: PredictOptions,
        /// The file to write.
        #[arg(long, value_name = "FILE", default_value = "weights.vpmw")]
        out: PathBuf,
    },
    /// Train, score the rest, and print every figure beside those of plain methods.
    Eval {
        #[command(flatten)]
        options: PredictOptions,
        /// How many seeds the mean and the spread are taken over.
        #[arg(long, value_name = "N", default_value_t = 3)]
        seeds: u64,
    },
    /// Do the same as `eval` with one seed and write a page with plots.
    Report {
        #[command(flatten)]
        options: PredictOptions,
        /// The page to write.
        #[arg(long, value_name = "FILE", default_value = "report.html")]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PredictOptions {
    /// The folder to score (eval) or to train on (train).
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The task.
    #[arg(long, value_name = "NAME", value_parser = vpnmesh_predict::task::NAMES)]
    pub(crate) task: String,
    /// The folder to train on, if it is another; without it `--data` is split inside.
    #[arg(long, value_name = "DIR")]
    pub(crate) train: Option<PathBuf>,
    /// The first seed; the same seed gives the same figures.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// Write the private key to this new file and print the public key.
    #[arg(long, value_name = "FILE", conflicts_with = "public_of")]
    pub(crate) out: Option<PathBuf>,
    /// Print the public key of this private key file.
    #[arg(long, value_name = "FILE")]
    pub(crate) public_of: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Provision {
    /// The description, in TOML or JSON.
    pub(crate) description: PathBuf,
    /// The directory to make.
    pub(crate) directory: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Role {
    /// The settings, in TOML or JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Print one JSON object a line: events, and a report every 250 ms.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The two ends of a handshake outside a mesh.
#[derive(Debug, Args)]
pub(crate) struct Ends {
    /// The private key, as `wg genkey` or `vpnmesh keygen` prints it; no other program uses it.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// The own UDP address.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: SocketAddr,
    /// The other end.
    #[arg(long, value_name = "PUBKEY@IP:PORT")]
    pub(crate) peer: Peer,
    /// standard, high, light, aes-256-gcm or chacha20-poly1305.
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(crate) suite: Suite,
}

#[derive(Debug, Args)]
pub(crate) struct Tunnel {
    /// The interface: created with MTU 1420, or taken if it exists.
    #[arg(long = "if", value_name = "IF")]
    pub(crate) device: String,
    #[command(flatten)]
    pub(crate) ends: Ends,
    /// Inner addresses behind the peer; repeat it. Without it every source is accepted.
    #[arg(long, value_name = "CIDR")]
    pub(crate) allow: Vec<Prefix>,
    /// Key exchange with ML-KEM: require, prefer (without it if the peer has it off), or off at both ends.
    #[arg(long, value_name = "WORD", default_value_t)]
    pub(crate) pq: PqSetting,
    /// The DSCP of outer headers: 0 to 63, or `copy`, which shows observers that of inner packets.
    #[arg(long, value_name = "N|copy", default_value_t)]
    pub(crate) dscp: DscpSetting,
    /// Print one JSON object a line instead of `ready`.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Psk {
    /// The interface of WireGuard, in user space or in the kernel.
    #[arg(long = "if", value_name = "IF")]
    pub(crate) interface: String,
    /// The peer's key in WireGuard, as `wg pubkey` prints it.
    #[arg(long, value_name = "PUBKEY", value_parser = IdentityKey::public_from_base64)]
    pub(crate) wg_peer: PublicKey,
    #[command(flatten)]
    pub(crate) ends: Ends,
    /// Print one JSON object a line instead of `ready`.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Admin {
    /// The controller.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7443")]
    pub(crate) controller: SocketAddr,
    /// The directory of the administrator's certificates.
    #[arg(long, value_name = "DIR", default_value = "admin/tls")]
    pub(crate) credentials: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// One node only, by name.
    pub(crate) node: Option<String>,
    /// The newest decisions, at most so many.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct OfMember {
    /// The member, if it is a node: its name.
    #[arg(required_unless_present = "id", conflicts_with = "id")]
    pub(crate) node: Option<String>,
    /// The id of any member, in hexadecimal, as events and reports show it.
    #[arg(long, value_name = "ID", value_parser = hexadecimal)]
    pub(crate) id: Option<u64>,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct OfNode {
    /// The node, by name.
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

fn hexadecimal(text: &str) -> Result<u64, std::num::ParseIntError> {
    u64::from_str_radix(text, 16)
}
