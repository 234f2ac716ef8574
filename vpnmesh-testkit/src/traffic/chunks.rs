//! Bodies of unknown length, in chunks, with fields after their end.
//!
//! Source: RFC 9112, section 7.1.

use super::http::{Head, Malformed, parse_head};

/// Takes a chunked body apart, however its bytes arrive.
#[derive(Debug, Default)]
pub(crate) struct ChunkDecoder {
    state: State,
    line: Vec<u8>, // the size line or the trailer so far; at most MOST_LINE
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

impl ChunkDecoder {
    /// Takes in the next bytes, hands the body's own to `sink`, and gives the trailer at the end.
    /// Bytes after the end are ignored.
    pub(crate) fn decode(
        &mut self,
        mut input: &[u8],
        mut sink: impl FnMut(&[u8]),
    ) -> Result<Option<Head>, Malformed> {
        while !input.is_empty() {
            match self.state {
                State::Data(left) => {
                    let part = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    sink(&input[..part]);
                    input = &input[part..];
                    let left = left - part as u64;
                    self.state = if left == 0 {
                        State::DataEnd
                    } else {
                        State::Data(left)
                    };
                }
                State::Size | State::DataEnd | State::Trailer => {
                    self.byte(input[0])?;
                    input = &input[1..];
                }
                State::Done => break,
            }
        }
        if self.state == State::Done {
            return trailer(&self.line).map(Some);
        }
        Ok(None)
    }

    fn byte(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.line.len() == MOST_LINE {
            return Err(Malformed("chunk line too long"));
        }
        self.line.push(byte);
        match self.state {
            State::Size if self.line.ends_with(b"\r\n") => {
                let size = chunk_size(&self.line[..self.line.len() - 2])?;
                self.state = if size == 0 {
                    State::Trailer
                } else {
                    State::Data(size)
                };
                self.line.clear();
            }
            State::DataEnd if self.line.len() == 2 => {
                if self.line != b"\r\n" {
                    return Err(Malformed("chunk longer than its size"));
                }
                self.state = State::Size;
                self.line.clear();
            }
            State::Trailer if self.line == b"\r\n" || self.line.ends_with(b"\r\n\r\n") => {
                self.state = State::Done;
            }
            State::Size | State::Data(_) | State::DataEnd | State::Trailer | State::Done => {}
        }
        Ok(())
    }
}

/// Writes one chunk around `data` into `out`.
pub(crate) fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let text = std::str::from_utf8(line).map_err(|_| Malformed("chunk size is not text"))?;
    u64::from_str_radix(text, 16).map_err(|_| Malformed("chunk size is not hexadecimal"))
}

fn trailer(lines: &[u8]) -> Result<Head, Malformed> {
    let end = lines.len().saturating_sub(4);
    let mut with_first = b"\r\n".to_vec();
    with_first.extend_from_slice(&lines[..end]);
    if end == 0 {
        with_first.clear();
    }
    parse_head(&with_first)
}

const MOST_LINE: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(chunks: &[Vec<u8>], trailer: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in chunks {
            encode_chunk(chunk, &mut out);
        }
        out.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
        out
    }

    #[test]
    fn the_fields_after_the_end_are_read() {
        let body = body(&[b"ab".to_vec()], "X-Sha256: 00ff\r\nX-Length: 2\r\n");
        let mut data = Vec::new();
        let trailer = ChunkDecoder::default()
            .decode(&body, |part| data.extend_from_slice(part))
            .unwrap()
            .unwrap();
        assert_eq!(data, b"ab");
        assert_eq!(trailer.field("x-sha256"), Some("00ff"));
        assert_eq!(trailer.field("x-length"), Some("2"));
    }

    #[test]
    fn a_chunk_longer_than_its_size_is_refused() {
        assert!(
            ChunkDecoder::default()
                .decode(b"1\r\nab\r\n", |_| {})
                .is_err()
        );
        assert!(ChunkDecoder::default().decode(b"zz\r\n", |_| {}).is_err());
    }

    proptest! {
        #[test]
        fn the_body_is_the_same_however_it_arrives(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            step in 1_usize..50,
        ) {
            let body = body(&chunks, "");
            let mut decoder = ChunkDecoder::default();
            let mut data = Vec::new();
            let mut ends = 0;
            for part in body.chunks(step) {
                ends += usize::from(decoder.decode(part, |it| data.extend_from_slice(it)).unwrap().is_some());
            }
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(ends, 1);
        }

        #[test]
        fn any_bytes_are_refused_or_read(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ChunkDecoder::default().decode(&data, |_| {});
        }
    }
}
