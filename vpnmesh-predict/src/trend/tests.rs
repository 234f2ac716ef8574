use proptest::prelude::*;
use vpnmesh_core::PathSample;

use super::*;
use crate::synthetic::{Dice, Habits, Life, Ramp, SyntheticNode};

const NODE: NodeId = NodeId(1);
const HORIZON: Duration = Duration::from_secs(10);
const THRESHOLD: f64 = 0.6;

fn at(secs: f64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs_f64(secs)
}

/// Feeds samples until `end`; the first time of an alarm.
fn first_alarm(node: &mut SyntheticNode, end: Timestamp) -> Option<Timestamp> {
    let mut predictor = TrendPredictor::new();
    loop {
        let (now, sample) = node.sample();
        if now > end {
            return None;
        }
        predictor.observe(NODE, &sample, now);
        let forecast = predictor.forecast(NODE, HORIZON, now);
        if forecast.is_some_and(|f| f.probability.get() >= THRESHOLD) {
            return Some(now);
        }
    }
}

/// What is forecast after samples every 200 ms.
fn after(samples: impl Iterator<Item = NodeSample>) -> Option<Forecast> {
    let mut predictor = TrendPredictor::new();
    let mut now = Timestamp::ZERO;
    for sample in samples {
        now += Duration::from_millis(200);
        predictor.observe(NODE, &sample, now);
    }
    predictor.forecast(NODE, HORIZON, now)
}

fn sample(cpu: f64, rtt_ms: f64, loss: f64) -> NodeSample {
    let path = |peer| PathSample {
        peer: NodeId(peer),
        rtt: Some(Duration::from_secs_f64(rtt_ms / 1e3)),
        jitter: None,
        loss: Ratio::new(loss),
        packets: 20,
    };
    NodeSample {
        cpu: Ratio::new(cpu),
        paths: vec![path(1), path(2)],
        ..NodeSample::default()
    }
}

#[test]
fn nothing_is_said_while_too_little_is_known() {
    assert_eq!(after((0..7).map(|_| sample(1.0, 500.0, 1.0))), None);
    assert!(after((0..8).map(|_| sample(0.1, 20.0, 0.0))).is_some());
}

#[test]
fn a_full_processor_alone_is_no_alarm_however_it_got_there() {
    let ramp = after((0..100).map(|at| sample(f64::from(at) / 99.0, 20.0, 0.0)));
    assert!(ramp.unwrap().probability < Ratio::saturating(0.1));
}

#[test]
fn single_spikes_are_no_alarm() {
    for (loss, rtt) in [(1.0, 20.0), (0.0, 900.0), (1.0, 900.0)] {
        let spike = |at| {
            if at == 99 {
                sample(1.0, rtt, loss)
            } else {
                sample(1.0, 20.0, 0.0)
            }
        };
        let forecast = after((0..100).map(spike)).unwrap();
        assert!(
            forecast.probability.get() < THRESHOLD,
            "{loss} {rtt}: {forecast:?}"
        );
    }
}

#[test]
fn a_longer_way_is_no_alarm_and_becomes_usual() {
    let mut predictor = TrendPredictor::new();
    let mut now = Timestamp::ZERO;
    for round in 0..3000 {
        now += Duration::from_millis(200);
        let rtt = if round < 300 { 20.0 } else { 70.0 };
        predictor.observe(NODE, &sample(0.3, rtt, 0.0), now);
        if let Some(forecast) = predictor.forecast(NODE, HORIZON, now) {
            assert!(
                forecast.probability.get() < THRESHOLD,
                "round {round}: {forecast:?}"
            );
        }
    }
    let forecast = predictor.forecast(NODE, HORIZON, now).unwrap();
    assert!(
        forecast.probability < Ratio::saturating(0.05),
        "{forecast:?}"
    );
}

#[test]
fn grave_lasting_loss_alone_is_an_alarm() {
    let forecast = after((0..120).map(|at| sample(0.2, 20.0, if at < 100 { 0.0 } else { 0.4 })));
    let forecast = forecast.unwrap();
    assert!(forecast.probability.get() >= THRESHOLD, "{forecast:?}");
    assert_eq!(forecast.evidence[0].metric, Metric::Loss);
}

