//! The little of HTTP/1.1 that both sides of the load speak. No I/O but reading.
//!
//! Source: RFC 9112.

use std::io::{self, ErrorKind, Read};

/// Bytes that were received and not used yet.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    data: Vec<u8>, // at most MOST_HEAD + READ
}

/// What a read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filled {
    /// Bytes.
    Some,
    /// Nothing within the socket's patience.
    Idle,
    /// The other side will send no more.
    Closed,
}

/// The first line of a message and its fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// The request line or status line.
    pub(crate) first: String,
    fields: Vec<(String, String)>, // names in lower case; bounded by MOST_HEAD
}

/// What came in is not the HTTP that we speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed http: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Inbox {
    /// Reads once.
    pub(crate) fn fill(&mut self, from: &mut impl Read) -> io::Result<Filled> {
        let len = self.data.len();
        self.data.resize(len + READ, 0);
        let result = from.read(&mut self.data[len..]);
        self.data.truncate(len + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Ok(Filled::Closed),
            Ok(_) => Ok(Filled::Some),
            Err(error) if is_idle(&error) => Ok(Filled::Idle),
            Err(error) => Err(error),
        }
    }

    /// Takes a whole head off the front, if one is there.
    pub(crate) fn head(&mut self) -> Result<Option<Head>, Malformed> {
        let Some(end) = find(&self.data, b"\r\n\r\n") else {
            return if self.data.len() > MOST_HEAD {
                Err(Malformed("head too long"))
            } else {
                Ok(None)
            };
        };
        let head = parse_head(&self.data[..end])?;
        self.data.drain(..end + 4);
        Ok(Some(head))
    }

    /// Takes `len` bytes off the front, if they are there.
    pub(crate) fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        (self.data.len() >= len).then(|| self.data.drain(..len).collect())
    }

    /// All bytes, which are then used up.
    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.data)
    }
}

impl Head {
    /// The field of that lower-case name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Whether the error only says that nothing came or went within the socket's patience.
///
/// `TimedOut` is not among these: the kernel says it of a connection that it has given up.
pub(crate) fn is_idle(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Reads the head in `data`, without its closing empty line.
pub(crate) fn parse_head(data: &[u8]) -> Result<Head, Malformed> {
    let text = std::str::from_utf8(data).map_err(|_| Malformed("head is not text"))?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let fields = lines.map(|line| {
        let (name, value) = line
            .split_once(':')
            .ok_or(Malformed("field without a colon"))?;
        Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Ok(Head {
        first,
        fields: fields.collect::<Result<_, _>>()?,
    })
}

fn find(data: &[u8], what: &[u8]) -> Option<usize> {
    data.windows(what.len()).position(|part| part == what)
}

const READ: usize = 64 * 1024;
const MOST_HEAD: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inbox(data: &[u8]) -> Inbox {
        Inbox {
            data: data.to_vec(),
        }
    }

    #[test]
    fn a_head_comes_off_the_front_and_the_rest_stays() {
        let mut inbox = inbox(b"GET / HTTP/1.1\r\nHost: a\r\nX-Y:  z \r\n\r\nrest");
        let head = inbox.head().unwrap().unwrap();
        assert_eq!(head.first, "GET / HTTP/1.1");
        assert_eq!(
            (head.field("host"), head.field("x-y")),
            (Some("a"), Some("z"))
        );
        assert_eq!(inbox.take(4).unwrap(), b"rest");
        assert_eq!(inbox.take(1), None);
    }

    #[test]
    fn a_head_without_end_is_refused_at_the_bound() {
        assert_eq!(inbox(b"GET").head(), Ok(None));
        assert!(inbox(&[b'x'; MOST_HEAD + 1]).head().is_err());
    }

    #[test]
    fn a_connection_that_the_kernel_gave_up_is_not_idle() {
        let error = |code| io::Error::from_raw_os_error(code);
        assert!(is_idle(&error(libc::EAGAIN)));
        assert!(!is_idle(&error(libc::ETIMEDOUT)));
        assert!(!is_idle(&error(libc::ECONNRESET)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = inbox(&data).head();
            let _ = parse_head(&data);
        }
    }
}
