//! Lists of operations, as the targets read them.

/// A list of operations that is being written.
#[derive(Debug, Default, Clone)]
pub(crate) struct Script(pub(crate) Vec<u8>);

impl Script {
    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn short(mut self, short: u16) -> Self {
        self.0.extend(short.to_le_bytes());
        self
    }

    pub(crate) fn long(mut self, long: u64) -> Self {
        self.0.extend(long.to_le_bytes());
        self
    }

    pub(crate) fn text(self, text: &[u8]) -> Self {
        let mut script = self.short(text.len() as u16);
        script.0.extend_from_slice(text);
        script
    }
}
