//! One promise and whether it held.

use serde::{Deserialize, Serialize, Serializer};

/// A figure that a run must reach. In JSON exactly
/// `{"act", "name", "value", "limit", "unit", "held"}`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Promise {
    /// The act or acts it belongs to.
    pub act: String,
    /// What is promised.
    pub name: String,
    /// What was measured; `None` (`null`) if it could not be.
    #[serde(serialize_with = "plain_option")]
    pub value: Option<f64>,
    /// The figure promised.
    #[serde(serialize_with = "plain")]
    pub limit: f64,
    /// Unit of both.
    pub unit: String,
    /// Whether it held. What could not be measured did not hold.
    pub held: bool,
}

impl Promise {
    /// Promises that `value` is not greater than `limit`.
    #[must_use]
    pub fn at_most(act: &str, name: &str, value: Option<f64>, limit: f64, unit: &str) -> Self {
        let held = value.is_some_and(|value| value <= limit);
        Self::new(act, name, value, limit, unit, held)
    }

    /// Promises that `value` is not smaller than `limit`.
    #[must_use]
    pub fn at_least(act: &str, name: &str, value: Option<f64>, limit: f64, unit: &str) -> Self {
        let held = value.is_some_and(|value| value >= limit);
        Self::new(act, name, value, limit, unit, held)
    }

    /// Promises that `count` is zero.
    #[must_use]
    pub fn none(act: &str, name: &str, count: u64, unit: &str) -> Self {
        Self::at_most(act, name, Some(count as f64), 0.0, unit)
    }

    fn new(act: &str, name: &str, value: Option<f64>, limit: f64, unit: &str, held: bool) -> Self {
        Self {
            act: act.to_owned(),
            name: name.to_owned(),
            value: value.filter(|value| value.is_finite()),
            limit,
            unit: unit.to_owned(),
            held,
        }
    }

    /// The value as people read it.
    #[must_use]
    pub fn value_text(&self) -> String {
        self.value.map_or_else(|| "not measured".to_owned(), text)
    }

    /// The limit as people read it.
    #[must_use]
    pub fn limit_text(&self) -> String {
        text(self.limit)
    }
}

/// A figure with as many decimals as matter.
#[must_use]
pub fn text(value: f64) -> String {
    if is_whole(value) || value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn is_whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() < 1e15
}

/// Whole numbers as such: `0`, not `0.0`.
fn plain<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if is_whole(*value) {
        to.serialize_i64(*value as i64)
    } else {
        to.serialize_f64(*value)
    }
}

#[allow(clippy::ref_option)] // the signature that serde asks for
fn plain_option<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => plain(value, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_exactly_these_names() {
        let promise = Promise::none("2", "datagrams lost", 0, "datagrams");
        assert_eq!(
            serde_json::to_string(&promise).unwrap(),
            r#"{"act":"2","name":"datagrams lost","value":0,"limit":0,"unit":"datagrams","held":true}"#
        );
    }

    #[test]
    fn a_limit_reached_exactly_is_held() {
        assert!(Promise::at_most("4", "silence", Some(300.0), 300.0, "ms").held);
        assert!(!Promise::at_most("4", "silence", Some(300.1), 300.0, "ms").held);
        assert!(Promise::at_least("4", "samples", Some(60.0), 60.0, "samples").held);
        assert!(!Promise::at_least("4", "samples", Some(59.0), 60.0, "samples").held);
    }

    #[test]
    fn what_was_not_measured_did_not_hold() {
        for value in [None, Some(f64::NAN)] {
            let promise = Promise::at_most("4", "silence", value, 300.0, "ms");
            assert!(!promise.held);
            let json = serde_json::to_string(&promise).unwrap();
            assert!(json.contains(r#""value":null"#), "{json}");
            assert_eq!(serde_json::from_str::<Promise>(&json).unwrap(), promise);
        }
    }

    #[test]
    fn figures_show_the_decimals_that_matter() {
        let texts = [0.0, 300.0, 4.126, 41.26, 12_345.6].map(text);
        assert_eq!(texts, ["0", "300", "4.13", "41.3", "12346"]);
    }
}