/// Loss and delay grow for eight seconds and stay; the processor is full from the second one on.
/// The node has lived for `lived` seconds before.
#[test]
fn a_ramp_does_not_become_usual_because_the_node_is_young() {
    for lived in [2, 4, 8, 30, 300] {
        let mut predictor = TrendPredictor::new();
        let (mut alarm, mut risks) = (None, Vec::new());
        for round in 0..(lived + 12) * 5 {
            let into = (f64::from(round) / 5.0 - f64::from(lived)).clamp(0.0, 8.0);
            let cpu = if into > 1.0 { 0.8 } else { 0.08 };
            let step = (into / 0.4).floor();
            let now = at(f64::from(round) / 5.0);
            let measured = sample(cpu, 44.0 + 4.0 * step, 0.005 * step); // loss is seen late
            predictor.observe(NODE, &measured, now);
            let forecast = predictor.forecast(NODE, HORIZON, now);
            let risk = forecast.map_or(0.0, |f| f.probability.get());
            if into > 0.0 && alarm.is_none() && risk >= THRESHOLD {
                alarm = Some(into);
            }
            if alarm.is_some() {
                risks.push((risk * 100.0).round());
            }
        }
        assert!(alarm.is_some_and(|after| after < 7.0), "{lived}: {alarm:?}");
        assert!(
            risks.iter().all(|risk| *risk >= 30.0),
            "{lived}: the alarm is called off: {risks:?}"
        );
    }
}

#[test]
fn the_death_of_most_peers_is_not_ones_own() {
    let mut predictor = TrendPredictor::new();
    let mut now = Timestamp::ZERO;
    for round in 0..200 {
        now += Duration::from_millis(200);
        let mut all = sample(0.9, 20.0, 0.0);
        for peer in 3..6 {
            let dying = if round == 100 { 0.5 } else { 1.0 };
            let loss = if round < 100 { 0.0 } else { dying };
            all.paths.extend(
                sample(0.9, 20.0, loss)
                    .paths
                    .first()
                    .map(|path| PathSample {
                        peer: NodeId(peer),
                        ..*path
                    }),
            );
        }
        all.paths.remove(0);
        predictor.observe(NODE, &all, now);
        if let Some(forecast) = predictor.forecast(NODE, HORIZON, now) {
            assert!(
                forecast.probability.get() < THRESHOLD,
                "round {round}: {forecast:?}"
            );
        }
    }
}

#[test]
fn evidence_and_lead_time_point_at_the_ramp() {
    let ramp = |at: i32| {
        let height = f64::from((at - 100).max(0)) / 35.0;
        sample(0.2 + 0.75 * height, 20.0 + 60.0 * height, 0.08 * height)
    };
    let forecast = after((0..115).map(ramp)).unwrap();
    assert!(forecast.probability.get() >= THRESHOLD, "{forecast:?}");
    let metrics: Vec<Metric> = forecast.evidence.iter().map(|e| e.metric).collect();
    assert!(metrics.contains(&Metric::Rtt) && metrics.contains(&Metric::Loss));
    let lead = forecast.lead.unwrap().as_secs_f64();
    assert!(
        (0.5..6.0).contains(&lead),
        "the limits are reached in about 2 s: {lead}"
    );
}

#[test]
fn what_is_missing_lowers_confidence_and_breaks_nothing() {
    let full = after((0..100).map(|_| sample(0.2, 20.0, 0.0))).unwrap();
    let bare = after((0..100).map(|_| NodeSample::default())).unwrap();
    assert!(bare.confidence < full.confidence);
    let gaps = |at: i32| {
        let height = f64::from((at - 100).max(0)) / 35.0;
        let whole = sample(0.2, 20.0 + 60.0 * height, 0.08 * height);
        if at % 3 == 0 {
            NodeSample::default()
        } else {
            whole
        }
    };
    assert!(after((0..125).map(gaps)).unwrap().probability.get() >= THRESHOLD);
}

#[test]
fn an_hour_of_one_percent_loss_and_full_load_is_no_alarm() {
    for (seed, period) in [(1, 100), (2, 200), (3, 250)] {
        let habits = Habits::lossy_and_busy(Duration::from_millis(period));
        let mut node = SyntheticNode::new(habits, Vec::new(), seed);
        assert_eq!(first_alarm(&mut node, at(3600.0)), None, "seed {seed}");
    }
}

#[test]
fn a_hundred_hours_of_noisy_steady_state_give_no_false_alarm() {
    let mut alarms = Vec::new();
    for seed in 0..100 {
        let mut dice = Dice::new(seed);
        let habits = Habits::roll(&mut dice);
        let mut node = SyntheticNode::new(habits.clone(), Vec::new(), dice.bits());
        let alarm = first_alarm(&mut node, at(3600.0));
        alarms.extend(alarm.map(|alarm| (seed, alarm, habits)));
    }
    println!("false alarms in 100 simulated hours: {}", alarms.len());
    assert!(alarms.is_empty(), "{alarms:?}");
}

