//! Nothing is delivered twice.

use std::collections::HashSet;

use super::{Broken, broken};
use crate::sim::app::{Delivery, Flow};

/// The law's name.
pub const LAW: &str = "nothing twice";

/// Remembers what came out. As many entries as packets were sent.
#[derive(Debug, Default)]
pub struct Duplicates {
    seen: HashSet<(Flow, u64)>,
}

impl Duplicates {
    /// A packet came out.
    ///
    /// # Errors
    /// If it came out before.
    pub fn handle_delivery(&mut self, delivery: &Delivery) -> Result<(), Broken> {
        if self.seen.insert((delivery.flow, delivery.number)) {
            return Ok(());
        }
        Err(broken(LAW, format!("{delivery:?}")))
    }

    /// Whether a packet came out.
    #[must_use]
    pub fn has(&self, flow: Flow, number: u64) -> bool {
        self.seen.contains(&(flow, number))
    }
}

#[cfg(test)]
mod tests {
    use vpnmesh_core::Timestamp;

    use super::*;

    #[test]
    fn a_packet_that_comes_twice_breaks_the_law() {
        let flow = Flow {
            client: 0,
            site: 0,
            port: 1,
            up: true,
        };
        let delivery = |number| Delivery {
            flow,
            number,
            sent: Timestamp::ZERO,
            at: Timestamp::ZERO,
        };
        let mut law = Duplicates::default();
        assert_eq!(law.handle_delivery(&delivery(1)), Ok(()));
        assert_eq!(law.handle_delivery(&delivery(2)), Ok(()));
        assert_eq!(law.handle_delivery(&delivery(1)).unwrap_err().law, LAW);
    }
}
