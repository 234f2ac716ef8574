//! Synthetic nodes with known fates: for calibrating and testing predictors.
//!
//! One seed makes one node. It has its own paths, noise, habits and sampling period; harmless
//! trouble comes and goes; some nodes ramp up and die.

use std::time::Duration;

use vpnmesh_core::{NodeId, NodeSample, PathSample, Ratio, Timestamp};

/// A stream of random numbers (`SplitMix64`): small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The stream of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between `low` and `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.between(0.0, 1.0) < probability
    }

    /// About normal: mean zero, deviation one.
    pub fn noise(&mut self) -> f64 {
        (0..12).map(|_| self.between(0.0, 1.0)).sum::<f64>() - 6.0
    }

    /// How many of `trials` succeed.
    pub fn count(&mut self, trials: u32, probability: f64) -> u32 {
        (0..trials)
            .map(|_| u32::from(self.happens(probability)))
            .sum()
    }
}

/// Trouble that grows along a straight line and then ends or stays.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ramp {
    /// When it begins.
    pub from: Timestamp,
    /// How long it grows.
    pub grows: Duration,
    /// How long it stays after that.
    pub stays: Duration,
    /// Loss added at its height.
    pub loss: f64,
    /// Delay added at its height.
    pub delay: Duration,
    /// Processor load at its height, if it has any.
    pub cpu: Option<f64>,
}

impl Ramp {
    /// The ramp of the documentation: 8 % loss, 60 ms, 95 % processor load.
    #[must_use]
    pub const fn deadly(from: Timestamp, grows: Duration) -> Self {
        Self {
            from,
            grows,
            stays: Duration::ZERO,
            loss: 0.08,
            delay: Duration::from_millis(60),
            cpu: Some(0.95),
        }
    }

    /// How much of it is there, in `0.0..=1.0`.
    fn height(&self, now: Timestamp) -> f64 {
        let since = now.since(self.from);
        if now < self.from || since > self.grows + self.stays {
            0.0
        } else {
            (since.as_secs_f64() / self.grows.as_secs_f64().max(1e-9)).min(1.0)
        }
    }
}

/// What a node is like when nothing is wrong.
#[derive(Clone, PartialEq, Debug)]
pub struct Habits {
    /// Time between samples.
    pub period: Duration,
    /// Round-trip time of each path.
    pub rtts: Vec<Duration>,
    /// Deviation of the round-trip times.
    pub rtt_noise: Duration,
    /// Probability that a sample's round-trip time is an outlier of up to 100 ms.
    pub spikes: f64,
    /// Loss of every path.
    pub loss: f64,
    /// Packets per path and sample.
    pub packets: u32,
    /// Processor load.
    pub cpu: f64,
    /// Probability per second that a second or two of harmless trouble begins.
    pub bursts: f64,
}

impl Habits {
    /// Anything from a quiet to a busy, noisy, lossy node.
    pub fn roll(dice: &mut Dice) -> Self {
        let paths = 2 + dice.bits() % 4;
        let millis = |value: f64| Duration::from_secs_f64(value / 1e3);
        Self {
            period: Duration::from_millis(100 + 50 * (dice.bits() % 4)),
            rtts: (0..paths)
                .map(|_| millis(dice.between(2.0, 120.0)))
                .collect(),
            rtt_noise: millis(dice.between(0.1, 3.0)),
            spikes: dice.between(0.0, 0.02),
            loss: dice.between(0.0, 0.01),
            packets: 10 + (dice.bits() % 41) as u32,
            cpu: dice.between(0.05, 1.0),
            bursts: dice.between(0.0, 0.02),
        }
    }

    /// One percent loss and a full processor, noisy, but no bursts.
    #[must_use]
    pub fn lossy_and_busy(period: Duration) -> Self {
        Self {
            period,
            rtts: vec![Duration::from_millis(20), Duration::from_millis(80)],
            rtt_noise: Duration::from_millis(3),
            spikes: 0.02,
            loss: 0.01,
            packets: 20,
            cpu: 1.0,
            bursts: 0.0,
        }
    }
}

/// A node that makes samples.
#[derive(Clone, Debug)]
pub struct SyntheticNode {
    habits: Habits,
    ramps: Vec<Ramp>,
    dice: Dice,
    now: Timestamp,
    wander: f64, // of the processor load
    burst: Option<Ramp>,
}

impl SyntheticNode {
    /// A node of these habits that meets these ramps.
    #[must_use]
    pub const fn new(habits: Habits, ramps: Vec<Ramp>, seed: u64) -> Self {
        Self {
            habits,
            ramps,
            dice: Dice::new(seed),
            now: Timestamp::ZERO,
            wander: 0.0,
            burst: None,
        }
    }

