//! Whole meshes in virtual time.
//!
//! ```text
//! cargo test -p vpnmesh-testkit --test sim                       # 1000 seeds and everything else
//! VPNMESH_SEEDS=5000,1001 cargo test -p vpnmesh-testkit --test sim seeds      # 5000 from 1001 on
//! VPNMESH_SEED=12345 cargo test -p vpnmesh-testkit --test sim -- replay --nocapture
//! ```

mod moves;
mod regressions;
mod seeds;
mod shadows;
mod takeover;
