//! What a wide-area link does to packets: delay, jitter, loss, a bottleneck with a queue, a cut.
//!
//! [`LinkModel`] decides the fate of each packet from its size and the time. It holds no packets,
//! reads no clock and draws everything from its seed, so the namespace lab and the simulator use
//! the same one. Start from [`Link`], the settings, and [`LinkModel::offer`].

use std::time::Duration;

use vpnmesh_core::{Bandwidth, ByteCount, Ratio, Timestamp};

/// How a link treats packets. The default is a perfect link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// One-way delay. Default zero.
    pub delay: Duration,
    /// The delay wanders by at most this much around [`delay`](Self::delay), never below zero.
    /// It wanders slower than packets can follow each other, so jitter alone never reorders.
    /// Default zero.
    pub jitter: Duration,
    /// The share of packets lost, each independently. Default none.
    pub loss: Ratio,
    /// The bottleneck's rate; `None` for unlimited, zero lets nothing through. Default `None`.
    pub rate: Option<Bandwidth>,
    /// The longest wait at the bottleneck; packets that would wait longer are tail-dropped.
    /// Default 50 ms. Too small starves bursts, too large adds delay under load.
    pub queue: Duration,
    /// The share of packets held back so that later ones overtake them. Default none.
    pub reorder: Ratio,
    /// Every packet whose sender sees congestion marks is marked (RFC 3168); in the namespace lab
    /// only, as the simulator's packets have no IP headers. Default off.
    pub congested: bool,
    /// Nothing passes, packets already under way included. Default off.
    pub cut: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Ratio::ZERO,
            rate: None,
            queue: Duration::from_millis(50), // taste: about what access routers hold
            reorder: Ratio::ZERO,
            congested: false,
            cut: false,
        }
    }
}

impl Link {
    /// A perfect link but for a one-way delay of `millis` milliseconds.
    #[must_use]
    pub fn delay_ms(millis: u64) -> Self {
        Self {
            delay: Duration::from_millis(millis),
            ..Self::default()
        }
    }

    /// The same with a jitter of `millis` milliseconds.
    #[must_use]
    pub const fn jitter_ms(mut self, millis: u64) -> Self {
        self.jitter = Duration::from_millis(millis);
        self
    }

    /// The same with a share of packets lost; `share` is pressed into `0.0..=1.0`.
    #[must_use]
    pub fn loss(mut self, share: f64) -> Self {
        self.loss = Ratio::saturating(share);
        self
    }

    /// The same with a bottleneck of `rate` megabit per second.
    #[must_use]
    pub const fn rate_mbps(mut self, rate: u64) -> Self {
        self.rate = Some(Bandwidth(rate * 1_000_000));
        self
    }

    /// The same with the longest wait at the bottleneck in milliseconds.
    #[must_use]
    pub const fn queue_ms(mut self, millis: u64) -> Self {
        self.queue = Duration::from_millis(millis);
        self
    }

    /// The same with a share of packets held back; `share` is pressed into `0.0..=1.0`.
    #[must_use]
    pub fn reorder(mut self, share: f64) -> Self {
        self.reorder = Ratio::saturating(share);
        self
    }

    /// The same, cut or whole.
    #[must_use]
    pub const fn cut(mut self, cut: bool) -> Self {
        self.cut = cut;
        self
    }
}

/// What becomes of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives then.
    Deliver(Timestamp),
    /// It never arrives.
    Drop(LinkDrop),
}

/// Why a link dropped a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkDrop {
    /// Random loss.
    Loss,
    /// The queue of the bottleneck was full.
    Tail,
    /// The link is cut.
    Cut,
}

/// One direction of one link.
///
/// Times given to [`offer`](Self::offer) must not go back. Without reordering, packets leave in the
/// order in which they came, through changes of the settings too.
#[derive(Debug, Clone)]
pub struct LinkModel {
    link: Link,
    seed: u64,
    draws: u64,
    /// When the bottleneck has sent everything it took.
    busy_until: Timestamp,
    /// The latest arrival promised so far.
    last: Timestamp,
}

