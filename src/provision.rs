//! Makes a whole mesh from a plain description: keys, certificates, the first signed membership
//! and one directory with settings for each process.
//!
//! ```text
//! DIR/controller/    controller.toml, signing.key, root.pub, membership, tls/, ca/
//! DIR/admin/         tls/: for `vpnmesh status` and `vpnmesh explain`
//! DIR/nodes/NAME/    node.toml, identity.key, root.pub, membership, tls/
//! DIR/clients/NAME/  client.toml, identity.key, root.pub, membership
//! DIR/sites/NAME/    site.toml, identity.key, root.pub, membership
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use vpnmesh_control::pki::{MeshCa, Role};
use vpnmesh_core::{
    ClientEntry, ClientId, Membership, NodeEntry, NodeId, NodeState, Prefix, Region, SiteEntry,
    SiteId, Tier, Version,
};
use vpnmesh_keys::{IdentityKey, SignedMembership, SigningKey, write_new_durably};

use crate::role::controller::AutomationSettings;
use crate::role::{client, controller, node, site};
use crate::settings::{ControlSettings, CpuSource, FailoverSettings, FromFile, TunSettings};
use crate::{Error, member};

/// What a mesh shall look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshDescription {
    /// Its name, for certificates. Default "mesh".
    #[serde(default = "default_name")]
    pub name: String,
    /// Where its controller listens and agents reach it. Default: no controller.
    #[serde(default)]
    pub controller: Option<SocketAddr>,
    /// What its automation may do.
    #[serde(default)]
    pub automation: AutomationSettings,
    /// Its nodes, at least one.
    pub nodes: Vec<NodeDescription>,
    /// Its clients.
    #[serde(default)]
    pub clients: Vec<ClientDescription>,
    /// Its sites.
    #[serde(default)]
    pub sites: Vec<SiteDescription>,
    /// When its nodes hand over.
    #[serde(default)]
    pub failover: FailoverSettings,
    /// Which processor time counts on its nodes.
    #[serde(default)]
    pub cpu: CpuSource,
}

/// What a node shall look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeDescription {
    /// Its name, unique in the mesh.
    pub name: String,
    /// Where it stands.
    pub region: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it takes new sessions. Default: true; else it stands by.
    #[serde(default = "yes")]
    pub active: bool,
}

/// What a client shall look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientDescription {
    /// Its name, unique in the mesh.
    pub name: String,
    /// Its inner addresses.
    pub prefixes: Vec<Prefix>,
    /// How many shadows its sessions have.
    #[serde(default)]
    pub tier: Tier,
    /// Its TUN device. Default: none.
    #[serde(default)]
    pub tun: Option<String>,
}

/// What a site shall look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteDescription {
    /// Its name, unique in the mesh.
    pub name: String,
    /// Where it stands.
    pub region: String,
    /// The inner networks behind it.
    pub prefixes: Vec<Prefix>,
    /// Its TUN device. Default: none.
    #[serde(default)]
    pub tun: Option<String>,
    /// Addresses of that device with their prefix length. Default: none.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
}

impl Default for MeshDescription {
    /// A mesh named "mesh" without members.
    fn default() -> Self {
        Self {
            name: default_name(),
            controller: None,
            automation: AutomationSettings::default(),
            nodes: Vec::new(),
            clients: Vec::new(),
            sites: Vec::new(),
            failover: FailoverSettings::default(),
            cpu: CpuSource::default(),
        }
    }
}

impl FromFile for MeshDescription {
    fn anchor(&mut self, _base: &Path) {}
}

/// A mesh that was provisioned.
#[derive(Debug)]
pub struct Provisioned {
    directory: PathBuf,
    membership: Membership,
}

impl Provisioned {
    /// Who belongs to it.
    #[must_use]
    pub const fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The directory of the controller.
    #[must_use]
    pub fn controller(&self) -> PathBuf {
        self.directory.join("controller")
    }

