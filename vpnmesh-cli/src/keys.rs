//! `keygen` and `provision`.

use serde_json::json;
use vpnmesh::Error;
use vpnmesh::keys::IdentityKey;
use vpnmesh::provision::{MeshDescription, provision as make};
use vpnmesh::settings::FromFile as _;

use crate::arguments::{Keygen, Provision};

pub(crate) fn keygen(options: &Keygen) -> Result<(), Error> {
    if let Some(file) = &options.public_of {
        let public = IdentityKey::public_to_base64(&IdentityKey::read(file)?.public());
        print(options.json, &json!({"public": public}), &public);
        return Ok(());
    }
    let key = IdentityKey::generate()?;
    let public = IdentityKey::public_to_base64(&key.public());
    if let Some(file) = &options.out {
        key.write_new(file)?;
        print(
            options.json,
            &json!({"file": file, "public": public}),
            &public,
        );
    } else {
        let private = key.to_base64();
        print(
            options.json,
            &json!({"private": *private, "public": public}),
            &private,
        );
    }
    Ok(())
}

pub(crate) fn provision(options: &Provision) -> Result<(), Error> {
    let description = MeshDescription::read(&options.description)?;
    let mesh = make(&description, &options.directory)?;
    let members = mesh.membership();
    let text = format!(
        "{} nodes, {} clients and {} sites are in {}; the signing key is in {}: keep it safe",
        members.nodes.len(),
        members.clients.len(),
        members.sites.len(),
        options.directory.display(),
        mesh.controller().display(),
    );
    let record = json!({
        "directory": options.directory,
        "controller": mesh.controller(),
        "admin": mesh.admin(),
        "membership": members,
    });
    print(options.json, &record, &text);
    Ok(())
}

fn print(json: bool, record: &serde_json::Value, text: &str) {
    if json {
        println!("{record}");
    } else {
        println!("{text}");
    }
}