impl LinkModel {
    /// A link whose every random choice follows from `seed`.
    #[must_use]
    pub const fn new(link: Link, seed: u64) -> Self {
        Self {
            link,
            seed,
            draws: 0,
            busy_until: Timestamp::ZERO,
            last: Timestamp::ZERO,
        }
    }

    /// The settings in force.
    #[must_use]
    pub const fn link(&self) -> Link {
        self.link
    }

    /// Changes the settings for the packets to come. What was promised stays promised, but whoever
    /// carries packets drops those under way on a link that is now cut.
    pub fn set(&mut self, link: Link) {
        if self.link.rate != link.rate {
            self.busy_until = Timestamp::ZERO;
        }
        self.link = link;
    }

    /// A packet of `size` enters the link at `now`.
    pub fn offer(&mut self, size: ByteCount, now: Timestamp) -> Verdict {
        if self.link.cut {
            return Verdict::Drop(LinkDrop::Cut);
        }
        if self.happens(self.link.loss) {
            return Verdict::Drop(LinkDrop::Loss);
        }
        let Some(sent) = self.pass_bottleneck(size, now) else {
            return Verdict::Drop(LinkDrop::Tail);
        };
        let arrives = self.with_delay(sent);
        if self.happens(self.link.reorder) {
            return Verdict::Deliver(arrives + self.hold_back());
        }
        self.last = self.last.max(arrives);
        Verdict::Deliver(self.last)
    }

    /// When the last bit of the packet leaves the bottleneck; `None` if its queue is full.
    fn pass_bottleneck(&mut self, size: ByteCount, now: Timestamp) -> Option<Timestamp> {
        let Some(rate) = self.link.rate else {
            return Some(now);
        };
        let starts = self.busy_until.max(now);
        if starts.since(now) > self.link.queue {
            return None;
        }
        self.busy_until = starts + rate.time_for(size)?;
        Some(self.busy_until)
    }

    fn with_delay(&self, sent: Timestamp) -> Timestamp {
        if self.link.jitter.is_zero() {
            return sent + self.link.delay;
        }
        let offset = self.wander(sent);
        let shift = self.link.jitter.mul_f64(offset.abs());
        if offset >= 0.0 {
            sent + (self.link.delay + shift)
        } else {
            sent + self.link.delay.saturating_sub(shift)
        }
    }

    /// The jitter at `at`, in `-1.0..=1.0`: straight lines between random points, spaced so wide
    /// that no slope is steeper than one half.
    fn wander(&self, at: Timestamp) -> f64 {
        let spacing = nanos(self.link.jitter).saturating_mul(4).max(1);
        let (point, rest) = (at.0 / spacing, at.0 % spacing);
        let value = |point: u64| unit(mix(self.seed ^ mix(point))).mul_add(2.0, -1.0);
        let (from, to) = (value(point), value(point.wrapping_add(1)));
        from + (to - from) * (rest as f64 / spacing as f64)
    }

    /// The extra delay of a packet that others overtake: up to 2 ms or twice the jitter.
    fn hold_back(&mut self) -> Duration {
        let most = Duration::from_millis(2).max(self.link.jitter * 2);
        most.mul_f64(self.draw())
    }

    fn happens(&mut self, chance: Ratio) -> bool {
        chance > Ratio::ZERO && self.draw() < chance.get()
    }

    /// The next random number in `0.0..1.0`.
    fn draw(&mut self) -> f64 {
        self.draws += 1;
        unit(mix(self.seed.wrapping_add(self.draws.wrapping_mul(GOLDEN))))
    }
}

