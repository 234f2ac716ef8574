//! How unlike the known a sample is, found by how fast random cuts isolate it.

use ndarray::{ArrayView1, ArrayView2};

use super::Dice;

/// Trees of random cuts over samples that are taken for normal.
///
/// Source: Liu, Ting and Zhou 2008.
#[derive(Clone, PartialEq, Debug)]
pub struct IsolationForest {
    trees: Vec<Vec<Cut>>,
    usual: f64, // expected path length of a sample
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Cut {
    feature: u32,
    left: u32,  // right is the one after; 0: a leaf
    value: f64, // border, or the depth reached in a leaf
}

impl IsolationForest {
    /// Cuts `trees` samples of `size` rows of `x`, shape `[row, feature]`, without missing values.
    #[must_use]
    pub fn fit(x: ArrayView2<'_, f64>, trees: usize, size: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let size = size.min(x.nrows());
        let limit = (size.max(2) as f64).log2().ceil() as usize;
        let trees = (0..trees).map(|_| {
            let mut rows = dice.choose(x.nrows(), size);
            let mut tree = vec![Cut::leaf(0.0)];
            cut(x, &mut rows, 0, 0, limit, &mut tree, &mut dice);
            tree
        });
        Self {
            trees: trees.collect(),
            usual: expected_depth(size),
        }
    }

    /// In `0.0..1.0`: about 0.5 is usual, near 1 is unlike anything seen.
    #[must_use]
    pub fn score(&self, row: ArrayView1<'_, f64>) -> f64 {
        let depth = |tree: &Vec<Cut>| {
            let mut at = 0;
            loop {
                let cut = tree[at];
                if cut.left == 0 {
                    return cut.value;
                }
                at = (cut.left + u32::from(row[cut.feature as usize] >= cut.value)) as usize;
            }
        };
        let mean = self.trees.iter().map(depth).sum::<f64>() / self.trees.len().max(1) as f64;
        2.0_f64.powf(-mean / self.usual.max(1e-9))
    }
}

impl Cut {
    const fn leaf(depth: f64) -> Self {
        Self {
            feature: 0,
            left: 0,
            value: depth,
        }
    }
}

fn cut(
    x: ArrayView2<'_, f64>,
    rows: &mut [usize],
    node: usize,
    depth: usize,
    limit: usize,
    tree: &mut Vec<Cut>,
    dice: &mut Dice,
) {
    let chosen = (depth < limit && rows.len() > 1)
        .then(|| spread_feature(x, rows, dice))
        .flatten();
    let Some((feature, low, high)) = chosen else {
        tree[node] = Cut::leaf(depth as f64 + expected_depth(rows.len()));
        return;
    };
    let value = low + (high - low) * dice.unit().max(1e-9);
    let left = tree.len();
    tree[node] = Cut {
        feature: feature as u32,
        left: left as u32,
        value,
    };
    tree.extend([Cut::leaf(0.0), Cut::leaf(0.0)]);
    rows.sort_unstable_by_key(|&row| x[(row, feature)] >= value);
    let middle = rows.partition_point(|&row| x[(row, feature)] < value);
    let (below, above) = rows.split_at_mut(middle);
    cut(x, below, left, depth + 1, limit, tree, dice);
    cut(x, above, left + 1, depth + 1, limit, tree, dice);
}

/// A random feature that is not the same in all rows, with its range.
fn spread_feature(
    x: ArrayView2<'_, f64>,
    rows: &[usize],
    dice: &mut Dice,
) -> Option<(usize, f64, f64)> {
    for _ in 0..16 {
        let feature = dice.below(x.ncols());
        let values = rows.iter().map(|&row| x[(row, feature)]);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if high > low {
            return Some((feature, low, high));
        }
    }
    None
}

/// Mean depth of an unsuccessful search in a binary tree of `rows` keys.
fn expected_depth(rows: usize) -> f64 {
    match rows {
        0 | 1 => 0.0,
        2 => 1.0,
        many => {
            let many = many as f64;
            2.0 * ((many - 1.0).ln() + 0.577_215_664_9) - 2.0 * (many - 1.0) / many
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn what_lies_far_off_scores_higher() {
        let mut dice = Dice::new(4);
        let x = Array2::from_shape_fn((1000, 3), |_| dice.normal());
        let forest = IsolationForest::fit(x.view(), 100, 256, 1);
        let near = forest.score(array![0.0, 0.1, 0.0].view());
        let far = forest.score(array![6.0, -6.0, 6.0].view());
        assert!(far > 0.65 && near < 0.5, "{near} {far}");
    }
}
