//! vpnmesh testkit.
