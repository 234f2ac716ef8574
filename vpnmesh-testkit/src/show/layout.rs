//! Who takes part, where they stand, and how far that is from each other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::lab::{Error, Lab, Link};

/// What somebody on stage does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Part {
    /// Keeps the state of the mesh.
    Controller,
    /// Carries sessions.
    Node,
    /// Has the users.
    Client,
    /// Has a resource.
    Site,
}

/// Somebody on stage: one host, one process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Its name everywhere.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) part: Part,
    /// Where it stands.
    pub(super) region: &'static str,
    /// Its address in the outer network; no two are in one network.
    pub(super) address: Ipv4Addr,
    /// Its number among all, which makes its network.
    pub(super) id: u64,
}

/// Everybody, in the order in which they start.
pub(super) const PLACES: [Place; 10] = [
    place("ctl", Part::Controller, "eu", 1),
    place("n1", Part::Node, "eu", 11),
    place("n2", Part::Node, "eu", 12),
    place("n3", Part::Node, "us", 13),
    place("n4", Part::Node, "us", 14),
    place("n5", Part::Node, "ap", 15),
    place("s1", Part::Site, "eu", 21),
    place("s2", Part::Site, "us", 22),
    place("c1", Part::Client, "eu", 31),
    place("c2", Part::Client, "us", 32),
];

const fn place(name: &'static str, part: Part, region: &'static str, id: u8) -> Place {
    Place {
        name,
        part,
        region,
        address: Ipv4Addr::new(198, 18, id, 1), // RFC 2544: networks for measurements
        id: id as u64,
    }
}

/// All who play that part.
pub(super) fn all(part: Part) -> impl Iterator<Item = &'static Place> {
    PLACES.iter().filter(move |place| place.part == part)
}

/// The controller.
#[must_use]
pub(super) const fn controller() -> &'static Place {
    &PLACES[0]
}

/// The one of that name.
#[must_use]
pub(super) fn find(name: &str) -> Option<&'static Place> {
    PLACES.iter().find(|place| place.name == name)
}

impl Place {
    /// Which of its kind it is, from 1 on.
    #[must_use]
    pub(super) fn ordinal(&self) -> u8 {
        let before = all(self.part).take_while(|place| place.id < self.id);
        before.count() as u8 + 1
    }

    /// Where it listens in the outer network.
    #[must_use]
    pub(super) fn listen(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), PORT)
    }

    /// Its address inside: of the client, or of the resource at the site.
    #[must_use]
    pub(super) fn inner(&self) -> Ipv4Addr {
        match self.part {
            Part::Site => Ipv4Addr::new(10, 88, self.ordinal(), 1),
            Part::Controller | Part::Node | Part::Client => {
                Ipv4Addr::new(10, 77, 0, self.ordinal())
            }
        }
    }

    /// The inner network that belongs to it.
    #[must_use]
    pub(super) fn inner_prefix(&self) -> String {
        match self.part {
            Part::Site => format!("10.88.{}.0/24", self.ordinal()),
            Part::Controller | Part::Node | Part::Client => format!("{}/32", self.inner()),
        }
    }
}

/// The UDP port of all members.
pub(super) const PORT: u16 = 7777;

/// Round-trip time between two regions in ms: far enough apart that the paths differ, near enough
/// that one more round trip fits into the silence that is promised.
#[must_use]
pub(super) fn round_trip_ms(a: &str, b: &str) -> u64 {
    match (a, b) {
        (a, b) if a == b => 8,
        ("eu", "us") | ("us", "eu") => 22,
        ("us", "ap") | ("ap", "us") => 28,
        _ => 36,
    }
}

/// The path between two places while nothing is wrong.
#[must_use]
pub(super) fn healthy(a: &Place, b: &Place) -> Link {
    Link::delay_ms(round_trip_ms(a.region, b.region) / 2)
}

/// Builds all hosts and the paths between them.
///
/// # Errors
/// The lab's.
pub(super) fn build(lab: &Lab) -> Result<(), Error> {
    for place in &PLACES {
        lab.host(place.name, IpAddr::V4(place.address))?;
    }
    restore(lab)
}

/// Makes all paths healthy again.
///
/// # Errors
/// The lab's.
pub(super) fn restore(lab: &Lab) -> Result<(), Error> {
    for (index, a) in PLACES.iter().enumerate() {
        for b in &PLACES[index + 1..] {
            lab.link(a.name, b.name, healthy(a, b))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn there_are_five_nodes_in_three_regions_two_clients_two_sites_and_a_controller() {
        let count = |part| all(part).count();
        assert_eq!(count(Part::Node), 5);
        assert_eq!((count(Part::Client), count(Part::Site)), (2, 2));
        assert_eq!(count(Part::Controller), 1);
        assert_eq!(controller().part, Part::Controller);
        let regions: BTreeSet<_> = all(Part::Node).map(|node| node.region).collect();
        assert_eq!(regions.len(), 3);
    }

    #[test]
    fn no_two_share_a_network_a_number_or_a_name() {
        let distinct = |key: fn(&Place) -> String| {
            let keys: BTreeSet<_> = PLACES.iter().map(key).collect();
            keys.len() == PLACES.len()
        };
        assert!(distinct(|place| place.name.to_owned()));
        assert!(distinct(|place| place.id.to_string()));
        assert!(distinct(|place| format!(
            "{:?}",
            &place.address.octets()[..3]
        )));
    }

    #[test]
    fn every_region_is_reached_in_another_time() {
        let from_eu: BTreeSet<_> = ["eu", "us", "ap"].map(|to| round_trip_ms("eu", to)).into();
        assert_eq!(from_eu.len(), 3);
        for (a, b) in [("eu", "us"), ("us", "ap"), ("ap", "eu")] {
            assert_eq!(round_trip_ms(a, b), round_trip_ms(b, a));
        }
    }

    #[test]
    fn a_client_may_call_a_node_silent_after_a_hundred_milliseconds() {
        // The patience is max(100 ms, RTT + 4 x deviation + 25 ms); deviations here are a few ms.
        for client in all(Part::Client) {
            for node in all(Part::Node) {
                let path = healthy(client, node).delay * 2;
                assert!(
                    path <= Duration::from_millis(50),
                    "{} {}",
                    client.name,
                    node.name
                );
            }
        }
    }

    #[test]
    fn inner_addresses_lie_in_their_networks() {
        let s2 = find("s2").unwrap();
        assert_eq!(
            (s2.inner().to_string(), s2.inner_prefix()),
            ("10.88.2.1".into(), "10.88.2.0/24".into())
        );
        let c1 = find("c1").unwrap();
        assert_eq!(
            (c1.inner().to_string(), c1.inner_prefix()),
            ("10.77.0.1".into(), "10.77.0.1/32".into())
        );
    }
}
