//! vpnmesh keys.
