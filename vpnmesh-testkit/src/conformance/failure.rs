//! The contract of [`FailurePredictor`].

use std::time::Duration;

use vpnmesh_core::{FailurePredictor, Forecast, NodeId, NodeSample, PathSample, Ratio, Timestamp};

/// Checks that predictors made by `make` say nothing of strangers, are deterministic, bear missing
/// values and gaps, see a deadly ramp rise above a quiet life, keep nodes apart and forget.
///
/// # Panics
/// With the rule that was broken.
pub fn check_failure_predictor(make: impl Fn() -> Box<dyn FailurePredictor>) {
    let fresh = make();
    let unknown = fresh.forecast(NODE, HORIZON, Timestamp::ZERO);
    assert!(
        unknown.is_none(),
        "a node never seen has no forecast: {unknown:?}"
    );

    let dying = live(&mut *make(), |at| sample(f64::from(at) / 200.0));
    assert_eq!(
        dying,
        live(&mut *make(), |at| sample(f64::from(at) / 200.0)),
        "the same samples give the same forecast"
    );
    let quiet = live(&mut *make(), |_| sample(0.0));
    let risk = |forecast: &Option<Forecast>| forecast.as_ref().map(|forecast| forecast.probability);
    assert!(
        risk(&dying) > risk(&quiet),
        "a deadly ramp is riskier than a quiet life"
    );
    if let Some(dying) = &dying {
        let rising = dying
            .evidence
            .is_sorted_by(|a, b| a.contribution >= b.contribution);
        assert!(
            rising,
            "evidence comes by contribution: {:?}",
            dying.evidence
        );
        assert_eq!(
            dying.horizon, HORIZON,
            "the forecast speaks of the horizon that was asked"
        );
    }

    let mut holey = make();
    live(&mut *holey, |at| {
        if at % 3 == 0 {
            NodeSample::default()
        } else {
            sample(0.1)
        }
    });
    let late = Timestamp::ZERO + Duration::from_secs(100_000);
    holey.observe(
        NODE,
        &NodeSample {
            load: Some(f64::NAN),
            ..NodeSample::default()
        },
        late,
    );
    let _ = holey.forecast(NODE, HORIZON, late);

    let mut two = make();
    live(&mut *two, |at| sample(f64::from(at) / 200.0));
    assert!(
        two.forecast(OTHER, HORIZON, late).is_none(),
        "samples of one node say nothing of another"
    );
}

fn live(
    predictor: &mut dyn FailurePredictor,
    sample: impl Fn(u32) -> NodeSample,
) -> Option<Forecast> {
    let mut now = Timestamp::ZERO;
    for at in 0..200 {
        now += Duration::from_millis(200);
        predictor.observe(NODE, &sample(at), now);
    }
    predictor.forecast(NODE, HORIZON, now)
}

/// A node in trouble from 0 (none) to 1 (nobody can work).
fn sample(trouble: f64) -> NodeSample {
    let path = |peer| PathSample {
        peer: NodeId(peer),
        rtt: Some(Duration::from_secs_f64(0.02 + 0.2 * trouble)),
        jitter: Some(Duration::from_secs_f64(0.001 + 0.05 * trouble)),
        loss: Ratio::new(0.2 * trouble),
        packets: 50,
    };
    NodeSample {
        cpu: Ratio::new(0.3 + 0.6 * trouble),
        memory: Ratio::new(0.4),
        forwarding_drops: Ratio::new(0.1 * trouble),
        paths: vec![path(11), path(12)],
        ..NodeSample::default()
    }
}

const NODE: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const HORIZON: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_predictor_conforms() {
        check_failure_predictor(|| Box::new(vpnmesh_core::ThresholdPredictor::new()));
    }

    #[test]
    fn the_trend_predictor_conforms() {
        check_failure_predictor(|| Box::new(vpnmesh::predict::TrendPredictor::new()));
    }

    #[test]
    fn the_learned_predictor_without_weights_conforms() {
        check_failure_predictor(|| Box::new(vpnmesh::predict::LearnedPredictor::default()));
    }
}
