//! The commands that run until they are told to stop.

use vpnmesh::Error;
use vpnmesh::role::tunnel::PqSetting;
use vpnmesh::role::{self, Output, run};
use vpnmesh::settings::{DscpSetting, FromFile as _};

use crate::arguments::{Psk, Role, Tunnel};

pub(crate) fn controller(options: &Role) -> Result<(), Error> {
    let settings = role::controller::Settings::read(&options.config)?;
    role::controller::run(&settings, output(options.json))
}

pub(crate) fn node(options: &Role) -> Result<(), Error> {
    run::<role::node::Node>(
        role::node::Settings::read(&options.config)?,
        output(options.json),
    )
}

pub(crate) fn client(options: &Role) -> Result<(), Error> {
    let settings = role::client::Settings::read(&options.config)?;
    run::<role::client::Client>(settings, output(options.json))
}

pub(crate) fn site(options: &Role) -> Result<(), Error> {
    run::<role::site::Site>(
        role::site::Settings::read(&options.config)?,
        output(options.json),
    )
}

pub(crate) fn tunnel(options: Tunnel) -> Result<(), Error> {
    let settings = role::tunnel::Settings {
        device: options.device,
        key_file: options.ends.key_file,
        listen: options.ends.listen,
        peer: options.ends.peer,
        allow: options.allow,
        suite: options.ends.suite,
        pq: options.pq,
        dscp: options.dscp,
    };
    role::tunnel::run(&settings, output(options.json))
}

pub(crate) fn psk(options: Psk) -> Result<(), Error> {
    let settings = role::psk::Settings {
        tunnel: role::tunnel::Settings {
            device: options.interface,
            key_file: options.ends.key_file,
            listen: options.ends.listen,
            peer: options.ends.peer,
            allow: Vec::new(),
            suite: options.ends.suite,
            pq: PqSetting::default(),
            dscp: DscpSetting::default(),
        },
        wireguard_peer: options.wg_peer,
    };
    role::psk::run(&settings, output(options.json))
}

fn output(json: bool) -> Output {
    if json {
        Output::JsonLines
    } else {
        Output::Quiet
    }
}
