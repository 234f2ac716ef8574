//! Reads operations from fuzzed bytes.

use arbitrary::Unstructured;

/// A list of operations under way.
#[derive(Debug)]
pub(super) struct Script<'a>(Unstructured<'a>);

impl<'a> Script<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// Whether anything is left.
    pub(super) fn goes_on(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub(super) fn short(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub(super) fn long(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// Bytes behind their length.
    pub(super) fn text(&mut self) -> &'a [u8] {
        let len = usize::from(self.short()).min(self.0.len());
        self.0.bytes(len).unwrap_or_default()
    }
}
