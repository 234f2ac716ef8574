//! vpnmesh predict.
