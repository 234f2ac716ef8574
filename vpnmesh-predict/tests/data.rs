//! The readers against the real data sets, where they are: `VPNMESH_DATA`, or `../shared/data`.

#![cfg(feature = "train")]

use std::path::PathBuf;

use vpnmesh_predict::measure::Incidents;
use vpnmesh_predict::task::{disks, engines, flows, series, servers, single};

#[path = "../../vpnmesh-testkit/src/left_out.rs"]
#[allow(unreachable_pub)] // it is public in its own crate
mod left_out;

/// The folder of one data set. `None`, and said so, if nothing is named and the default is absent:
/// no clone has it.
fn folder(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("VPNMESH_DATA");
    let root = named.as_ref().map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    let why = format!("not in {} (set VPNMESH_DATA)", root.display());
    let _counted = left_out::leave_out(&format!("data {name}"), &why, None);
    assert!(
        named.is_none(),
        "VPNMESH_DATA names a folder without {name}"
    );
    None
}

#[test]
fn flows_have_the_rows_and_attacks_that_their_readme_names() {
    let Some(folder) = folder("nsl_kdd") else {
        return;
    };
    let records = flows::nsl_kdd(&folder, false).unwrap();
    assert_eq!(records.attack.len(), 25_192);
    assert_eq!(
        records
            .kind
            .iter()
            .filter(|kind| *kind == "neptune")
            .count(),
        8282
    );
    assert_eq!(
        records.attack.iter().filter(|attack| !**attack).count(),
        13_449
    );
}

#[test]
fn what_gives_the_label_away_is_no_feature() {
    let Some(folder) = folder("cicddos2019_sample") else {
        return;
    };
    let records = flows::cicddos2019(&folder).unwrap();
    assert_eq!(records.attack.len(), 8045);
    assert!(
        records
            .names
            .iter()
            .all(|name| name != "Inbound" && name != "Label")
    );
}

#[test]
fn disks_have_the_failures_that_their_readme_names() {
    let Some(folder) = folder("backblaze_smart") else {
        return;
    };
    let disks = disks::read(&folder).unwrap();
    assert_eq!(disks.len(), 24_612);
    assert_eq!(disks.iter().filter(|disk| disk.failed).count(), 1962);
}

#[test]
fn engines_run_to_failure_and_can_be_cut() {
    let Some(folder) = folder("cmapss_fd001") else {
        return;
    };
    let units = engines::read(&folder, false).unwrap();
    assert_eq!(units.len(), 100);
    assert_eq!(
        units
            .iter()
            .map(|unit| unit.readings.nrows())
            .sum::<usize>(),
        20_631
    );
    let cut = units[0].cut(100);
    assert_eq!(cut.left, (units[0].readings.nrows() - 100) as f64);
}

#[test]
fn series_have_no_holes() {
    let Some(folder) = folder("site_traffic") else {
        return;
    };
    let demand = series::read(&folder.join("site_traffic.csv.gz")).unwrap();
    assert_eq!(demand.values.dim(), (9072, 60));
    assert!(demand.values.iter().all(|value| value.is_finite()));
}

#[test]
fn servers_and_single_metrics_have_their_labels() {
    if let Some(folder) = folder("asd") {
        let machines = servers::read(&folder).unwrap();
        assert_eq!(machines.len(), 8);
        assert!(
            machines
                .iter()
                .all(|machine| machine.labels.len() == machine.test.nrows())
        );
    }
    if let Some(folder) = folder("nab") {
        let files = single::read(&folder).unwrap();
        let windows: usize = files.iter().map(|file| file.windows.len()).sum();
        assert_eq!((files.len(), windows), (40, 80));
    }
}

#[test]
fn labels_make_as_many_incidents_as_the_readmes_count() {
    // Half an hour from the last labelled row to the next, an hour and half an hour ahead.
    for (name, gap, early, late, incidents) in [("asd", 5, 12, 3, 49), ("smd", 29, 30, 15, 90)] {
        let Some(folder) = folder(name) else {
            continue;
        };
        let machines = servers::read(&folder).unwrap();
        let counted = machines.iter().map(|machine| {
            Incidents::of(&machine.labels, gap, early, late)
                .spans()
                .len()
        });
        assert_eq!(counted.sum::<usize>(), incidents, "{name}");
    }
}
