//! Gradient-boosted trees over histograms, grown leaf by leaf.

use ndarray::{ArrayView1, ArrayView2};

use super::Dice;
use super::bins::Bins;

/// What the trees are fitted to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Objective {
    /// Probability of one of two classes, labels 0 and 1; scores are log-odds.
    Logistic,
    /// Mean under squared error.
    Squared,
    /// Median-like mean: squared up to the given residual, straight beyond.
    Huber(f64),
}

/// How trees are grown.
#[derive(Clone, Debug)]
pub struct BoostSettings {
    /// What they are fitted to.
    pub objective: Objective,
    /// How many trees at most.
    pub trees: usize,
    /// Leaves of a tree at most; more fit finer and overfit sooner.
    pub leaves: usize,
    /// Step of each tree, in `0.0..=1.0`; smaller needs more trees.
    pub rate: f64,
    /// Least rows in a leaf.
    pub min_rows: usize,
    /// Penalty on leaf values.
    pub l2: f64,
    /// Share of the features that a tree may look at.
    pub feature_share: f64,
    /// Share of the rows that a tree is grown on.
    pub row_share: f64,
    /// For the shares.
    pub seed: u64,
}

/// A fitted sum of trees.
///
/// Missing values are allowed: each split learns which way they go.
///
/// Source: Friedman 2001; Ke et al. 2017 (histograms, leaf-wise growth).
#[derive(Clone, PartialEq, Debug)]
pub struct Boosted {
    pub(crate) base: f64,
    pub(crate) features: usize,
    pub(crate) trees: Vec<Vec<Node>>,
}

/// A split, or a leaf where `left` is zero.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Node {
    pub(crate) value: f32, // border of a split, value of a leaf
    pub(crate) feature: u16,
    pub(crate) left: u16, // right is the one after; 0: a leaf
    pub(crate) missing_left: bool,
}

impl Default for BoostSettings {
    fn default() -> Self {
        Self {
            objective: Objective::Logistic,
            trees: 300,
            leaves: 31,
            rate: 0.05,
            min_rows: 20,
            l2: 1.0,
            feature_share: 0.8,
            row_share: 0.8,
            seed: 0,
        }
    }
}

impl Boosted {
    /// Fits trees to `y` over `x`, shape `[row, feature]`, rows weighted by `weight`.
    #[must_use]
    pub fn fit(
        x: ArrayView2<'_, f64>,
        y: &[f64],
        weight: Option<&[f64]>,
        settings: &BoostSettings,
    ) -> Self {
        let bins = Bins::fit(x, settings.seed);
        let columns = bins.apply(x);
        let ones = vec![1.0; y.len()];
        let weight = weight.unwrap_or(&ones);
        let base = settings.objective.base(y, weight);
        let mut model = Self {
            base,
            features: x.ncols(),
            trees: Vec::with_capacity(settings.trees),
        };
        let mut scores = vec![base; y.len()];
        let mut dice = Dice::new(settings.seed);
        let mut grower = Grower::new(&bins, &columns, settings);
        for _ in 0..settings.trees {
            grower.aim(y, weight, &scores);
            let tree = grower.grow(&mut dice);
            for (row, score) in scores.iter_mut().enumerate() {
                *score += f64::from(grower.leaf_value(&tree, row));
            }
            model
                .trees
                .push(tree.into_iter().map(|split| split.node).collect());
        }
        model
    }

    /// The score of one row of features.
    #[must_use]
    pub fn score(&self, row: ArrayView1<'_, f64>) -> f64 {
        let of_tree = |tree: &Vec<Node>| {
            let mut at = 0;
            loop {
                let node = tree[at];
                if node.left == 0 {
                    return f64::from(node.value);
                }
                let value = row[usize::from(node.feature)];
                let goes_left = if value.is_nan() {
                    node.missing_left
                } else {
                    value <= f64::from(node.value)
                };
                at = usize::from(node.left) + usize::from(!goes_left);
            }
        };
        self.base + self.trees.iter().map(of_tree).sum::<f64>()
    }

