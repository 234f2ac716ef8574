//! The vpnmesh binary.

fn main() {}
