//! What `--json` prints can be read back, and keeps its words.
#![cfg(feature = "serde")]

use std::time::Duration;

use vpnmesh_core::{
    Action, ActionKind, Cause, Decision, EnginePolicy, Evidence, Explanation, Forecast, Journal,
    Metric, NodeId, NodeSample, OutcomeKind, PathSample, Ratio, Timestamp,
};

fn forecast() -> Forecast {
    Forecast {
        probability: Ratio::saturating(0.7),
        horizon: Duration::from_secs(10),
        lead: Some(Duration::from_millis(2500)),
        evidence: vec![Evidence {
            metric: Metric::Loss,
            value: 0.05,
            contribution: 2.5,
        }],
        confidence: Ratio::ONE,
    }
}

#[test]
fn an_explanation_survives_json() {
    let mut journal = Journal::default();
    let cause = Cause::Forecast {
        forecast: forecast(),
        threshold: Ratio::saturating(0.6),
    };
    let kind = ActionKind::WarmStandby {
        node: NodeId(1),
        standby: NodeId(2),
    };
    let decision = Decision::Acted(kind);
    journal.handle_decision(Some(NodeId(1)), decision, cause.clone(), Timestamp(5));
    journal.handle_outcome(NodeId(1), OutcomeKind::StandbyReady, Timestamp(9));
    let entry = journal.entries().next().unwrap();
    let text = serde_json::to_string(entry).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), *entry);
    assert!(text.contains(r#""decision":{"acted":{"warm_standby":{"node":1,"standby":2}}}"#));
    let action = Action { kind, cause };
    let text = serde_json::to_string(&action).unwrap();
    assert_eq!(serde_json::from_str::<Action>(&text).unwrap(), action);
}

#[test]
fn a_sample_survives_json() {
    let sample = NodeSample {
        cpu: Ratio::new(0.5),
        paths: vec![PathSample {
            peer: NodeId(2),
            rtt: Some(Duration::from_micros(1234)),
            jitter: None,
            loss: Ratio::new(0.01),
            packets: 100,
        }],
        ..NodeSample::default()
    };
    let text = serde_json::to_string(&sample).unwrap();
    assert_eq!(serde_json::from_str::<NodeSample>(&text).unwrap(), sample);
}

#[test]
fn a_policy_may_name_only_what_differs_and_no_nonsense() {
    let policy: EnginePolicy = serde_json::from_str(
        r#"{"failover": {"threshold": 0.8}, "regions": {"eu": {"recede": 0.1}}}"#,
    )
    .unwrap();
    assert_eq!(policy.failover.threshold, Ratio::saturating(0.8));
    assert_eq!(
        policy.failover.recede,
        EnginePolicy::default().failover.recede
    );
    assert!(serde_json::from_str::<EnginePolicy>(r#"{"failover": {"threshold": 1.2}}"#).is_err());
}
