//! The TUN device of a client or a site.

use std::net::IpAddr;

use ipnet::IpNet;
use vpnmesh_core::Prefix;
use vpnmesh_transport::io::{PacketIo, Tun};

use crate::Error;
use crate::settings::TunSettings;

/// Opens the device that the settings name, with addresses and routes unless they forbid it.
///
/// `addresses` hold where the settings name none; `routes` lead into the tunnel.
pub(super) fn open(
    settings: Option<&TunSettings>,
    addresses: &[IpNet],
    routes: &[Prefix],
) -> Result<Option<Box<dyn PacketIo>>, Error> {
    let Some(settings) = settings else {
        return Ok(None);
    };
    let mut tun = Tun::open(&settings.name)?;
    if settings.configure {
        tun.set_mtu(settings.mtu)?;
        let chosen = if settings.addresses.is_empty() {
            addresses
        } else {
            &settings.addresses
        };
        for address in chosen {
            tun.add_address(address.addr(), address.prefix_len())?;
        }
        tun.set_up()?;
        for route in routes {
            tun.add_route(*route)?;
        }
    }
    Ok(Some(Box::new(tun)))
}

/// One address for each prefix of a client: the lowest one, alone on the device.
pub(super) fn own_addresses(prefixes: &[Prefix]) -> Vec<IpNet> {
    prefixes
        .iter()
        .map(|prefix| host(prefix.network()))
        .collect()
}

fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}
