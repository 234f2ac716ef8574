//! Fitted models as bytes: versioned, with a checksum, refused if anything is off.
//!
//! ```text
//! 0      4       6       8          12            12 + length
//! | VPMW | format | kind | length u32 | payload … | SHA-256 of all before (32) |
//! ```
//!
//! Numbers are little-endian.

use sha2::{Digest as _, Sha256};

use super::boost::Node;
use super::{Boosted, Guard, Isotonic};
use crate::Error;

/// A model that can be kept in a file.
pub trait Weights: Sized {
    /// Tells kinds of models apart.
    const KIND: u16;

    /// Writes what is to be kept.
    fn write(&self, out: &mut Writer);

    /// Reads it back.
    ///
    /// # Errors
    /// [`Error::Weights`] if the payload is not that of such a model.
    fn read(from: &mut Reader<'_>) -> Result<Self, Error>;

    /// The model as bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut payload = Writer::default();
        self.write(&mut payload);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(Self::KIND.to_le_bytes());
        bytes.extend((payload.0.len() as u32).to_le_bytes());
        bytes.extend(payload.0);
        let sum = Sha256::digest(&bytes);
        bytes.extend(sum);
        bytes
    }

    /// The model of these bytes.
    ///
    /// # Errors
    /// [`Error::Weights`] if they are damaged, of another format or of another kind of model.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let refused = |reason| Error::Weights { reason };
        let (body, sum) = bytes
            .split_last_chunk::<32>()
            .filter(|(body, _)| body.len() >= HEADER)
            .ok_or(refused("shorter than a header"))?;
        let (header, payload) = body.split_at(HEADER);
        if header[..4] != MAGIC {
            return Err(refused("not a weight file"));
        }
        if Sha256::digest(body).as_slice() != sum {
            return Err(refused("checksum differs"));
        }
        if u16::from_le_bytes([header[4], header[5]]) != FORMAT {
            return Err(refused("another version of the format"));
        }
        if u16::from_le_bytes([header[6], header[7]]) != Self::KIND {
            return Err(refused("another kind of model"));
        }
        let mut reader = Reader(payload);
        let model = Self::read(&mut reader)?;
        if reader.0.is_empty() {
            Ok(model)
        } else {
            Err(refused("trailing bytes"))
        }
    }
}

/// Takes numbers in order.
#[derive(Default, Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// One real number.
    pub fn real(&mut self, value: f64) {
        self.0.extend(value.to_le_bytes());
    }

    /// One count.
    pub fn count(&mut self, value: usize) {
        self.0.extend((value as u32).to_le_bytes());
    }
}

/// Gives numbers back in order.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let short = Error::Weights {
            reason: "payload too short",
        };
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(short)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// One finite number.
    ///
    /// # Errors
    /// [`Error::Weights`] at the end, or if it is not finite.
    pub fn real(&mut self) -> Result<f64, Error> {
        let value = f64::from_le_bytes(self.take()?);
        let odd = Error::Weights {
            reason: "a number is not finite",
        };
        if value.is_finite() {
            Ok(value)
        } else {
            Err(odd)
        }
    }

    /// One count of things of at least `size` bytes each, which must still be there.
    ///
    /// # Errors
    /// [`Error::Weights`] at the end, or if they cannot all be there.
    pub fn count(&mut self, size: usize) -> Result<usize, Error> {
        let count = u32::from_le_bytes(self.take()?) as usize;
        let odd = Error::Weights {
            reason: "a count is too great",
        };
        if count.saturating_mul(size) <= self.0.len() {
            Ok(count)
        } else {
            Err(odd)
        }
    }
}

impl Weights for Boosted {
    const KIND: u16 = 1;

