//! A sealing key, and whatever holds one, can be neither copied nor written out nor made from bytes
//! (design rule S9). Deriving `Clone`, `Copy`, `Serialize` or `Deserialize` for one of these types
//! makes this file fail to compile: the call below is ambiguous then.

use serde::{Deserialize, Serialize};
use vpnmesh_core::Secret;
use vpnmesh_transport::channel::{Channel, OpeningKey, SealingKey};
use vpnmesh_transport::leg::Leg;
use vpnmesh_transport::schedule::{EspKeys, MoveKeys};
use vpnmesh_transport::station::FirstBranch;
use vpnmesh_transport::{Established, Identity, PacketAead};

macro_rules! assert_not {
    ($law:path: $($kind:ty),+ $(,)?) => { $(
        const _: fn() = || {
            trait Ambiguous<Which> {
                fn call() {}
            }
            struct Law;
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $law> Ambiguous<Law> for T {}
            <$kind as Ambiguous<_>>::call();
        };
    )+ };
}

trait Read: for<'d> Deserialize<'d> {}
impl<T: for<'d> Deserialize<'d>> Read for T {}

assert_not!(Clone: SealingKey, OpeningKey, Channel, Leg, MoveKeys, EspKeys, FirstBranch, Established, Identity, Secret<32>);
assert_not!(Copy: SealingKey, OpeningKey, Channel, Leg, MoveKeys, EspKeys, FirstBranch, Established, Identity, Secret<32>);
assert_not!(Serialize: SealingKey, OpeningKey, Channel, Leg, MoveKeys, EspKeys, FirstBranch, Established, Identity, Secret<32>);
assert_not!(Read: SealingKey, OpeningKey, Channel, Leg, MoveKeys, EspKeys, FirstBranch, Established, Identity, Secret<32>);
assert_not!(Clone: Box<dyn PacketAead>);

/// Whoever reads the list of tests sees that the file was compiled.
#[test]
fn sealing_keys_can_be_neither_copied_nor_written_out() {}
