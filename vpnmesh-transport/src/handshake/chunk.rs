//! The ML-KEM key in chunks, each of which proves that it belongs to the commitment in A.
//!
//! A chunk's leaf is the hash of its number and bytes; the commitment is the hash of the profile
//! and all leaves. Every chunk carries the other leaves, so that a forged one is known alone and
//! cannot spoil the set.

use super::wire::{self, ChunkView};
use crate::DropReason;
use crate::kdf::{self, label};
use crate::suite::{Kem, Profile};

/// The chunks of `key` as K datagrams without MACs, and the commitment to them.
pub(super) fn cut(profile: Profile, sender: u32, key: &[u8]) -> (Vec<Vec<u8>>, [u8; 32]) {
    let count = count(profile.kem());
    let pieces: Vec<&[u8]> = key.chunks(chunk_len(profile.kem())).collect();
    let leaves: Vec<[u8; 32]> = (0..)
        .zip(&pieces)
        .map(|(number, piece)| leaf(number, piece))
        .collect();
    let datagrams = (0..count).zip(&pieces).map(|(number, piece)| {
        let others = (0..count)
            .zip(&leaves)
            .filter(|(other, _)| *other != number);
        let others: Vec<u8> = others.flat_map(|(_, leaf)| *leaf).collect();
        wire::encode_chunk(number, count, sender, &others, piece)
    });
    (datagrams.collect(), commit(profile, &leaves))
}

/// Collects the chunks under one commitment.
#[derive(Debug)]
pub(super) struct Chunks {
    profile: Profile,
    commitment: [u8; 32],
    /// As many as the profile has.
    chunks: Vec<Option<Vec<u8>>>,
    /// Which ones came again since the set was last complete.
    again: Vec<bool>,
}

impl Chunks {
    pub(super) fn new(profile: Profile, commitment: [u8; 32]) -> Self {
        let count = usize::from(count(profile.kem()));
        Self {
            profile,
            commitment,
            chunks: vec![None; count],
            again: vec![false; count],
        }
    }

    /// Takes a chunk in, if it belongs to the commitment. Returns whether a whole set has arrived,
    /// for the first time or once more.
    pub(super) fn offer(&mut self, chunk: &ChunkView<'_>) -> Result<bool, DropReason> {
        if !self.belongs(chunk) {
            return Err(DropReason::UnknownChunk);
        }
        let was_complete = self.chunks.iter().all(Option::is_some);
        let number = usize::from(chunk.number);
        if was_complete {
            self.again[number] = true;
            let whole = self.again.iter().all(|again| *again);
            if whole {
                self.again.fill(false);
            }
            return Ok(whole);
        }
        self.chunks[number].get_or_insert_with(|| chunk.bytes.to_vec());
        Ok(self.chunks.iter().all(Option::is_some))
    }

    /// The key, if the set is complete.
    pub(super) fn key(&self) -> Option<Vec<u8>> {
        let mut key = Vec::with_capacity(self.profile.kem().key_len());
        for chunk in &self.chunks {
            key.extend_from_slice(chunk.as_ref()?);
        }
        Some(key)
    }

    fn belongs(&self, chunk: &ChunkView<'_>) -> bool {
        let kem = self.profile.kem();
        if chunk.count != count(kem) || chunk.bytes.len() != chunk_len(kem) {
            return false;
        }
        let mut others = chunk.leaves.as_chunks::<32>().0.iter();
        let own = leaf(chunk.number, chunk.bytes);
        let leaves: Option<Vec<[u8; 32]>> = (0..chunk.count)
            .map(|number| {
                if number == chunk.number {
                    Some(own)
                } else {
                    others.next().copied()
                }
            })
            .collect();
        leaves.is_some_and(|leaves| commit(self.profile, &leaves) == self.commitment)
    }
}

const fn count(kem: Kem) -> u8 {
    match kem {
        Kem::MlKem768 => 1,
        Kem::MlKem1024 => 2,
    }
}

const fn chunk_len(kem: Kem) -> usize {
    kem.key_len() / count(kem) as usize
}

fn leaf(number: u8, bytes: &[u8]) -> [u8; 32] {
    kdf::digest(label::CHUNK, &[&[number], bytes])
}

fn commit(profile: Profile, leaves: &[[u8; 32]]) -> [u8; 32] {
    kdf::digest(label::COMMIT, &[&[profile.code()], leaves.as_flattened()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(datagram: &[u8]) -> ChunkView<'_> {
        ChunkView::parse(datagram).unwrap()
    }

    /// K datagrams of a key with zero MACs.
    fn cut_with_macs(profile: Profile, key: &[u8]) -> (Vec<Vec<u8>>, [u8; 32]) {
        let (mut datagrams, commitment) = cut(profile, 7, key);
        datagrams
            .iter_mut()
            .for_each(|datagram| datagram.extend_from_slice(&[0; 32]));
        (datagrams, commitment)
    }

    #[test]
    fn chunks_in_any_order_make_the_key() {
        let key: Vec<u8> = (0..1568).map(|i| i as u8).collect();
        let (datagrams, commitment) = cut_with_macs(Profile::High, &key);
        assert_eq!(datagrams.len(), 2);
        let mut chunks = Chunks::new(Profile::High, commitment);
        assert_eq!(chunks.offer(&view(&datagrams[1])), Ok(false));
        assert_eq!(chunks.offer(&view(&datagrams[1])), Ok(false));
        assert_eq!(chunks.key(), None);
        assert_eq!(chunks.offer(&view(&datagrams[0])), Ok(true));
        assert_eq!(chunks.key(), Some(key));
        assert_eq!(chunks.offer(&view(&datagrams[0])), Ok(false));
        assert_eq!(chunks.offer(&view(&datagrams[1])), Ok(true));
    }

    #[test]
    fn a_forged_chunk_is_refused_alone() {
        let (mut datagrams, commitment) = cut_with_macs(Profile::High, &[5; 1568]);
        datagrams[0][600] ^= 1;
        let mut chunks = Chunks::new(Profile::High, commitment);
        assert_eq!(
            chunks.offer(&view(&datagrams[0])),
            Err(DropReason::UnknownChunk)
        );
        assert_eq!(chunks.offer(&view(&datagrams[1])), Ok(false));
        datagrams[0][600] ^= 1;
        assert_eq!(chunks.offer(&view(&datagrams[0])), Ok(true));
    }
}
