//! vpnmesh transport.
