//! Who says how much traffic is to come between sites.

mod smoothed;

use std::fmt::Debug;
use std::time::Duration;

use crate::{Bandwidth, Ratio, SiteId, Timestamp};

pub use smoothed::SmoothedDemand;

/// An ordered pair of sites: traffic from one to the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SitePair {
    /// Where the traffic enters the mesh.
    pub from: SiteId,
    /// Where it leaves it.
    pub to: SiteId,
}

/// What one period of one pair showed. A missing value was not measured.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DemandSample {
    /// Mean rate over the period.
    pub bandwidth: Option<Bandwidth>,
    /// Smoothed round-trip time between the sites.
    pub rtt: Option<Duration>,
    /// Share of packets lost: with loss, the rate says less about the demand.
    pub loss: Option<Ratio>,
    /// Share of the traffic that is interactive, where the operator permits to look.
    pub interactive: Option<Ratio>,
    /// Users behind the pair whose role makes them count, if the operator names roles.
    pub active_users: Option<u32>,
}

/// The demand that is expected of one pair.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DemandForecast {
    /// Which pair.
    pub pair: SitePair,
    /// Expected mean rate.
    pub bandwidth: Bandwidth,
    /// Nine times of ten the truth is not below.
    pub low: Bandwidth,
    /// Nine times of ten the truth is not above.
    pub high: Bandwidth,
    /// How much the predictor knows of this pair: 0 is a guess from its neighbours.
    pub confidence: Ratio,
}

/// Says how much traffic each ordered pair of sites will ask for.
///
/// Implementations are deterministic: the same samples in the same order give the same forecasts.
/// They bear missing values and gaps, keep a bounded store and say nothing rather than NaN.
pub trait TrafficPredictor: Debug + Send {
    /// Takes in one sample. Samples of a pair come in time order.
    fn observe(&mut self, pair: SitePair, sample: &DemandSample, now: Timestamp);

    /// The demand of `pair` at `now + ahead`; `None` while nothing is known of it or its neighbours.
    fn forecast(&self, pair: SitePair, ahead: Duration, now: Timestamp) -> Option<DemandForecast>;

    /// The `limit` pairs of the greatest expected demand, greatest first.
    fn ranked(&self, ahead: Duration, now: Timestamp, limit: usize) -> Vec<DemandForecast>;

    /// One of the sites left the mesh.
    fn forget(&mut self, site: SiteId);
}

const _: Option<&dyn TrafficPredictor> = None; // must stay object safe

/// Orders forecasts by demand, greatest first, and cuts them at `limit`; ties by pair.
#[must_use]
pub fn by_demand(mut forecasts: Vec<DemandForecast>, limit: usize) -> Vec<DemandForecast> {
    forecasts.sort_by(|a, b| b.bandwidth.cmp(&a.bandwidth).then(a.pair.cmp(&b.pair)));
    forecasts.truncate(limit);
    forecasts
}