    fn write(&self, out: &mut Writer) {
        out.real(self.base);
        out.count(self.features);
        out.count(self.trees.len());
        for tree in &self.trees {
            out.count(tree.len());
            for node in tree {
                out.0.extend(node.value.to_le_bytes());
                out.0.extend(node.feature.to_le_bytes());
                out.0.extend(node.left.to_le_bytes());
                out.0.push(u8::from(node.missing_left));
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        let base = from.real()?;
        let features = from.count(0)?;
        let trees = from.count(4)?;
        let mut model = Self {
            base,
            features,
            trees: Vec::with_capacity(trees),
        };
        for _ in 0..trees {
            let nodes = from.count(NODE)?;
            let tree = (0..nodes).map(|at| read_node(from, at, nodes, features));
            model
                .trees
                .push(tree.collect::<Result<Vec<Node>, Error>>()?);
            if nodes == 0 {
                return Err(Error::Weights {
                    reason: "an empty tree",
                });
            }
        }
        Ok(model)
    }
}

/// Children lie behind their parent, so walking a tree ends.
fn read_node(
    from: &mut Reader<'_>,
    at: usize,
    nodes: usize,
    features: usize,
) -> Result<Node, Error> {
    let node = Node {
        value: f32::from_le_bytes(from.take()?),
        feature: u16::from_le_bytes(from.take()?),
        left: u16::from_le_bytes(from.take()?),
        missing_left: from.take::<1>()? == [1],
    };
    let left = usize::from(node.left);
    let sound = node.value.is_finite()
        && (left == 0 || (left > at && left + 1 < nodes && usize::from(node.feature) < features));
    if sound {
        Ok(node)
    } else {
        Err(Error::Weights {
            reason: "a tree is not a tree",
        })
    }
}

impl Weights for Isotonic {
    const KIND: u16 = 2;

    fn write(&self, out: &mut Writer) {
        out.count(self.knots.len());
        for (score, probability) in &self.knots {
            out.real(*score);
            out.real(*probability);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        let count = from.count(16)?;
        let knots = (0..count).map(|_| Ok((from.real()?, from.real()?)));
        let knots = knots.collect::<Result<Vec<(f64, f64)>, Error>>()?;
        let rising = knots
            .windows(2)
            .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let within = knots
            .iter()
            .all(|(_, probability)| (0.0..=1.0).contains(probability));
        if rising && within {
            Ok(Self { knots })
        } else {
            Err(Error::Weights {
                reason: "a calibration falls",
            })
        }
    }
}

impl Weights for Guard {
    const KIND: u16 = 3;

    fn write(&self, out: &mut Writer) {
        self.known.write(out);
        self.strange.write(out);
        out.real(self.weight);
        self.calibration.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            known: Boosted::read(from)?,
            strange: Boosted::read(from)?,
            weight: from.real()?,
            calibration: Isotonic::read(from)?,
        })
    }
}

const MAGIC: [u8; 4] = *b"VPMW";
const FORMAT: u16 = 1;
const HEADER: usize = 12;
const NODE: usize = 9;

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::learn::{BoostSettings, Dice};

    fn model() -> Boosted {
        let mut dice = Dice::new(1);
        let x = Array2::from_shape_simple_fn((300, 3), || dice.unit());
        let y: Vec<f64> = x
            .column(0)
            .iter()
            .map(|value| f64::from(*value > 0.5))
            .collect();
        Boosted::fit(
            x.view(),
            &y,
            None,
            &BoostSettings {
                trees: 5,
                ..BoostSettings::default()
            },
        )
    }

    #[test]
    fn a_model_comes_back_as_it_was() {
        let model = model();
        assert_eq!(Boosted::from_bytes(&model.to_bytes()).unwrap(), model);
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let bytes = model().to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Boosted::from_bytes(&damaged).is_err(), "byte {at}");
            assert!(Boosted::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_kind_of_model_is_refused() {
        let bytes = Isotonic::fit(&[1.0, 2.0], &[0.0, 1.0]).to_bytes();
        assert!(matches!(
            Boosted::from_bytes(&bytes),
            Err(Error::Weights {
                reason: "another kind of model"
            })
        ));
    }

    #[test]
    fn a_tree_that_loops_is_refused() {
        let mut model = model();
        model.trees[0][1].left = 1;
        assert!(Boosted::from_bytes(&model.to_bytes()).is_err());
    }
}