    /// The next sample and its time.
    pub fn sample(&mut self) -> (Timestamp, NodeSample) {
        self.now += self.habits.period;
        self.roll_burst();
        let troubles = self.ramps.iter().chain(&self.burst);
        let (mut loss, mut delay, mut cpu) = (self.habits.loss, 0.0, self.habits.cpu);
        for ramp in troubles {
            let height = ramp.height(self.now);
            loss += height * ramp.loss;
            delay += height * ramp.delay.as_secs_f64();
            let risen = ramp
                .cpu
                .map_or(cpu, |top| cpu + height * (top - cpu).max(0.0));
            cpu = cpu.max(risen);
        }
        self.wander = 0.9 * self.wander + 0.02 * self.dice.noise();
        let paths = (0..self.habits.rtts.len())
            .map(|at| self.path(at, loss, delay))
            .collect();
        let sample = NodeSample {
            cpu: Some(Ratio::saturating(cpu + self.wander)),
            memory: Some(Ratio::saturating(0.4)),
            paths,
            ..NodeSample::default()
        };
        (self.now, sample)
    }

    fn path(&mut self, at: usize, loss: f64, delay: f64) -> PathSample {
        let habits = &self.habits;
        let dice = &mut self.dice;
        let spike = if dice.happens(habits.spikes) {
            dice.between(0.0, 0.1)
        } else {
            0.0
        };
        let noise = habits.rtt_noise.as_secs_f64() * dice.noise();
        let rtt = (habits.rtts[at].as_secs_f64() + delay + spike + noise).max(0.0001);
        let lost = dice.count(habits.packets, loss);
        PathSample {
            peer: NodeId(at as u64),
            rtt: Some(Duration::from_secs_f64(rtt)),
            jitter: Some(habits.rtt_noise),
            loss: Some(Ratio::of(u64::from(lost), u64::from(habits.packets))),
            packets: habits.packets,
        }
    }

    /// Harmless trouble: as steep as a deadly ramp may be, but short and of one kind.
    fn roll_burst(&mut self) {
        let period = self.habits.period.as_secs_f64();
        if !self.dice.happens(self.habits.bursts * period) {
            return;
        }
        let lossy = self.dice.happens(0.5);
        let millis = |value: f64| Duration::from_secs_f64(value / 1e3);
        self.burst = Some(Ramp {
            from: self.now,
            grows: millis(self.dice.between(50.0, 500.0)),
            stays: millis(self.dice.between(100.0, 1500.0)),
            loss: if lossy {
                self.dice.between(0.0, 0.06)
            } else {
                0.0
            },
            delay: millis(if lossy {
                0.0
            } else {
                self.dice.between(0.0, 40.0)
            }),
            cpu: None,
        });
    }
}

/// A node's life with a known end.
#[derive(Clone, Debug)]
pub struct Life {
    /// Makes the samples.
    pub node: SyntheticNode,
    /// When it dies, if it does.
    pub dies_at: Option<Timestamp>,
    /// How long it is watched at most.
    pub ends_at: Timestamp,
}

impl Life {
    /// One node of ten ramps up and dies, one of four meets a ramp that stops half way or earlier,
    /// the rest stay well.
    #[must_use]
    pub fn roll(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let habits = Habits::roll(&mut dice);
        let secs = |value: f64| Duration::from_secs_f64(value);
        let from = Timestamp::ZERO + secs(dice.between(10.0, 240.0));
        let grows = secs(dice.between(4.0, 12.0));
        let mut ramp = Ramp::deadly(from, grows);
        let fate = dice.between(0.0, 1.0);
        let deadly = fate < 0.1;
        let scale = match fate {
            0.0..0.1 => dice.between(0.8, 1.5),
            0.1..0.35 => dice.between(0.1, 0.5),
            _ => 0.0,
        };
        ramp.loss *= scale;
        ramp.delay = ramp.delay.mul_f64(scale);
        ramp.cpu = ramp.cpu.filter(|_| scale > 0.0 && dice.happens(0.7));
        ramp.stays = secs(if deadly { 0.0 } else { dice.between(1.0, 20.0) });
        let dies_at = deadly.then_some(from + grows);
        Self {
            node: SyntheticNode::new(habits, vec![ramp], dice.bits()),
            dies_at,
            ends_at: dies_at.unwrap_or(Timestamp::ZERO + secs(240.0)),
        }
    }
}
