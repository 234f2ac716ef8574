//! The contract of [`TrafficPredictor`].

use std::time::Duration;

use vpnmesh_core::{Bandwidth, DemandSample, Ratio, SiteId, SitePair, Timestamp, TrafficPredictor};

/// Checks that predictors made by `make` say nothing of strangers, are deterministic, bear missing
/// values, expect a steady demand to stay, hold it in the interval, rank by demand and forget.
///
/// # Panics
/// With the rule that was broken.
pub fn check_traffic_predictor(make: impl Fn() -> Box<dyn TrafficPredictor>) {
    assert!(
        make()
            .forecast(pair(1, 2), AHEAD, Timestamp::ZERO)
            .is_none(),
        "nothing is known at first"
    );
    let (mut predictor, now) = fed(make());
    let (twin, _) = fed(make());
    let said = predictor.ranked(AHEAD, now, usize::MAX);
    assert_eq!(
        said,
        twin.ranked(AHEAD, now, usize::MAX),
        "the same samples give the same forecasts"
    );
    assert!(
        said.is_sorted_by(|a, b| a.bandwidth >= b.bandwidth),
        "the greatest demand comes first"
    );
    assert!(
        predictor.ranked(AHEAD, now, 1).len() <= 1,
        "the limit holds"
    );

    let steady = predictor.forecast(pair(1, 2), AHEAD, now);
    let steady = steady.filter(|steady| steady.bandwidth.0.abs_diff(RATE) < RATE / 10);
    let Some(steady) = steady else {
        panic!("a steady demand is expected to stay");
    };
    assert!(
        steady.low <= steady.bandwidth && steady.bandwidth <= steady.high,
        "the value lies in its interval"
    );
    assert!(
        steady.low.0 <= RATE && RATE <= steady.high.0,
        "a steady demand lies in the interval"
    );
    assert!(
        steady.confidence > Ratio::ZERO,
        "much was seen of this pair"
    );

    predictor.forget(SiteId(1));
    let left = predictor.ranked(AHEAD, now, usize::MAX);
    let gone = left
        .iter()
        .all(|f| f.pair.from != SiteId(1) && f.pair.to != SiteId(1));
    assert!(gone, "a site that left is not ranked: {left:?}");
}

fn fed(mut predictor: Box<dyn TrafficPredictor>) -> (Box<dyn TrafficPredictor>, Timestamp) {
    let mut now = Timestamp::ZERO;
    for at in 0..400_u64 {
        now += Duration::from_secs(300);
        let wave = 1000 + 400 * (at % 7);
        let missing = DemandSample {
            loss: Ratio::new(0.5),
            ..DemandSample::default()
        };
        predictor.observe(pair(1, 2), &sample(RATE), now);
        predictor.observe(pair(2, 3), &sample(wave), now);
        predictor.observe(
            pair(3, 4),
            &if at % 5 == 0 { missing } else { sample(0) },
            now,
        );
    }
    (predictor, now)
}

fn sample(bps: u64) -> DemandSample {
    DemandSample {
        bandwidth: Some(Bandwidth(bps)),
        ..DemandSample::default()
    }
}

const fn pair(from: u64, to: u64) -> SitePair {
    SitePair {
        from: SiteId(from),
        to: SiteId(to),
    }
}

const AHEAD: Duration = Duration::from_secs(300);
const RATE: u64 = 5_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_predictor_conforms() {
        check_traffic_predictor(|| Box::new(vpnmesh_core::SmoothedDemand::new()));
    }

    #[test]
    fn the_learned_predictor_conforms() {
        let make = || vpnmesh::predict::LearnedDemand::new(Duration::from_secs(300));
        check_traffic_predictor(|| Box::new(make()));
    }
}