    /// The scores of all rows of `x`.
    #[must_use]
    pub fn scores(&self, x: ArrayView2<'_, f64>) -> Vec<f64> {
        x.rows().into_iter().map(|row| self.score(row)).collect()
    }

    /// How often each feature splits.
    #[must_use]
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.features];
        for node in self.trees.iter().flatten().filter(|node| node.left > 0) {
            uses[usize::from(node.feature)] += 1;
        }
        uses
    }
}

impl Objective {
    fn base(self, y: &[f64], weight: &[f64]) -> f64 {
        let total: f64 = weight.iter().sum();
        let mean = y.iter().zip(weight).map(|(y, w)| y * w).sum::<f64>() / total.max(1e-12);
        match self {
            Self::Logistic => {
                let share = mean.clamp(1e-6, 1.0 - 1e-6);
                (share / (1.0 - share)).ln()
            }
            Self::Squared | Self::Huber(_) => mean,
        }
    }

    /// First and second derivative of the loss by the score.
    fn slopes(self, y: f64, score: f64) -> (f64, f64) {
        match self {
            Self::Logistic => {
                let p = 1.0 / (1.0 + (-score).exp());
                (p - y, (p * (1.0 - p)).max(1e-9))
            }
            Self::Squared => (score - y, 1.0),
            Self::Huber(limit) => ((score - y).clamp(-limit, limit), 1.0),
        }
    }
}

/// Sums over the rows of one bin.
#[derive(Clone, Copy, Default)]
struct Sums {
    slope: f64,
    bend: f64,
    rows: f64,
}

/// A node while it grows, with its border as a bin.
#[derive(Clone, Copy)]
struct Split {
    node: Node,
    bin: u8,
}

/// A leaf that may split.
struct Leaf {
    node: usize,
    begin: usize,
    end: usize,
    sums: Vec<Sums>, // [feature of the tree, bin]
    total: Sums,
    best: Option<Best>,
}

#[derive(Clone, Copy)]
struct Best {
    gain: f64,
    feature: usize,
    bin: usize,
    missing_left: bool,
}

struct Grower<'a> {
    bins: &'a Bins,
    columns: &'a [Vec<u8>],
    settings: &'a BoostSettings,
    slopes: Vec<(f64, f64)>, // [row]
    order: Vec<u32>,         // rows, grouped by leaf
    chosen: Vec<usize>,      // features of this tree
}

impl<'a> Grower<'a> {
    fn new(bins: &'a Bins, columns: &'a [Vec<u8>], settings: &'a BoostSettings) -> Self {
        Self {
            bins,
            columns,
            settings,
            slopes: Vec::new(),
            order: Vec::new(),
            chosen: Vec::new(),
        }
    }

    fn aim(&mut self, y: &[f64], weight: &[f64], scores: &[f64]) {
        self.slopes.clear();
        let objective = self.settings.objective;
        let rows = y.iter().zip(weight).zip(scores);
        self.slopes.extend(rows.map(|((y, weight), score)| {
            let (slope, bend) = objective.slopes(*y, *score);
            (slope * weight, bend * weight)
        }));
    }

    fn grow(&mut self, dice: &mut Dice) -> Vec<Split> {
        self.draw(dice);
        let root = Leaf {
            node: 0,
            begin: 0,
            end: self.order.len(),
            sums: self.sums(0, self.order.len()),
            total: self.total(0, self.order.len()),
            best: None,
        };
        let mut tree = vec![self.leaf(root.total)];
        let mut leaves = vec![self.judged(root)];
        while leaves.len() < self.settings.leaves {
            let gains = leaves
                .iter()
                .enumerate()
                .filter_map(|(at, leaf)| Some((at, leaf.best?)));
            let Some((at, best)) = gains.max_by(|a, b| a.1.gain.total_cmp(&b.1.gain)) else {
                break;
            };
            let leaf = leaves.swap_remove(at);
            leaves.extend(self.split(leaf, best, &mut tree));
        }
        tree
    }

