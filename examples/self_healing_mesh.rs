//! A mesh on this machine that is hurt in seven acts and heals each time.
//!
//! You will see one live screen: five nodes in three regions, two clients with downloads, requests,
//! heartbeats and datagrams through real TUN devices, and what happens to them while nodes are
//! drained, degrade, are killed, freeze and come back. At the end there is a table of what was
//! promised and what was measured, and `target/self-healing/` holds `report.json` and
//! `timeline.svg`. The exit code is 0 only if every promise held.
//!
//! No root, no configuration: everything happens in fresh namespaces that vanish with the program.
//!
//! ```text
//! cargo run --release --example self_healing_mesh                  one round, about 45 s
//! cargo run --release --example self_healing_mesh -- --rounds 30   enough samples for percentiles
//! cargo run --release --example self_healing_mesh -- --json        the report alone
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    // The program starts itself again for each process of the mesh, with a hidden argument.
    vpnmesh_testkit::show::main()
}
