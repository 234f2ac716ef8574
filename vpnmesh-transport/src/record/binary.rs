//! The standard form of a session's state in few bytes.
//!
//! ```text
//! format 1 (= 1) | postcard of the document
//! ```
//!
//! Fields come in the order of the JSON form, without names: numbers as variable-length integers,
//! addresses as family and bytes, algorithms as one byte, a sealed value as its bytes.

use serde_path_to_error::Segment;

use super::json::{Layout, SessionDocument, wrong};
use crate::Error;

impl SessionDocument {
    /// The document in few bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORMAT]).expect("a vector takes everything")
    }

    /// Reads what [`SessionDocument::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Document`] names the first field that is cut off, of another form, or at odds with
    /// another field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            let reason = format_args!("{} bytes, at most {MAX_BYTES} are read", bytes.len());
            return Err(wrong("document", reason));
        }
        let Some((&FORMAT, body)) = bytes.split_first() else {
            return Err(wrong("document", format_args!("not of format {FORMAT}")));
        };
        let mut binary = postcard::Deserializer::from_bytes(body);
        let mut track = serde_path_to_error::Track::new();
        let from = serde_path_to_error::Deserializer::new(&mut binary, &mut track);
        let document = Layout::deserialize(from).map_err(|error| {
            let field = match track.path().iter().next() {
                Some(Segment::Seq { index }) => FIELDS.get(*index),
                _ => None,
            };
            wrong(field.unwrap_or(&"document"), format_args!("{error}"))
        })?;
        let rest = binary.finalize();
        if !rest.is_ok_and(<[u8]>::is_empty) {
            return Err(wrong("document", format_args!("bytes after the end")));
        }
        document.check()?;
        Ok(document)
    }
}

const FORMAT: u8 = 1;
/// More than the longest document has.
const MAX_BYTES: usize = 4 * 1024;
/// The fields in their order.
const FIELDS: [&str; 9] = [
    "session_id",
    "client_ip",
    "client_internal_ip",
    "crypto_params",
    "esp_params",
    "seq_number",
    "port_data",
    "source_ips",
    "vpnmesh",
];