    fn draw(&mut self, dice: &mut Dice) {
        let share = self.settings.row_share;
        self.order.clear();
        for row in 0..self.slopes.len() as u32 {
            if share >= 1.0 || dice.unit() < share {
                self.order.push(row);
            }
        }
        let all = self.columns.len();
        let count = ((all as f64 * self.settings.feature_share).ceil() as usize).clamp(1, all);
        self.chosen = dice.choose(all, count);
    }

    fn split(&mut self, leaf: Leaf, best: Best, tree: &mut Vec<Split>) -> [Leaf; 2] {
        let column = &self.columns[best.feature];
        let middle = leaf.begin
            + partition(&mut self.order[leaf.begin..leaf.end], |row| {
                goes_left(column[row as usize], best.bin as u8, best.missing_left)
            });
        let small_left = middle - leaf.begin <= leaf.end - middle;
        let (from, to) = if small_left {
            (leaf.begin, middle)
        } else {
            (middle, leaf.end)
        };
        let small = self.sums(from, to);
        let rest = leaf
            .sums
            .iter()
            .zip(&small)
            .map(|(all, part)| all.without(*part));
        let rest: Vec<Sums> = rest.collect();
        let (left_sums, right_sums) = if small_left {
            (small, rest)
        } else {
            (rest, small)
        };
        let left_total = self.total(leaf.begin, middle);
        let right_total = leaf.total.without(left_total);

        let left = tree.len();
        tree.push(self.leaf(left_total));
        tree.push(self.leaf(right_total));
        tree[leaf.node] = Split {
            node: Node {
                value: self.bins.border(best.feature, best.bin) as f32,
                feature: best.feature as u16,
                left: left as u16,
                missing_left: best.missing_left,
            },
            bin: best.bin as u8,
        };
        let child = |node, begin, end, sums, total| Leaf {
            node,
            begin,
            end,
            sums,
            total,
            best: None,
        };
        [
            self.judged(child(left, leaf.begin, middle, left_sums, left_total)),
            self.judged(child(left + 1, middle, leaf.end, right_sums, right_total)),
        ]
    }

    fn sums(&self, begin: usize, end: usize) -> Vec<Sums> {
        let rows = &self.order[begin..end];
        let slopes: Vec<(f64, f64)> = rows.iter().map(|&row| self.slopes[row as usize]).collect();
        let mut sums = vec![Sums::default(); self.chosen.len() * WIDTH];
        for (&feature, sums) in self.chosen.iter().zip(sums.chunks_mut(WIDTH)) {
            let column = &self.columns[feature];
            for (&row, &(slope, bend)) in rows.iter().zip(&slopes) {
                let sums = &mut sums[usize::from(column[row as usize])];
                sums.slope += slope;
                sums.bend += bend;
                sums.rows += 1.0;
            }
        }
        sums
    }

    fn total(&self, begin: usize, end: usize) -> Sums {
        let mut total = Sums::default();
        for &row in &self.order[begin..end] {
            let (slope, bend) = self.slopes[row as usize];
            total.slope += slope;
            total.bend += bend;
            total.rows += 1.0;
        }
        total
    }

    fn leaf(&self, total: Sums) -> Split {
        let value = -total.slope / (total.bend + self.settings.l2) * self.settings.rate;
        Split {
            node: Node {
                value: value as f32,
                feature: 0,
                left: 0,
                missing_left: false,
            },
            bin: 0,
        }
    }

