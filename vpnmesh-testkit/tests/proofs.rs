//! Runs the symbolic proofs in `docs/proof` and compares every query with what stands beside it.
//!
//! A model says for each query whether it `holds` or whether there is an `attack`: those that must
//! fail show that the analysis bites. The prover is Verifpal, a program of its own; without it this
//! says so and proves nothing, which is a failure with `CI=true`.
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vpnmesh_testkit::left_out::leave_out;

/// What a model says of itself.
#[derive(Debug)]
struct Model {
    path: PathBuf,
    /// How many runs of each member the prover looks at at once.
    sessions: String,
    /// Each query and whether there must be an attack on it, in order.
    queries: Vec<(String, bool)>,
}

impl Model {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let sessions = text
            .lines()
            .find_map(|line| line.strip_prefix("// sessions: "));
        let sessions = sessions.unwrap_or_else(|| panic!("{}: no sessions", path.display()));
        let (_, queries) = text.split_once("queries[").unwrap();
        let queries = queries
            .lines()
            .filter(|line| line.contains('?'))
            .map(|line| match line.trim().split_once(" // ") {
                Some((query, "holds")) => (query.to_owned(), false),
                Some((query, "attack")) => (query.to_owned(), true),
                _ => panic!("{}: what is expected of {line}?", path.display()),
            });
        Self {
            path: path.to_owned(),
            sessions: sessions.to_owned(),
            queries: queries.collect(),
        }
    }

    /// The prover's code for what is expected: a letter for the kind of each query, and 1 for an
    /// attack.
    fn expected(&self) -> String {
        let code = |(query, attack): &(String, bool)| {
            let kind = query.chars().next().unwrap();
            format!("{kind}{}", u8::from(*attack))
        };
        self.queries.iter().map(code).collect()
    }

    fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }

    /// What the prover says.
    fn prove(&self, prover: &Path) -> Result<String, String> {
        let output = Command::new(prover)
            .args(["verify", "--result-code", "--quiet", "--color", "never"])
            .args(["--sessions", &self.sessions])
            .arg(&self.path)
            .output()
            .map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.lines().map(str::trim).rfind(|line| !line.is_empty()) {
            Some(code) if output.status.success() => Ok(code.to_owned()),
            _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

/// The prover, in the search path or where cargo installs programs.
fn prover() -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
    std::env::split_paths(&search)
        .chain(cargo.map(|cargo| cargo.join("bin")))
        .map(|folder| folder.join("verifpal"))
        .find(|program| program.is_file())
}

fn models() -> Vec<Model> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/proof");
    let files = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "vp"));
    files.sort();
    files.iter().map(|file| Model::read(file)).collect()
}

fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes()); // nobody reads it then
}

#[test]
fn every_query_of_every_model_comes_out_as_expected() {
    let Some(prover) = prover() else {
        let why = "verifpal is missing; scripts/test installs it";
        assert!(!leave_out("proofs", why, None), "{why}");
        return;
    };
    let models = models();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(model) = models.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let (expected, found) = (model.expected(), model.prove(&prover));
                    let spent = start.elapsed();
                    report(model, &found, spent);
                    if found.as_ref() != Ok(&expected) {
                        let what = format!("{}: {expected}, found {found:?}", model.name());
                        wrong.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn report(model: &Model, found: &Result<String, String>, spent: Duration) {
    let found = found.as_deref().unwrap_or("not proved");
    let sessions = &model.sessions;
    say(&format!(
        "{:<32} sessions {sessions}  {found:<14} {spent:?}\n",
        model.name()
    ));
}

#[test]
fn each_property_has_a_model_that_must_fail() {
    let models = models();
    let attacked = |model: &&Model| model.queries.iter().any(|(_, attack)| *attack);
    let failing = models.iter().filter(attacked).count();
    let queries: usize = models.iter().map(|model| model.queries.len()).sum();
    say(&format!(
        "{} models, {queries} queries, {failing} models with an attack that must be found\n",
        models.len()
    ));
    for model in &models {
        let text = fs::read_to_string(&model.path).unwrap();
        let all_hold = model.queries.iter().all(|(_, attack)| !attack);
        let must_fail = text.starts_with("// MUST FAIL.");
        assert!(!(must_fail && all_hold), "{} cannot fail", model.name());
    }
    assert!(failing * 3 >= models.len(), "too few models can fail");
}

#[test]
fn the_table_of_the_readme_names_every_model() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/proof");
    let table = fs::read_to_string(folder.join("README.md")).unwrap();
    for model in models() {
        let row = format!("| `{}` |", model.name());
        assert!(table.contains(&row), "no row for {}", model.name());
    }
}
