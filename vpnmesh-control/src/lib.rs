//! vpnmesh control.
