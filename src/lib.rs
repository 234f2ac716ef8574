//! vpnmesh.