#[test]
fn nearly_all_ramps_are_seen_before_their_end() {
    let mut seen = Vec::new();
    for seed in 0..1000 {
        let mut dice = Dice::new(seed);
        let habits = Habits {
            cpu: 0.2,
            ..Habits::roll(&mut dice)
        };
        let grows = Duration::from_secs_f64(dice.between(5.0, 8.0));
        let ramp = Ramp::deadly(at(20.0), grows);
        let mut node = SyntheticNode::new(habits, vec![ramp], dice.bits());
        let alarm = first_alarm(&mut node, ramp.from + grows);
        seen.extend(
            alarm
                .filter(|at| *at >= ramp.from)
                .map(|at| at.since(ramp.from)),
        );
    }
    seen.sort();
    let quantile = |share: f64| seen[((seen.len() - 1) as f64 * share) as usize];
    println!(
        "ramps of 5 to 8 s seen before their end: {} of 1000; after p50 {:?}, p90 {:?}, p99 {:?}",
        seen.len(),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
    );
    assert!(seen.len() >= 990);
    assert!(quantile(0.5) <= Duration::from_secs(2));
}

/// One tenth of all risks: forecasts, sum of what was said, deaths.
#[derive(Clone, Copy, Default)]
struct Bin(u32, f64, u32);

/// Said risks against what came, over lives that the knots were not fitted on.
fn reliability(horizon: Duration) -> [Bin; 10] {
    let mut bins = [Bin::default(); 10];
    for seed in 20_000..21_000 {
        let mut life = Life::roll(seed);
        let mut predictor = TrendPredictor::new();
        loop {
            let (now, sample) = life.node.sample();
            if now > life.ends_at {
                break;
            }
            predictor.observe(NODE, &sample, now);
            let Some(forecast) = predictor.forecast(NODE, horizon, now) else {
                continue;
            };
            let dies = life.dies_at.is_some_and(|dies| dies.since(now) <= horizon);
            let risk = forecast.probability.get();
            let bin = &mut bins[((risk * 10.0) as usize).min(9)];
            *bin = Bin(bin.0 + 1, bin.1 + risk, bin.2 + u32::from(dies));
        }
    }
    bins
}

#[test]
fn the_risk_means_what_it_says() {
    let bins = reliability(HORIZON);
    let all: u32 = bins.iter().map(|bin| bin.0).sum();
    for (tenth, Bin(count, said, died)) in bins.iter().enumerate() {
        let each = |sum: f64| sum / f64::from((*count).max(1));
        println!(
            "risks from 0.{tenth}: {count} forecasts, said {:.3}, came {:.3}",
            each(*said),
            each(f64::from(*died))
        );
    }
    let gap = |bin: &Bin| (bin.1 - f64::from(bin.2)).abs();
    let error = bins.iter().map(gap).sum::<f64>() / f64::from(all);
    let risky = &bins[1..];
    let forecasts: u32 = risky.iter().map(|bin| bin.0).sum();
    let risky_error = risky.iter().map(gap).sum::<f64>() / f64::from(forecasts);
    println!(
        "expected calibration error: {error:.4} of {all} forecasts, {risky_error:.4} of {forecasts} above 0.1"
    );
    assert!(error <= 0.02, "{error}");
    assert!(risky_error <= 0.1, "{risky_error}");
}

proptest! {
    #[test]
    fn risk_never_falls_as_the_horizon_grows(seed in any::<u64>(), rounds in 8_u32..400) {
        let mut life = Life::roll(seed);
        let mut predictor = TrendPredictor::new();
        let mut now = Timestamp::ZERO;
        for _ in 0..rounds {
            let (at, sample) = life.node.sample();
            predictor.observe(NODE, &sample, at);
            now = at;
        }
        let risk = |secs| {
            let forecast = predictor.forecast(NODE, Duration::from_secs(secs), now);
            forecast.map(|forecast| forecast.probability)
        };
        prop_assert!(risk(1) <= risk(5) && risk(5) <= risk(10) && risk(10) <= risk(600));
    }

    #[test]
    fn any_sample_gives_a_sane_forecast_twice_the_same(
        values in proptest::collection::vec((any::<f64>(), 0.0..1.0, 0_u64..100_000_000, 0_u64..5_000), 8..60)
    ) {
        let run = || {
            let mut predictor = TrendPredictor::new();
            let mut now = Timestamp::ZERO;
            for (wild, share, rtt_us, pause_ms) in &values {
                now += Duration::from_millis(*pause_ms);
                let odd = NodeSample {
                    load: Some(*wild),
                    scheduling_delay: Some(Duration::from_micros(*rtt_us)),
                    memory_stall: Ratio::new(*share),
                    ..sample(*share, *rtt_us as f64 / 1e3, *share)
                };
                predictor.observe(NODE, &odd, now);
            }
            predictor.forecast(NODE, HORIZON, now)
        };
        let forecast = run();
        prop_assert_eq!(&forecast, &run());
        for part in forecast.iter().flat_map(|forecast| &forecast.evidence) {
            prop_assert!(part.value.is_finite() && part.contribution.is_finite(), "{part:?}");
        }
    }
}