    /// The directory of the administrator, with certificates in `tls`.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.directory.join("admin")
    }

    /// The directory of a node, with `node.toml`.
    #[must_use]
    pub fn node(&self, name: &str) -> PathBuf {
        self.directory.join("nodes").join(name)
    }

    /// The directory of a client, with `client.toml`.
    #[must_use]
    pub fn client(&self, name: &str) -> PathBuf {
        self.directory.join("clients").join(name)
    }

    /// The directory of a site, with `site.toml`.
    #[must_use]
    pub fn site(&self, name: &str) -> PathBuf {
        self.directory.join("sites").join(name)
    }
}

/// Makes the mesh in `directory`, which must be empty or missing.
///
/// # Errors
/// [`Error::Invalid`] names what is wrong with the description; nothing was written then. Else
/// [`Error::Keys`] or [`Error::System`] for a file.
pub fn provision(description: &MeshDescription, directory: &Path) -> Result<Provisioned, Error> {
    check(description)?;
    let keys = Keys::generate(description)?;
    let membership = membership(description, &keys);
    let checked = membership.check();
    checked.map_err(|error| Error::invalid("mesh", &description.name, error))?;
    let mesh = Provisioned {
        directory: directory.to_owned(),
        membership,
    };
    let root = SigningKey::generate()?;
    let ca = MeshCa::generate(&description.name)?;
    let signed = SignedMembership::sign(&mesh.membership, &root).to_bytes();
    let writer = Writer {
        description,
        mesh: &mesh,
        root: &root,
        ca: &ca,
        signed: &signed,
    };
    writer.controller()?;
    writer.members(&keys)?;
    Ok(mesh)
}

/// The identities of the members, in the order of the description.
struct Keys {
    nodes: Vec<IdentityKey>,
    clients: Vec<IdentityKey>,
    sites: Vec<IdentityKey>,
}

impl Keys {
    fn generate(description: &MeshDescription) -> Result<Self, Error> {
        let some = |count: usize| -> Result<Vec<IdentityKey>, Error> {
            Ok((0..count)
                .map(|_| IdentityKey::generate())
                .collect::<Result<_, _>>()?)
        };
        Ok(Self {
            nodes: some(description.nodes.len())?,
            clients: some(description.clients.len())?,
            sites: some(description.sites.len())?,
        })
    }
}

struct Writer<'a> {
    description: &'a MeshDescription,
    mesh: &'a Provisioned,
    root: &'a SigningKey,
    ca: &'a MeshCa,
    signed: &'a [u8],
}

impl Writer<'_> {
    /// The signing key, the CA, and what the controller needs besides. They are written without a
    /// controller too: one may come later.
    fn controller(&self) -> Result<(), Error> {
        let home = self.mesh.controller();
        create(&home)?;
        self.root.write_new(&home.join("signing.key"))?;
        self.root.verifying_key().write(&home.join("root.pub"))?;
        write_new_durably(&home.join("membership"), self.signed)?;
        self.ca.write_new(&home.join("ca"))?;
        self.ca
            .issue(Role::Controller, "controller")?
            .write(&home.join("tls"))?;
        self.ca
            .issue(Role::Admin, "admin")?
            .write(&self.mesh.admin().join("tls"))?;
        let settings = controller::Settings {
            listen: self.description.controller.unwrap_or(DEFAULT_CONTROLLER),
            state: "log".into(),
            credentials: "tls".into(),
            signing_key: "signing.key".into(),
            founding: "membership".into(),
            failover: self.description.failover,
            regions: BTreeMap::new(),
            automation: self.description.automation,
        };
        write_toml(&home.join("controller.toml"), &settings)
    }

    fn members(&self, keys: &Keys) -> Result<(), Error> {
        for (node, key) in self.description.nodes.iter().zip(&keys.nodes) {
            let home = self.mesh.node(&node.name);
            self.member(&home, key)?;
            self.ca
                .issue(Role::Node, &node.name)?
                .write(&home.join("tls"))?;
            let settings = node::Settings {
                control: self.description.controller.map(|address| ControlSettings {
                    address,
                    credentials: "tls".into(),
                }),
                cpu: self.description.cpu,
                failover: self.description.failover,
                ..node::Settings::new(".", node.address)
            };
            write_toml(&home.join("node.toml"), &settings)?;
        }
        for (client, key) in self.description.clients.iter().zip(&keys.clients) {
            let home = self.mesh.client(&client.name);
            self.member(&home, key)?;
            let settings = client::Settings {
                tun: client.tun.as_deref().map(TunSettings::new),
                ..client::Settings::new(".")
            };
            write_toml(&home.join("client.toml"), &settings)?;
        }
        for (site, key) in self.description.sites.iter().zip(&keys.sites) {
            let home = self.mesh.site(&site.name);
            self.member(&home, key)?;
            let tun = site.tun.as_deref().map(|name| TunSettings {
                addresses: site.addresses.clone(),
                ..TunSettings::new(name)
            });
            let settings = site::Settings {
                tun,
                ..site::Settings::new(".")
            };
            write_toml(&home.join("site.toml"), &settings)?;
        }
        Ok(())
    }

    /// What every member has.
    fn member(&self, home: &Path, key: &IdentityKey) -> Result<(), Error> {
        create(home)?;
        let [identity, root, membership] = member::paths(home);
        key.write_new(&identity)?;
        self.root.verifying_key().write(&root)?;
        write_new_durably(&membership, self.signed)?;
        Ok(())
    }
}

