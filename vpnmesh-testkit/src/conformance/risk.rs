//! The contract of [`RiskScorer`].

use std::time::Duration;

use vpnmesh_core::{ConnectionSample, RiskScore, RiskScorer, Timestamp};

/// Checks that scorers made by `make` for about 1000 connections are deterministic, keep connections
/// apart, stay bounded under a storm, forget, and find a flood riskier than a quiet exchange.
///
/// # Panics
/// With the rule that was broken.
pub fn check_risk_scorer(make: impl Fn() -> Box<dyn RiskScorer>) {
    let mut scorer = make();
    let mut twin = make();
    let quiet = run(&mut *scorer, 1, &quiet());
    assert_eq!(
        quiet,
        run(&mut *twin, 1, &self::quiet()),
        "the same samples give the same score"
    );
    let flood = run(&mut *scorer, 2, &flood());
    assert!(
        flood.abuse > quiet.abuse,
        "a flood is riskier than a quiet exchange: {flood:?} {quiet:?}"
    );
    let again = run(&mut *scorer, 1, &self::quiet());
    assert!(
        again.abuse < flood.abuse,
        "a flood says nothing of another connection"
    );

    let before = scorer.tracked();
    scorer.forget(2);
    scorer.forget(3);
    assert_eq!(
        scorer.tracked() + 1,
        before,
        "what ended is not tracked, and only that"
    );
    for connection in 0..100_000_u64 {
        let now = Timestamp(connection * 1000);
        scorer.observe(
            connection.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            &self::flood(),
            now,
        );
    }
    assert!(
        scorer.tracked() <= 4000,
        "a storm does not grow the table: {}",
        scorer.tracked()
    );
}

fn run(scorer: &mut dyn RiskScorer, connection: u64, sample: &ConnectionSample) -> RiskScore {
    let mut now = Timestamp::ZERO;
    let mut score = scorer.observe(connection, sample, now);
    for _ in 0..30 {
        now += Duration::from_millis(100);
        score = scorer.observe(connection, sample, now);
    }
    score
}

fn quiet() -> ConnectionSample {
    ConnectionSample {
        packets_in: 3,
        packets_out: 4,
        bytes_in: 400,
        bytes_out: 3000,
        gap: Some(Duration::from_millis(100)),
        requests: 1,
        ..ConnectionSample::default()
    }
}

fn flood() -> ConnectionSample {
    ConnectionSample {
        packets_in: 2000,
        bytes_in: 80_000,
        gap: Some(Duration::from_millis(100)),
        failures: 2,
        ..ConnectionSample::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_scorer_conforms() {
        check_risk_scorer(|| Box::new(vpnmesh_core::PlainScorer::new(1000)));
    }

    #[test]
    fn the_learned_scorer_conforms() {
        check_risk_scorer(|| Box::new(vpnmesh::predict::LearnedScorer::new(1000)));
    }
}
