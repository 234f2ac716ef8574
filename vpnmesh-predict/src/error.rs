//! Why training or scoring cannot go on.

use std::path::PathBuf;

/// What a caller can act on. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read: a wrong path or missing rights.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },

    /// A file cannot be written: a wrong path, missing rights or a full disk.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },

    /// A file is not what its name says: replace it.
    #[error("{}, line {line}: not a table of equally long lines", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// From 1; 0 if the file as a whole is damaged.
        line: usize,
    },

    /// A table lacks a column that the task needs.
    #[error("column {column} is missing")]
    NoColumn {
        /// Its name.
        column: String,
    },

    /// The folder holds no data for the task, or too little.
    #[error("{}: {missing}", path.display())]
    NoData {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
        missing: &'static str,
    },

    /// There is no task of this name.
    #[error("no task is named {name}")]
    NoTask {
        /// As the caller wrote it.
        name: String,
    },

    /// The task learns while it runs: there are no weights to keep.
    #[error("{task} learns while it runs and has no weights to keep")]
    NoWeights {
        /// Its name.
        task: String,
    },

    /// Weights that do not match their checksum, are of another version or of another model.
    #[error("weights refused: {reason}")]
    Weights {
        /// What is wrong with them.
        reason: &'static str,
    },
}
