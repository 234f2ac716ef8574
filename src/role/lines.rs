//! One JSON object a line on standard output.

use std::io::{self, Write};

use serde_json::Value;
use vpnmesh_core::Timestamp;

use super::json::Fields;

/// Prints records of one role.
#[derive(Debug)]
pub(super) struct Lines<W> {
    to: W,
    role: &'static str,
    name: String,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(to: W, role: &'static str, name: &str) -> Self {
        Self {
            to,
            role,
            name: name.to_owned(),
        }
    }

    /// Writes one line, whole.
    pub(super) fn print(&mut self, at: Timestamp, event: &str, fields: Fields) -> io::Result<()> {
        let mut record = Fields::new();
        record.insert("t_ns".into(), Value::from(at.0));
        record.insert("role".into(), Value::from(self.role));
        record.insert("name".into(), Value::from(self.name.as_str()));
        record.insert("event".into(), Value::from(event));
        record.extend(fields);
        let mut line = Value::Object(record).to_string();
        line.push('\n');
        self.to.write_all(line.as_bytes())?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::json::fields;
    use super::*;

    #[test]
    fn a_record_is_one_line_with_time_role_name_and_event() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out, "client", "laptop\n1");
        lines
            .print(Timestamp(7), "moved", fields(json!({"to": "n2"})))
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let record: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            record,
            json!({"t_ns": 7, "role": "client", "name": "laptop\n1", "event": "moved", "to": "n2"})
        );
    }
}
