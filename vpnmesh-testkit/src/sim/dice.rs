//! Random choices that follow from a seed.

use std::time::Duration;

use crate::link::derive_seed;

/// Draws numbers.
#[derive(Debug, Clone)]
pub(super) struct Dice {
    seed: u64,
    draws: u64,
}

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed, draws: 0 }
    }

    /// A number below `end`; zero if there is none.
    pub(super) const fn below(&mut self, end: usize) -> usize {
        self.draws += 1;
        let bits = derive_seed(self.seed, self.draws);
        if end == 0 {
            0
        } else {
            (bits % end as u64) as usize
        }
    }

    /// A number from `from` to `to`.
    pub(super) const fn range(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    /// True once in `n`.
    pub(super) const fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) const fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis(self.range(from, to) as u64)
    }

    /// One of these, which are not none.
    pub(super) const fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_numbers_and_all_of_them() {
        let (mut a, mut b) = (Dice::new(7), Dice::new(7));
        let drawn: Vec<usize> = (0..200).map(|_| a.range(3, 6)).collect();
        assert_eq!(drawn, (0..200).map(|_| b.range(3, 6)).collect::<Vec<_>>());
        assert!((3..=6).all(|number| drawn.contains(&number)));
    }
}