fn check(description: &MeshDescription) -> Result<(), Error> {
    let wrong = |what, name: &str, problem: &str| Err(Error::invalid(what, name, problem));
    if description.nodes.is_empty() {
        return wrong(
            "mesh",
            &description.name,
            "has no node; describe at least one",
        );
    }
    description.failover.policy()?;
    let nodes = description.nodes.iter().map(|node| ("node", &node.name));
    let clients = description
        .clients
        .iter()
        .map(|client| ("client", &client.name));
    let sites = description.sites.iter().map(|site| ("site", &site.name));
    let mut seen = BTreeSet::new();
    for (what, name) in nodes.chain(clients).chain(sites) {
        let plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            let problem =
                "is no name; use 1 to 63 lower-case letters, digits, dashes and underscores";
            return wrong(what, name, problem);
        }
        if !seen.insert(name) {
            return wrong(
                what,
                name,
                "is there twice; give each member a name of its own",
            );
        }
    }
    Ok(())
}

/// The first membership. Ids are unique over all kinds: 1, 2, ... in the order of the description.
fn membership(description: &MeshDescription, keys: &Keys) -> Membership {
    let mut ids = 1..;
    let mut id = move || ids.next().unwrap_or(u64::MAX);
    let nodes = description
        .nodes
        .iter()
        .zip(&keys.nodes)
        .map(|(node, key)| NodeEntry {
            id: NodeId(id()),
            name: node.name.clone(),
            region: Region(node.region.clone()),
            key: key.public(),
            addresses: vec![node.address],
            state: if node.active {
                NodeState::Active
            } else {
                NodeState::Standby
            },
        });
    let nodes: Vec<NodeEntry> = nodes.collect();
    let clients = description
        .clients
        .iter()
        .zip(&keys.clients)
        .map(|(client, key)| ClientEntry {
            id: ClientId(id()),
            name: client.name.clone(),
            key: key.public(),
            prefixes: client.prefixes.clone(),
            tier: client.tier,
        });
    let clients: Vec<ClientEntry> = clients.collect();
    let sites = description
        .sites
        .iter()
        .zip(&keys.sites)
        .map(|(site, key)| SiteEntry {
            id: SiteId(id()),
            name: site.name.clone(),
            region: Region(site.region.clone()),
            key: key.public(),
            prefixes: site.prefixes.clone(),
        });
    Membership {
        version: Version { term: 0, index: 1 }, // below all that a controller ever decides
        sites: sites.collect(),
        nodes,
        clients,
    }
}

fn create(directory: &Path) -> Result<(), Error> {
    let created = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    created.map_err(Error::system(format!("create {}", directory.display())))
}

fn write_toml(path: &Path, settings: &impl Serialize) -> Result<(), Error> {
    let text = toml::to_string(settings).expect("settings are plain tables");
    Ok(write_new_durably(path, text.as_bytes())?)
}

fn default_name() -> String {
    "mesh".to_owned()
}

fn yes() -> bool {
    true
}

const DEFAULT_CONTROLLER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7443);
const MAX_NAME: usize = 63; // a DNS label, RFC 1035, section 2.3.4