    fn judged(&self, mut leaf: Leaf) -> Leaf {
        let least = self.settings.min_rows as f64;
        if leaf.total.rows < 2.0 * least {
            return leaf;
        }
        let whole = self.worth(leaf.total);
        for (&feature, sums) in self.chosen.iter().zip(leaf.sums.chunks(WIDTH)) {
            let missing = sums[0];
            let mut below = Sums::default();
            let known = sums.iter().enumerate().take(self.bins.count(feature) - 1);
            for (bin, here) in known.skip(1) {
                below = below.with(*here);
                for missing_left in [false, true] {
                    let left = if missing_left {
                        below.with(missing)
                    } else {
                        below
                    };
                    let right = leaf.total.without(left);
                    if left.rows < least || right.rows < least {
                        continue;
                    }
                    let gain = self.worth(left) + self.worth(right) - whole;
                    if gain > leaf.best.map_or(MIN_GAIN, |best| best.gain) {
                        leaf.best = Some(Best {
                            gain,
                            feature,
                            bin,
                            missing_left,
                        });
                    }
                    if missing.rows < 0.5 {
                        break;
                    }
                }
            }
        }
        leaf
    }

    fn worth(&self, sums: Sums) -> f64 {
        sums.slope * sums.slope / (sums.bend + self.settings.l2)
    }

    fn leaf_value(&self, tree: &[Split], row: usize) -> f32 {
        let mut at = 0;
        loop {
            let split = tree[at];
            let node = split.node;
            if node.left == 0 {
                return node.value;
            }
            let bin = self.columns[usize::from(node.feature)][row];
            let left = goes_left(bin, split.bin, node.missing_left);
            at = usize::from(node.left) + usize::from(!left);
        }
    }
}

impl Sums {
    fn with(self, other: Self) -> Self {
        Self {
            slope: self.slope + other.slope,
            bend: self.bend + other.bend,
            rows: self.rows + other.rows,
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            slope: self.slope - other.slope,
            bend: self.bend - other.bend,
            rows: self.rows - other.rows,
        }
    }
}

fn goes_left(bin: u8, border: u8, missing_left: bool) -> bool {
    if bin == 0 {
        missing_left
    } else {
        bin <= border
    }
}

/// Brings the rows that go left to the front and says how many they are.
fn partition(rows: &mut [u32], left: impl Fn(u32) -> bool) -> usize {
    let mut front = 0;
    for at in 0..rows.len() {
        if left(rows[at]) {
            rows.swap(front, at);
            front += 1;
        }
    }
    front
}

const WIDTH: usize = 256;
const MIN_GAIN: f64 = 1e-7;

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    fn drawn(rows: usize) -> (Array2<f64>, Vec<f64>) {
        let mut dice = Dice::new(7);
        let x = Array2::from_shape_fn((rows, 4), |_| dice.unit());
        let y = x
            .rows()
            .into_iter()
            .map(|row| f64::from((row[0] > 0.5) != (row[1] > 0.5)));
        let y = y.collect();
        (x, y)
    }

    #[test]
    fn an_exclusive_or_is_learnt() {
        let (x, y) = drawn(2000);
        let model = Boosted::fit(x.view(), &y, None, &BoostSettings::default());
        let (x, y) = drawn(3000);
        let right = model
            .scores(x.view())
            .iter()
            .zip(&y)
            .filter(|(s, y)| (**s > 0.0) == (**y > 0.5))
            .count();
        assert!(right > 2900, "{right}");
    }

    #[test]
    fn missing_values_go_where_they_fit() {
        let mut dice = Dice::new(5);
        let x = Array2::from_shape_fn((1000, 2), |_| {
            if dice.unit() < 0.3 {
                f64::NAN
            } else {
                dice.unit()
            }
        });
        let y: Vec<f64> = x
            .column(0)
            .iter()
            .map(|value| f64::from(value.is_nan()))
            .collect();
        let model = Boosted::fit(
            x.view(),
            &y,
            None,
            &BoostSettings {
                trees: 40,
                ..BoostSettings::default()
            },
        );
        let worst = model
            .scores(x.view())
            .into_iter()
            .zip(&y)
            .all(|(s, y)| (s > 0.0) == (*y > 0.5));
        assert!(worst);
    }

    #[test]
    fn the_same_seed_gives_the_same_trees() {
        let (x, y) = drawn(500);
        let settings = BoostSettings {
            trees: 10,
            ..BoostSettings::default()
        };
        let fit = || Boosted::fit(x.view(), &y, None, &settings);
        assert_eq!(fit(), fit());
    }
}
