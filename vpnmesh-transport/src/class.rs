//! The traffic class of IP headers: what goes out on the outer one, and what comes back in.
//!
//! ```text
//! | DSCP 6 | ECN 2 |    IPv4: the second byte; IPv6: the eight bits behind the version
//! ```
//!
//! A congested router marks a packet instead of dropping it, if its ECN bits allow that (RFC 3168).
//! It sees the outer header only. So the inner bits go out with it, and its mark comes back in:
//! RFC 6040, normal mode. Every member brings marks in, so a sender need not ask first. The DSCP
//! tells an observer what is inside: it goes out only where an administrator wants that, and never
//! comes in (the pipe model of RFC 2983).
//!
//! The outer bits are not authenticated. Who can change them can drop the packet as well, and can
//! do no more by it.

use crate::inner::{self, UNFINISHED};

/// What a packet says about congestion. RFC 3168, section 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Ecn {
    /// The sender would not see a mark: a congested router drops.
    #[default]
    NotEct = 0b00,
    /// The sender sees marks, as of RFC 8311.
    Ect1 = 0b01,
    /// The sender sees marks.
    Ect0 = 0b10,
    /// A router was congested.
    Ce = 0b11,
}

/// The traffic class of an IP header; IPv4 calls it type of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TrafficClass(pub u8);

/// A differentiated services code point: 0 to 63. RFC 2474.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Dscp(u8);

/// Which code point outer headers carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DscpPolicy {
    /// This one, whatever is inside.
    Fixed(Dscp),
    /// That of the inner packet; zero if there is none. Observers see which packets matter.
    Copy,
}

/// How outer headers are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marking {
    /// Whether inner ECN bits go out. Default true. False is the compatibility mode of RFC 6040, for
    /// paths that harm marked packets: routers drop then instead of marking.
    pub ecn: bool,
    /// The code point. Default: zero.
    pub dscp: DscpPolicy,
}

impl Ecn {
    /// The lower two bits of a traffic class.
    #[must_use]
    pub const fn of(class: u8) -> Self {
        match class & ECN {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// What an inner packet that says this must say after it came under `outer`; `None` if it must
    /// be dropped, as its sender would not see the mark. RFC 6040, section 4.2.
    #[must_use]
    pub const fn under(self, outer: Self) -> Option<Self> {
        match (self, outer) {
            (Self::NotEct, Self::Ce) => None,
            (Self::NotEct, Self::NotEct | Self::Ect0 | Self::Ect1) => Some(Self::NotEct),
            (Self::Ce, _) | (Self::Ect0 | Self::Ect1, Self::Ce) => Some(Self::Ce),
            (Self::Ect0 | Self::Ect1, Self::Ect1) => Some(Self::Ect1),
            (Self::Ect0 | Self::Ect1, Self::NotEct | Self::Ect0) => Some(self),
        }
    }

    /// What a packet came under whose halves came under these two: the more serious of them.
    /// RFC 3168, section 5.3.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ce, _) | (_, Self::Ce) => Self::Ce,
            (Self::Ect1, _) | (_, Self::Ect1) => Self::Ect1,
            (Self::Ect0, _) | (_, Self::Ect0) => Self::Ect0,
            (Self::NotEct, Self::NotEct) => Self::NotEct,
        }
    }
}

impl TrafficClass {
    /// That of an inner packet in any form; zero for what is no IP packet.
    #[must_use]
    pub fn of_inner(bytes: &[u8]) -> Self {
        let class = match bytes.get(inner::ip_at(bytes)..) {
            Some([first, second, ..]) => match first & 0x70 {
                0x40 => *second,
                0x60 => (first << 4) | (second >> 4),
                _ => 0,
            },
            Some(_) | None => 0,
        };
        Self(class)
    }

    /// Its ECN bits.
    #[must_use]
    pub const fn ecn(self) -> Ecn {
        Ecn::of(self.0)
    }
}

