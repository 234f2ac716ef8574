//! Reads data folders: tables in CSV, packed by gzip or not.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// A table as text with numbered rows and named columns.
#[derive(Clone, Debug)]
pub struct Table {
    names: Vec<String>,
    text: String,
    cells: Vec<(u32, u32)>, // [row, column]: from and to in `text`
}

impl Table {
    /// Reads `path`; the first line names the columns.
    ///
    /// # Errors
    /// [`Error::Unreadable`] and [`Error::Malformed`]: the file is to blame.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(unpacked(path)?, true, path)
    }

    /// Reads `path`, in which columns have no names.
    ///
    /// # Errors
    /// [`Error::Unreadable`] and [`Error::Malformed`]: the file is to blame.
    pub fn read_nameless(path: &Path) -> Result<Self, Error> {
        Self::parse(unpacked(path)?, false, path)
    }

    fn parse(text: String, named: bool, path: &Path) -> Result<Self, Error> {
        let malformed = |line| Error::Malformed {
            path: path.to_owned(),
            line,
        };
        if text.len() > u32::MAX as usize {
            return Err(malformed(0));
        }
        let mut lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.is_empty());
        let first = lines.next().ok_or(malformed(1))?.1;
        let width = first.split(',').count();
        let names: Vec<String> = if named {
            first
                .split(',')
                .map(|name| name.trim().to_owned())
                .collect()
        } else {
            (0..width).map(|at| at.to_string()).collect()
        };
        let mut cells = Vec::new();
        let start = text.as_ptr() as usize;
        let rest = (!named).then_some((0, first)).into_iter().chain(lines);
        for (at, line) in rest {
            let before = cells.len();
            for cell in line.split(',') {
                let from = (cell.as_ptr() as usize - start) as u32;
                cells.push((from, from + cell.len() as u32));
            }
            if cells.len() - before != width {
                return Err(malformed(at + 1));
            }
        }
        Ok(Self { names, text, cells })
    }

    /// Rows without the line of names.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.cells.len() / self.names.len().max(1)
    }

    /// The names of the columns.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Where the column `name` is.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// Where the column `name` is.
    ///
    /// # Errors
    /// [`Error::NoColumn`] if there is none.
    pub fn required(&self, name: &str) -> Result<usize, Error> {
        let missing = || Error::NoColumn {
            column: name.to_owned(),
        };
        self.column(name).ok_or_else(missing)
    }

    /// A cell as text.
    #[must_use]
    pub fn text(&self, row: usize, column: usize) -> &str {
        let (from, to) = self.cells[row * self.names.len() + column];
        &self.text[from as usize..to as usize]
    }

    /// A cell as number; NaN if it is none.
    #[must_use]
    pub fn number(&self, row: usize, column: usize) -> f64 {
        self.text(row, column).trim().parse().unwrap_or(f64::NAN)
    }

    /// A column as numbers.
    #[must_use]
    pub fn numbers(&self, column: usize) -> Vec<f64> {
        (0..self.rows())
            .map(|row| self.number(row, column))
            .collect()
    }
}

/// The files directly in `folder` whose name passes `wanted`, in order of their names.
///
/// # Errors
/// [`Error::Unreadable`] if the folder cannot be listed.
pub fn files(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |source| Error::Unreadable {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(&wanted)
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The table `stem` in `folder`, packed or not.
#[must_use]
pub fn table_path(folder: &Path, stem: &str) -> PathBuf {
    let packed = folder.join(format!("{stem}.csv.gz"));
    let plain = folder.join(format!("{stem}.csv"));
    if plain.exists() && !packed.exists() {
        plain
    } else {
        packed
    }
}

/// The text of a file, unpacked if its name ends in `.gz`.
///
/// # Errors
/// [`Error::Unreadable`] if it cannot be read, [`Error::Malformed`] if it is no gzip or no UTF-8.
pub fn unpacked(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|source| Error::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let malformed = || Error::Malformed {
        path: path.to_owned(),
        line: 0,
    };
    let bytes = if path.extension().is_some_and(|end| end == "gz") {
        let body = gzip_body(&bytes).ok_or_else(malformed)?;
        miniz_oxide::inflate::decompress_to_vec_with_limit(body, MAX_BYTES)
            .map_err(|_| malformed())?
    } else {
        bytes
    };
    String::from_utf8(bytes).map_err(|_| malformed())
}

/// What lies behind the header of a gzip member (RFC 1952, section 2.3).
fn gzip_body(bytes: &[u8]) -> Option<&[u8]> {
    let (header, mut rest) = bytes.split_at_checked(10)?;
    let [0x1f, 0x8b, 8, flags, ..] = *header else {
        return None;
    };
    if flags & 4 != 0 {
        let (length, after) = rest.split_at_checked(2)?;
        rest = after.get(usize::from(u16::from_le_bytes([length[0], length[1]]))..)?;
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & 2 != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

const MAX_BYTES: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Table, Error> {
        Table::parse(text.to_owned(), true, Path::new("x.csv"))
    }

    #[test]
    fn empty_cells_are_missing_values() {
        let table = table("a,b\n1,\n2.5,x\n").unwrap();
        assert_eq!(table.rows(), 2);
        assert_eq!(table.number(1, 0), 2.5);
        assert!(table.number(0, 1).is_nan());
        assert_eq!(table.text(1, 1), "x");
    }

    #[test]
    fn a_short_line_is_refused_by_its_number() {
        let refused = table("a,b\n1,2\n3\n").unwrap_err();
        assert!(matches!(refused, Error::Malformed { line: 3, .. }));
    }
}
