//! Real traffic over kernel sockets, measured at both ends.
mod arrivals;
mod clock;
mod connections;
mod departures;
mod flow;
mod pattern;
mod requests;
mod series;
mod silence;
mod window;

pub use arrivals::{Arrival, ArrivalTotals, Arrivals, ArrivedWindow};
pub use clock::monotonic;
pub use connections::{ConnectionTotals, ConnectionWindow, Connections, Fault};
pub use departures::{Departures, SentWindow};
pub use flow::{FlowWindow, GRACE};
pub use pattern::Pattern;
pub use requests::{RequestTotals, RequestWindow, Requests};
pub use series::{Buckets, ByteSeries};
pub use silence::{HeartbeatTotals, HeartbeatWindow, Silence, Silences};
pub use window::Window;