impl Dscp {
    /// The code point of that number; `None` above 63.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 64 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl Default for DscpPolicy {
    fn default() -> Self {
        Self::Fixed(Dscp(0))
    }
}

impl Default for Marking {
    fn default() -> Self {
        Self {
            ecn: true,
            dscp: DscpPolicy::default(),
        }
    }
}

impl Marking {
    /// The class of a datagram that carries no inner packet.
    #[must_use]
    pub const fn bare(self) -> TrafficClass {
        match self.dscp {
            DscpPolicy::Fixed(dscp) => TrafficClass(dscp.0 << 2),
            DscpPolicy::Copy => TrafficClass(0),
        }
    }

    /// The class of all datagrams that carry this inner packet.
    #[must_use]
    pub fn around(self, packet: &[u8]) -> TrafficClass {
        let TrafficClass(inner) = TrafficClass::of_inner(packet);
        let dscp = match self.dscp {
            DscpPolicy::Fixed(dscp) => dscp.0 << 2,
            DscpPolicy::Copy => inner & !ECN,
        };
        let ecn = if self.ecn { inner & ECN } else { 0 };
        TrafficClass(dscp | ecn)
    }
}

/// Brings the mark of the outer header into an inner packet of any form. False: the packet must be
/// dropped.
#[must_use]
pub fn bring_in(packet: &mut [u8], outer: Ecn) -> bool {
    if outer == Ecn::NotEct {
        return true;
    }
    let inner = TrafficClass::of_inner(packet).ecn();
    match inner.under(outer) {
        Some(marked) => {
            if marked != inner {
                set(packet, marked);
            }
            true
        }
        None => false,
    }
}

