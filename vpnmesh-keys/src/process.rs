//! Keeps secrets out of core dumps.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::Error;

/// Turns core dumps off for this process and keeps other processes of the same user from reading
/// its memory.
///
/// Call it after entering namespaces: from then on `/proc/self` belongs to root. Child processes
/// that execute another program are not covered.
///
/// # Errors
/// [`Error::CoreDumps`] if the system refuses; secrets are as safe as before.
pub fn harden_process() -> Result<(), Error> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(|errno| Error::CoreDumps(errno.into()))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| Error::CoreDumps(errno.into()))
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_hardened_process_leaves_no_core_dump() {
        harden_process().unwrap();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
