//! The report of a run: what was promised, whether it held, and what happened meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Promise, Timeline};

/// A whole run. In JSON `{"ok", "promises", "acts", ..}`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Every promise held, and there was at least one.
    pub ok: bool,
    /// In the order of the acts.
    pub promises: Vec<Promise>,
    /// What happened meanwhile.
    #[serde(flatten)]
    pub facts: Facts,
}

/// What happened in a run, besides its promises.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// In the order of time.
    pub acts: Vec<Act>,
    /// Sums of each client over the whole run.
    pub clients: Vec<ClientSums>,
    /// Single measurements behind the promises.
    pub samples: Vec<Sample>,
    /// Remarks on the run as a whole, for people.
    pub notes: Vec<String>,
    /// What ran: name to version.
    pub versions: BTreeMap<String, String>,
    /// The seed of everything random.
    pub seed: u64,
    /// How often the acts were played.
    pub rounds: u32,
    /// Length of the run.
    pub duration_ms: u64,
}

/// An act as it was played.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Act {
    /// Its number in the play.
    pub number: u32,
    /// The round, from 1 on.
    pub round: u32,
    /// What it shows.
    pub name: String,
    /// Start, since the start of the run.
    pub start_ms: u64,
    /// End, since the start of the run.
    pub end_ms: u64,
    /// What happened, for people.
    pub notes: Vec<String>,
}

/// A client's sums over the whole run.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ClientSums {
    /// Its name.
    pub name: String,
    /// TCP connections opened.
    pub tcp_opened: u64,
    /// TCP connections broken.
    pub tcp_broken: u64,
    /// Bytes that were wrong.
    pub bytes_wrong: u64,
    /// Bytes of all downloads.
    pub downloaded_bytes: u64,
    /// All downloads ended with the sum that the server has.
    pub sha256_verified: bool,
    /// Requests answered.
    pub http_answered: u64,
    /// Requests failed.
    pub http_failed: u64,
    /// Numbered datagrams lost in the direction to the site.
    pub lost_up: u64,
    /// Numbered datagrams lost in the direction to the client.
    pub lost_down: u64,
    /// Numbered datagrams that arrived twice, both directions.
    pub duplicated: u64,
    /// Numbered datagrams that arrived after a greater number, both directions.
    pub reordered: u64,
    /// The longest silence of the whole run, in ms.
    pub longest_silence_ms: u64,
}

/// One measurement.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The act.
    pub act: u32,
    /// The round, from 1 on.
    pub round: u32,
    /// The client.
    pub client: String,
    /// What was measured.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

/// A report that could not be written. The run itself is not touched by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The file or its directory could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Where to.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl Report {
    /// The report of a run with these promises.
    #[must_use]
    pub fn new(promises: Vec<Promise>, facts: Facts) -> Self {
        Self {
            ok: !promises.is_empty() && promises.iter().all(|promise| promise.held),
            promises,
            facts,
        }
    }

    /// As JSON for people and programs.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has only text keys and plain values")
    }

    /// Writes `report.json` and `timeline.svg` into `directory`, which is made if need be.
    ///
    /// # Errors
    /// [`ReportError::Write`] names the file. One that stood there before stays as it was.
    pub fn write(&self, timeline: &Timeline, directory: &Path) -> Result<(), ReportError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ReportError::Write { path, source }
        };
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let files = [
            ("report.json", self.json()),
            ("timeline.svg", timeline.svg()),
        ];
        for (name, text) in files {
            let path = directory.join(name);
            let part = directory.join(format!("{name}.part"));
            let written = fs::write(&part, text).and_then(|()| fs::rename(&part, &path));
            if written.is_err() {
                let _ = fs::remove_file(&part); // what counts is the first error
            }
            written.map_err(failed(&path))?;
        }
        Ok(())
    }
}

impl Facts {
    /// The values of all samples of that name in `acts`.
    #[must_use]
    pub fn values(&self, name: &str, acts: &[u32]) -> Vec<f64> {
        let wanted = |it: &&Sample| it.name == name && acts.contains(&it.act);
        let found = self.samples.iter().filter(wanted);
        found.map(|sample| sample.value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(count: u64) -> Promise {
        Promise::none("2", "datagrams lost", count, "datagrams")
    }

    #[test]
    fn one_broken_promise_or_none_at_all_is_not_ok() {
        assert!(Report::new(vec![promise(0)], Facts::default()).ok);
        assert!(!Report::new(vec![promise(0), promise(1)], Facts::default()).ok);
        assert!(!Report::new(vec![], Facts::default()).ok);
    }

    #[test]
    fn the_json_starts_with_ok_and_the_promises() {
        let report = Report::new(vec![promise(0)], Facts::default());
        let json: String = report.json().split_whitespace().collect();
        let start = r#"{"ok":true,"promises":[{"act":"2","name":"datagramslost","value":0,"limit":0,"unit":"datagrams","held":true}],"#;
        assert!(json.starts_with(start), "{json}");
        assert_eq!(
            serde_json::from_str::<Report>(&json.replace("datagramslost", "datagrams lost"))
                .unwrap(),
            report
        );
    }

    #[test]
    fn both_files_are_written_and_a_bad_place_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let report = Report::new(vec![promise(0)], Facts::default());
        let place = directory.path().join("a/b");
        report.write(&Timeline::default(), &place).unwrap();
        let mut names: Vec<_> = fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["report.json", "timeline.svg"]);

        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = report.write(&Timeline::default(), &file).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