/// Sets the ECN bits of an IP packet in any form, and with them the checksum of an IPv4 header.
fn set(bytes: &mut [u8], ecn: Ecn) {
    let start = inner::ip_at(bytes);
    let Some([first, second, rest @ ..]) = bytes.get_mut(start..) else {
        return;
    };
    if *first & 0x70 == 0x60 {
        *second = (*second & !(ECN << 4)) | ((ecn as u8) << 4);
        return;
    }
    let before = u16::from_be_bytes([*first, *second]);
    *second = (*second & !ECN) | ecn as u8;
    let after = u16::from_be_bytes([*first, *second]);
    let complete = start == 0 && *first & UNFINISHED == 0;
    if complete && let Some(field) = rest.get_mut(8..10) {
        let sum = inner::update(u16::from_be_bytes([field[0], field[1]]), before, after);
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

const ECN: u8 = 0b11;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inner::tests::{is_sound, packet};
    use crate::inner::{Inner, super_head};

    const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce];

    /// A packet with this class, its checksums left to fill in.
    fn with_class(v6: bool, class: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = packet(v6, true, payload);
        if v6 {
            packet[0] |= class >> 4;
            packet[1] |= class << 4;
        } else {
            packet[1] = class;
        }
        packet
    }

    /// The same as any host sends it.
    fn complete(packet: &[u8]) -> Vec<u8> {
        let mut bytes = packet.to_vec();
        bytes[0] |= UNFINISHED;
        let mut done = Vec::new();
        let inner = Inner::parse(&bytes).unwrap();
        inner.complete(|packet| done = packet.to_vec());
        done
    }

    #[test]
    fn the_table_of_rfc_6040_holds_for_all_sixteen_cases() {
        use Ecn::{Ce, Ect0, Ect1, NotEct};
        // Figure 4: a row for each inner header, a column for each outer one, both as in `ALL`.
        let table = [
            [Some(NotEct), Some(NotEct), Some(NotEct), None],
            [Some(Ect0), Some(Ect0), Some(Ect1), Some(Ce)],
            [Some(Ect1), Some(Ect1), Some(Ect1), Some(Ce)],
            [Some(Ce), Some(Ce), Some(Ce), Some(Ce)],
        ];
        for (inner, row) in ALL.into_iter().zip(table) {
            for (outer, expected) in ALL.into_iter().zip(row) {
                assert_eq!(inner.under(outer), expected, "{inner:?} under {outer:?}");
                for v6 in [false, true] {
                    let sent = complete(&with_class(v6, 0xb8 | inner as u8, &[1; 9]));
                    let mut brought = sent.clone();
                    assert_eq!(bring_in(&mut brought, outer), expected.is_some());
                    let Some(expected) = expected else {
                        assert_eq!(brought, sent, "what is dropped stays as it is");
                        continue;
                    };
                    let class = TrafficClass::of_inner(&brought);
                    assert_eq!(class, TrafficClass(0xb8 | expected as u8));
                    assert!(is_sound(&brought), "{inner:?} under {outer:?}");
                    assert_eq!(brought.len(), sent.len());
                }
            }
        }
    }

    #[test]
    fn every_form_of_a_packet_takes_a_mark() {
        for v6 in [false, true] {
            let long = with_class(v6, 0b10, &[7; 300]);
            let mut unfinished = long.clone();
            unfinished[0] |= UNFINISHED;
            let bundle = [&super_head(100)[..], &long].concat();
            for (mut bytes, count) in [(unfinished, 1), (bundle, 3)] {
                assert!(bring_in(&mut bytes, Ecn::Ce));
                let inner = Inner::parse(&bytes).unwrap();
                let mut segments = 0;
                inner.complete(|packet| {
                    segments += 1;
                    assert_eq!(TrafficClass::of_inner(packet).ecn(), Ecn::Ce);
                    assert!(is_sound(packet));
                });
                assert_eq!(segments, count);
            }
        }
    }

    #[test]
    fn the_inner_bits_go_out_and_the_code_point_only_where_it_is_wanted() {
        let [fixed, copied] = [DscpPolicy::Fixed(Dscp::new(10).unwrap()), DscpPolicy::Copy]
            .map(|dscp| Marking { dscp, ecn: true });
        for v6 in [false, true] {
            let inner = with_class(v6, (46 << 2) | 0b01, &[1; 9]);
            assert_eq!(Marking::default().around(&inner), TrafficClass(0b01));
            assert_eq!(fixed.around(&inner), TrafficClass(10 << 2 | 0b01));
            assert_eq!(copied.around(&inner), TrafficClass((46 << 2) | 0b01));
            let bundle = [&super_head(100)[..], &inner].concat();
            assert_eq!(copied.around(&bundle), TrafficClass((46 << 2) | 0b01));
            let compatible = Marking {
                ecn: false,
                ..copied
            };
            assert_eq!(compatible.around(&inner), TrafficClass(46 << 2));
        }
        assert_eq!(Marking::default().bare(), TrafficClass(0));
        assert_eq!(fixed.bare(), TrafficClass(10 << 2));
        assert_eq!(copied.bare(), TrafficClass(0));
        assert_eq!(Dscp::new(64), None);
    }

    #[test]
    fn the_more_serious_half_decides() {
        for (n, one) in ALL.into_iter().enumerate() {
            for (m, other) in ALL.into_iter().enumerate() {
                assert_eq!(one.and(other), ALL[n.max(m)]);
            }
        }
    }

    proptest! {
        #[test]
        fn a_mark_leaves_every_ipv4_checksum_right(
            class in any::<u8>(),
            id in any::<u16>(),
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut sent = with_class(false, class | 0b10, &payload);
            sent[4..6].copy_from_slice(&id.to_be_bytes());
            let mut brought = complete(&sent);
            prop_assert!(bring_in(&mut brought, Ecn::Ce));
            let mut expected = sent;
            expected[1] |= 0b11;
            prop_assert_eq!(brought, complete(&expected));
        }

        #[test]
        fn any_bytes_are_marked_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), form in 0usize..4) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = [*first, 0x45, 0x60, 0x10][form];
            }
            let len = bytes.len();
            let _ = Marking::default().around(&bytes);
            for outer in ALL {
                let _ = bring_in(&mut bytes, outer);
            }
            prop_assert_eq!(bytes.len(), len);
        }
    }
}
