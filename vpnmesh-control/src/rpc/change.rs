//! Changes by administrators between the wire and our own types.

use vpnmesh_core::{ClientId, NodeId, PublicKey, Region, Tier};

use super::convert::{malformed, some};
use super::wire;
use crate::{Candidate, CandidateKind, Change, Error};

pub(super) fn change_in(request: wire::ChangeRequest) -> Result<Change, Error> {
    use wire::change_request::Change as Wire;
    Ok(match some(request.change, "change")? {
        Wire::Drain(node) => Change::Drain(NodeId(node)),
        Wire::Undrain(node) => Change::Undrain(NodeId(node)),
        Wire::Remove(node) => Change::Remove(NodeId(node)),
        Wire::Hold(node) => Change::Hold(NodeId(node)),
        Wire::Release(node) => Change::Release(NodeId(node)),
        Wire::Freeze(wire::Empty {}) => Change::Freeze,
        Wire::Thaw(wire::Empty {}) => Change::Thaw,
        Wire::SetTier(wanted) => Change::SetTier(ClientId(wanted.client), tier_in(wanted.tier())?),
        Wire::Join(member) => Change::Join(candidate_in(member)?),
        Wire::Forget(member) => Change::Forget(member),
    })
}

pub(super) fn change_out(change: Change) -> wire::ChangeRequest {
    use wire::change_request::Change as Wire;
    let change = match change {
        Change::Drain(node) => Wire::Drain(node.0),
        Change::Undrain(node) => Wire::Undrain(node.0),
        Change::Remove(node) => Wire::Remove(node.0),
        Change::Hold(node) => Wire::Hold(node.0),
        Change::Release(node) => Wire::Release(node.0),
        Change::Freeze => Wire::Freeze(wire::Empty {}),
        Change::Thaw => Wire::Thaw(wire::Empty {}),
        Change::SetTier(client, tier) => Wire::SetTier(wire::SetTier {
            client: client.0,
            tier: tier_out(tier).into(),
        }),
        Change::Join(candidate) => Wire::Join(candidate_out(candidate)),
        Change::Forget(member) => Wire::Forget(member),
    };
    wire::ChangeRequest {
        change: Some(change),
    }
}

fn candidate_in(member: wire::Member) -> Result<Candidate, Error> {
    use wire::member::Kind;
    let key = member.key.as_slice().try_into();
    let kind = match some(member.kind, "member.kind")? {
        Kind::Node(node) => CandidateKind::Node {
            region: Region(node.region),
            addresses: parse(&node.addresses, "member.node.addresses")?,
        },
        Kind::Client(client) => CandidateKind::Client {
            tier: tier_in(client.tier())?,
            prefixes: parse(&client.prefixes, "member.client.prefixes")?,
        },
        Kind::Site(site) => CandidateKind::Site {
            region: Region(site.region),
            prefixes: parse(&site.prefixes, "member.site.prefixes")?,
        },
    };
    Ok(Candidate {
        name: member.name,
        key: PublicKey(key.map_err(|_| malformed("member.key"))?),
        kind,
    })
}

fn candidate_out(candidate: Candidate) -> wire::Member {
    use wire::member::Kind;
    let kind = match candidate.kind {
        CandidateKind::Node { region, addresses } => Kind::Node(wire::NodeMember {
            region: region.0,
            addresses: print(&addresses),
        }),
        CandidateKind::Client { prefixes, tier } => Kind::Client(wire::ClientMember {
            prefixes: print(&prefixes),
            tier: tier_out(tier).into(),
        }),
        CandidateKind::Site { region, prefixes } => Kind::Site(wire::SiteMember {
            region: region.0,
            prefixes: print(&prefixes),
        }),
    };
    wire::Member {
        name: candidate.name,
        key: candidate.key.0.to_vec(),
        kind: Some(kind),
    }
}

const fn tier_in(tier: wire::Tier) -> Result<Tier, Error> {
    match tier {
        wire::Tier::Basic => Ok(Tier::Basic),
        wire::Tier::Standard => Ok(Tier::Standard),
        wire::Tier::Premium => Ok(Tier::Premium),
        wire::Tier::Unspecified => Err(malformed("tier")),
    }
}

const fn tier_out(tier: Tier) -> wire::Tier {
    match tier {
        Tier::Basic => wire::Tier::Basic,
        Tier::Standard => wire::Tier::Standard,
        Tier::Premium => wire::Tier::Premium,
    }
}

fn parse<T: std::str::FromStr>(texts: &[String], field: &'static str) -> Result<Vec<T>, Error> {
    if texts.len() > MAX_TEXTS {
        return Err(malformed(field));
    }
    let parsed = texts
        .iter()
        .map(|text| text.parse().map_err(|_| malformed(field)));
    parsed.collect()
}

fn print<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

const MAX_TEXTS: usize = 64; // addresses or prefixes of one member: taste

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_as_they_were() {
        let candidate = |kind| Candidate {
            name: "x".into(),
            key: PublicKey([7; 32]),
            kind,
        };
        let prefixes = vec!["10.0.0.0/24".parse().unwrap()];
        let region = Region("eu".into());
        let addresses = vec!["[2001:db8::1]:51820".parse().unwrap()];
        for change in [
            Change::Drain(NodeId(1)),
            Change::Undrain(NodeId(1)),
            Change::Remove(NodeId(1)),
            Change::Hold(NodeId(1)),
            Change::Release(NodeId(1)),
            Change::Freeze,
            Change::Thaw,
            Change::SetTier(ClientId(3), Tier::Premium),
            Change::Forget(9),
            Change::Join(candidate(CandidateKind::Node {
                region: region.clone(),
                addresses,
            })),
            Change::Join(candidate(CandidateKind::Client {
                prefixes: prefixes.clone(),
                tier: Tier::Basic,
            })),
            Change::Join(candidate(CandidateKind::Site { region, prefixes })),
        ] {
            assert_eq!(change_in(change_out(change.clone())).unwrap(), change);
        }
    }

    #[test]
    fn a_member_that_cannot_be_meant_is_refused() {
        let member = wire::Member {
            name: "x".into(),
            key: vec![1; 31],
            kind: None,
        };
        assert!(candidate_in(member.clone()).is_err());
        let kind = wire::member::Kind::Client(wire::ClientMember {
            prefixes: vec!["10.0.0.0/99".into()],
            tier: wire::Tier::Basic.into(),
        });
        let member = wire::Member {
            key: vec![1; 32],
            kind: Some(kind),
            ..member
        };
        assert!(candidate_in(member).is_err());
    }
}