/// A seed for each of many links from one; `tag` tells them apart.
#[must_use]
pub const fn derive_seed(seed: u64, tag: u64) -> u64 {
    mix(seed ^ mix(tag.wrapping_add(GOLDEN)))
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The top 53 bits as a number in `0.0..1.0`.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// The finaliser of SplitMix64.
///
/// Source: Steele, Lea and Flood 2014.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 2^64 divided by the golden ratio, the step of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACKET: ByteCount = ByteCount(1250); // 10 000 bits

    fn at(micros: u64) -> Timestamp {
        Timestamp(micros * 1000)
    }

    fn arrival(verdict: Verdict) -> Option<Timestamp> {
        match verdict {
            Verdict::Deliver(at) => Some(at),
            Verdict::Drop(_) => None,
        }
    }

    #[test]
    fn a_perfect_link_delivers_at_once_and_a_delay_adds_exactly_itself() {
        let mut perfect = LinkModel::new(Link::default(), 1);
        assert_eq!(perfect.offer(PACKET, at(5)), Verdict::Deliver(at(5)));
        let mut slow = LinkModel::new(Link::delay_ms(20), 1);
        assert_eq!(slow.offer(PACKET, at(5)), Verdict::Deliver(at(20_005)));
    }

    #[test]
    fn a_full_queue_drops_the_tail_and_drains_at_the_rate() {
        let mut link = LinkModel::new(Link::default().rate_mbps(10).queue_ms(10), 1);
        // Each packet takes 1 ms: one on the wire and ten waiting, the next one is too many.
        for n in 1..=11 {
            assert_eq!(link.offer(PACKET, at(0)), Verdict::Deliver(at(n * 1000)));
        }
        assert_eq!(link.offer(PACKET, at(0)), Verdict::Drop(LinkDrop::Tail));
        assert_eq!(link.offer(PACKET, at(1000)), Verdict::Deliver(at(12_000)));
    }

    #[test]
    fn a_cut_link_and_a_rate_of_zero_pass_nothing() {
        let mut link = LinkModel::new(Link::default().cut(true), 1);
        assert_eq!(link.offer(PACKET, at(0)), Verdict::Drop(LinkDrop::Cut));
        link.set(Link::default().rate_mbps(0));
        assert_eq!(link.offer(PACKET, at(0)), Verdict::Drop(LinkDrop::Tail));
        link.set(Link::default());
        assert_eq!(link.offer(PACKET, at(0)), Verdict::Deliver(at(0)));
    }

    #[test]
    fn a_shorter_delay_does_not_let_later_packets_overtake() {
        let mut link = LinkModel::new(Link::delay_ms(50), 1);
        let first = arrival(link.offer(PACKET, at(0)));
        link.set(Link::delay_ms(1));
        assert!(arrival(link.offer(PACKET, at(10))) >= first);
    }

    #[test]
    fn a_raised_rate_forgets_the_backlog_of_the_old_one() {
        let mut link = LinkModel::new(Link::default().rate_mbps(0), 1);
        link.set(Link::default().rate_mbps(1).queue_ms(1000));
        for _ in 0..50 {
            link.offer(PACKET, at(0));
        }
        link.set(Link::default().rate_mbps(100));
        assert!(arrival(link.offer(PACKET, at(0))).is_some());
    }

    #[test]
    fn reordering_happens_when_asked_for_and_loses_nothing() {
        let mut link = LinkModel::new(Link::delay_ms(5).reorder(0.1), 7);
        let arrivals: Vec<_> = (0..1000)
            .filter_map(|n| arrival(link.offer(PACKET, at(n * 100))))
            .collect();
        assert_eq!(arrivals.len(), 1000);
        let overtaken = arrivals.windows(2).filter(|w| w[1] < w[0]).count();
        assert!((40..150).contains(&overtaken), "{overtaken} were overtaken");
    }

    #[test]
    fn jitter_uses_the_whole_width_and_keeps_the_mean() {
        let mut link = LinkModel::new(Link::delay_ms(20).jitter_ms(2), 3);
        let delays: Vec<f64> = (0..200_000)
            .filter_map(|n| {
                let now = at(n * 100);
                arrival(link.offer(PACKET, now)).map(|then| then.since(now).as_secs_f64() * 1e3)
            })
            .collect();
        let mean = delays.iter().sum::<f64>() / delays.len() as f64;
        let (low, high) = delays
            .iter()
            .fold((f64::MAX, f64::MIN), |(l, h), d| (l.min(*d), h.max(*d)));
        assert!((mean - 20.0).abs() < 0.1, "mean {mean} ms");
        assert!((18.0..18.2).contains(&low) && (21.8..=22.0).contains(&high));
    }

    #[test]
    fn derived_seeds_differ_and_repeat() {
        let seeds: std::collections::BTreeSet<_> = (0..1000).map(|t| derive_seed(9, t)).collect();
        assert_eq!(seeds.len(), 1000);
        assert_eq!(derive_seed(9, 3), derive_seed(9, 3));
    }

    proptest! {
        #[test]
        fn jitter_never_reorders(
            seed: u64, delay in 0_u64..50, jitter in 0_u64..80, loss in 0.0..0.5,
            gaps in prop::collection::vec(0_u64..2_000_000, 1..300),
            changes in prop::collection::vec((0_usize..300, 0_u64..50, 0_u64..80), 0..4),
        ) {
            let mut link = LinkModel::new(Link::delay_ms(delay).jitter_ms(jitter).loss(loss), seed);
            let (mut now, mut last) = (Timestamp::ZERO, Timestamp::ZERO);
            for (n, gap) in gaps.into_iter().enumerate() {
                now += Duration::from_nanos(gap);
                if let Some((_, d, j)) = changes.iter().find(|c| c.0 == n) {
                    link.set(Link::delay_ms(*d).jitter_ms(*j).loss(loss));
                }
                if let Some(then) = arrival(link.offer(PACKET, now)) {
                    prop_assert!(then >= last && then >= now);
                    last = then;
                }
            }
        }

        #[test]
        fn jitter_stays_within_its_width(
            seed: u64, jitter in 1_u64..40, gaps in prop::collection::vec(0_u64..5_000_000, 1..200),
        ) {
            let mut link = LinkModel::new(Link::delay_ms(50).jitter_ms(jitter), seed);
            let mut now = Timestamp::ZERO;
            for gap in gaps {
                now += Duration::from_nanos(gap);
                let took = arrival(link.offer(PACKET, now)).unwrap().since(now);
                prop_assert!(took >= Duration::from_millis(50 - jitter));
                prop_assert!(took <= Duration::from_millis(50 + jitter));
            }
        }

        #[test]
        fn the_rate_is_never_exceeded(
            seed: u64, mbps in 1_u64..200,
            packets in prop::collection::vec((0_u64..300_000, 40_u64..1500), 10..400),
        ) {
            let mut link = LinkModel::new(Link::default().rate_mbps(mbps), seed);
            let (mut now, mut done) = (Timestamp::ZERO, Vec::new());
            for (gap, size) in packets {
                now += Duration::from_nanos(gap);
                if let Some(then) = arrival(link.offer(ByteCount(size), now)) {
                    prop_assert!(then.since(now) <= Link::default().queue + Duration::from_millis(13));
                    done.push((then, size));
                }
            }
            // Between any arrival and the last one no more bits came than the rate allows.
            let (end, _) = *done.last().unwrap();
            let mut bits = 0;
            for (then, size) in done.iter().rev() {
                let allowed = mbps as f64 * 1e6 * end.since(*then).as_secs_f64();
                prop_assert!(bits as f64 <= allowed + 8.0 * (1.0 + bits as f64 * 1e-6));
                bits += size * 8;
            }
        }

        #[test]
        fn loss_comes_close_to_what_was_asked(seed: u64, loss in 0.0..1.0) {
            let mut link = LinkModel::new(Link::default().loss(loss), seed);
            let lost = (0..20_000)
                .filter(|n| link.offer(PACKET, at(*n)) == Verdict::Drop(LinkDrop::Loss))
                .count() as f64 / 20_000.0;
            // Five standard deviations.
            prop_assert!((lost - loss).abs() < 5.0 * (loss * (1.0 - loss) / 20_000.0).sqrt() + 1e-3);
        }

        #[test]
        fn the_same_seed_gives_the_same_fates(seed: u64, gaps in prop::collection::vec(0_u64..1_000_000, 1..100)) {
            let link = Link::delay_ms(3).jitter_ms(2).loss(0.2).reorder(0.1).rate_mbps(20);
            let run = || {
                let (mut model, mut now) = (LinkModel::new(link, seed), Timestamp::ZERO);
                gaps.iter().map(|gap| { now += Duration::from_nanos(*gap); model.offer(PACKET, now) })
                    .collect::<Vec<_>>()
            };
            prop_assert_eq!(run(), run());
        }
    }
}
