//! The bytes that downloads and small answers carry.
//!
//! Byte `n` of a stream follows from the seed and `n` alone, so that both ends make the same bytes
//! and a wrong one is found at once, wherever a reader starts.

/// A stream of pseudo-random bytes that follows from a seed.
///
/// Word `i` (8 bytes, little endian) is SplitMix64 of `seed + i`.
///
/// Source: Steele, Lea and Flood 2014.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern {
    seed: u64,
}

impl Pattern {
    /// The stream of that seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Writes the bytes from `offset` on into `out`.
    pub fn fill(&self, offset: u64, out: &mut [u8]) {
        let mut written = 0;
        while written < out.len() {
            let at = offset.wrapping_add(written as u64);
            let word = self.word(at / WORD).to_le_bytes();
            let skip = (at % WORD) as usize;
            let part = (word.len() - skip).min(out.len() - written);
            out[written..written + part].copy_from_slice(&word[skip..skip + part]);
            written += part;
        }
    }

    /// How many of the bytes `data`, which start at `offset`, are not the stream's.
    #[must_use]
    pub fn wrong(&self, offset: u64, data: &[u8]) -> u64 {
        let mut expected = [0; 512];
        let mut wrong = 0;
        let mut at = offset;
        for part in data.chunks(expected.len()) {
            let expected = &mut expected[..part.len()];
            self.fill(at, expected);
            if expected != part {
                wrong += part.iter().zip(&*expected).filter(|(a, b)| a != b).count() as u64;
            }
            at = at.wrapping_add(part.len() as u64);
        }
        wrong
    }

    fn word(&self, index: u64) -> u64 {
        let mut z = self
            .seed
            .wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

const WORD: u64 = 8;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_words_are_those_of_splitmix64() {
        // The published sequence of seed 1234567.
        let mut bytes = [0; 16];
        Pattern::new(1_234_567).fill(0, &mut bytes);
        assert_eq!(bytes[..8], 6_457_827_717_110_365_317_u64.to_le_bytes());
        assert_eq!(bytes[8..], 3_203_168_211_198_807_973_u64.to_le_bytes());
    }

    #[test]
    fn one_changed_byte_is_counted_once() {
        let pattern = Pattern::new(9);
        let mut bytes = vec![0; 3000];
        pattern.fill(77, &mut bytes);
        assert_eq!(pattern.wrong(77, &bytes), 0);
        bytes[2000] ^= 1;
        assert_eq!(pattern.wrong(77, &bytes), 1);
    }

    proptest! {
        #[test]
        fn any_part_equals_the_same_part_of_the_whole(
            seed: u64, offset in 0_u64..200, len in 0_usize..200,
        ) {
            let mut whole = vec![0; 400];
            let mut part = vec![0; len];
            Pattern::new(seed).fill(0, &mut whole);
            Pattern::new(seed).fill(offset, &mut part);
            let from = usize::try_from(offset).unwrap();
            prop_assert_eq!(&whole[from..from + len], &part[..]);
        }
    }
}
