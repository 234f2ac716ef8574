//! A gated recurrent unit with one linear output layer, trained by back-propagation through time.

use ndarray::{Array1, Array2, Array3, ArrayView2, ArrayView3, Axis, NdFloat, s};

use super::Dice;

/// A network that reads a sequence and gives one row of outputs at its end.
///
/// Generic over the float: gradients are checked in `f64`, training runs in `f32`.
///
/// Source: Cho et al. 2014; the form with the reset gate inside the product (Chung et al. 2014).
#[derive(Clone, PartialEq, Debug)]
pub struct Gru<F: NdFloat> {
    pub(crate) parts: Parts<F>,
}

/// All weights; gradients have the same shape.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Parts<F> {
    pub(crate) input: Array2<F>, // [feature, 3 · unit]: update, reset, candidate
    pub(crate) inner: Array2<F>, // [unit, 3 · unit]
    pub(crate) bias: Array1<F>,  // [3 · unit]
    pub(crate) output: Array2<F>, // [unit, output]
    pub(crate) output_bias: Array1<F>,
}

/// How a network is trained.
#[derive(Clone, Debug)]
pub struct GruSettings {
    /// Size of the hidden state.
    pub units: usize,
    /// Steps of the optimiser.
    pub steps: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// Length of the first steps of the optimiser; it falls to zero along a cosine.
    pub rate: f64,
    /// For the first weights and the choice of sequences.
    pub seed: u64,
}

/// What the way forward leaves for the way back, by time.
struct Trace<F> {
    states: Vec<Array2<F>>, // before each step, and the last
    update: Vec<Array2<F>>,
    reset: Vec<Array2<F>>,
    candidate: Vec<Array2<F>>,
}

impl<F: NdFloat> Gru<F> {
    /// Small random weights.
    #[must_use]
    pub fn new(features: usize, units: usize, outputs: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut drawn = |rows: usize, columns: usize| {
            let scale = 1.0 / (rows as f64).sqrt();
            Array2::from_shape_simple_fn((rows, columns), || float(dice.normal() * scale))
        };
        Self {
            parts: Parts {
                input: drawn(features, 3 * units),
                inner: drawn(units, 3 * units),
                bias: Array1::zeros(3 * units),
                output: drawn(units, outputs) * float::<F>(0.3),
                output_bias: Array1::zeros(outputs),
            },
        }
    }

    /// Trains a new network on sequences that `batch` makes of drawn numbers.
    ///
    /// `batch` gives sequences, shape `[time, sequence, feature]`, and targets, shape
    /// `[sequence, output]`. The loss is the mean squared error, straight beyond `huber`.
    pub fn train(
        features: usize,
        outputs: usize,
        settings: &GruSettings,
        huber: f64,
        mut batch: impl FnMut(&mut Dice, usize) -> (Array3<F>, Array2<F>),
    ) -> Self {
        let mut model = Self::new(features, settings.units, outputs, settings.seed);
        let mut adam = Adam::new(&model.parts);
        let mut dice = Dice::new(settings.seed ^ 0x5eed);
        for step in 0..settings.steps {
            let (x, y) = batch(&mut dice, settings.batch);
            let (_, mut slopes) = model.slopes(x.view(), y.view(), huber);
            clip(&mut slopes, 1.0);
            let along = step as f64 / settings.steps as f64;
            let warm = ((step + 1) as f64 / 50.0).min(1.0);
            let rate = settings.rate * warm * 0.5 * (1.0 + (std::f64::consts::PI * along).cos());
            adam.step(&mut model.parts, &slopes, rate);
        }
        model
    }

    /// Outputs for sequences of shape `[time, sequence, feature]`.
    #[must_use]
    pub fn run(&self, x: ArrayView3<'_, F>) -> Array2<F> {
        let mut state = Array2::zeros((x.len_of(Axis(1)), self.units()));
        for now in x.outer_iter() {
            state = self.forward(now, &state).0;
        }
        state.dot(&self.parts.output) + &self.parts.output_bias
    }

    fn units(&self) -> usize {
        self.parts.inner.nrows()
    }

    /// The next state and the gates.
    fn forward(&self, x: ArrayView2<'_, F>, state: &Array2<F>) -> (Array2<F>, [Array2<F>; 3]) {
        let units = self.units();
        let of_input = x.dot(&self.parts.input) + &self.parts.bias;
        let gates = state.dot(&self.parts.inner.slice(s![.., ..2 * units]));
        let mut gates = gates + of_input.slice(s![.., ..2 * units]);
        gates.mapv_inplace(sigmoid);
        let update = gates.slice(s![.., ..units]).to_owned();
        let reset = gates.slice(s![.., units..]).to_owned();
        let held = &reset * state;
        let candidate = held.dot(&self.parts.inner.slice(s![.., 2 * units..]));
        let candidate = (candidate + of_input.slice(s![.., 2 * units..])).mapv(F::tanh);
        let next = state + &(&update * &(&candidate - state));
        (next, [update, reset, candidate])
    }

    /// Loss and its gradient by all weights.
    fn slopes(&self, x: ArrayView3<'_, F>, y: ArrayView2<'_, F>, huber: f64) -> (f64, Parts<F>) {
        let trace = self.trace(x);
        let last = &trace.states[trace.states.len() - 1];
        let error = last.dot(&self.parts.output) + &self.parts.output_bias - y;
        let count = error.len() as f64;
        let limit: F = float(huber);
        let loss = error
            .iter()
            .map(|e| huber_loss(e.to_f64().unwrap_or(0.0), huber))
            .sum::<f64>();
        let by_output = error.mapv(|e| e.max(-limit).min(limit) / float(count));
        let mut slopes = self.parts.zeros();
        slopes.output = last.t().dot(&by_output);
        slopes.output_bias = by_output.sum_axis(Axis(0));
        let mut by_state = by_output.dot(&self.parts.output.t());
        for at in (0..x.len_of(Axis(0))).rev() {
            by_state = self.backward(
                x.index_axis(Axis(0), at),
                &trace,
                at,
                &by_state,
                &mut slopes,
            );
        }
        (loss / count, slopes)
    }

    fn trace(&self, x: ArrayView3<'_, F>) -> Trace<F> {
        let first = Array2::zeros((x.len_of(Axis(1)), self.units()));
        let mut trace = Trace {
            states: vec![first],
            update: Vec::new(),
            reset: Vec::new(),
            candidate: Vec::new(),
        };
        for now in x.outer_iter() {
            let (next, [update, reset, candidate]) =
                self.forward(now, &trace.states[trace.states.len() - 1]);
            trace.states.push(next);
            trace.update.push(update);
            trace.reset.push(reset);
            trace.candidate.push(candidate);
        }
        trace
    }

    /// Takes the gradient by the state after step `at` to that before it.
    fn backward(
        &self,
        x: ArrayView2<'_, F>,
        trace: &Trace<F>,
        at: usize,
        by_state: &Array2<F>,
        slopes: &mut Parts<F>,
    ) -> Array2<F> {
        let units = self.units();
        let one = F::one();
        let (state, update) = (&trace.states[at], &trace.update[at]);
        let (reset, candidate) = (&trace.reset[at], &trace.candidate[at]);
        let by_candidate = by_state * update * &candidate.mapv(|c| one - c * c);
        let by_update = by_state * &(candidate - state) * &update.mapv(|u| u * (one - u));
        let by_held = by_candidate.dot(&self.parts.inner.slice(s![.., 2 * units..]).t());
        let by_reset = &by_held * state * &reset.mapv(|r| r * (one - r));

        let mut by_gates = Array2::zeros((x.nrows(), 3 * units));
        by_gates.slice_mut(s![.., ..units]).assign(&by_update);
        by_gates
            .slice_mut(s![.., units..2 * units])
            .assign(&by_reset);
        by_gates
            .slice_mut(s![.., 2 * units..])
            .assign(&by_candidate);
        slopes.input += &x.t().dot(&by_gates);
        slopes.bias += &by_gates.sum_axis(Axis(0));
        let of_gates = state.t().dot(&by_gates.slice(s![.., ..2 * units]));
        let mut inner = slopes.inner.slice_mut(s![.., ..2 * units]);
        inner += &of_gates;
        let held = reset * state;
        let mut inner = slopes.inner.slice_mut(s![.., 2 * units..]);
        inner += &held.t().dot(&by_candidate);

        let through_gates = by_gates
            .slice(s![.., ..2 * units])
            .dot(&self.parts.inner.slice(s![.., ..2 * units]).t());
        by_state * &update.mapv(|u| one - u) + by_held * reset + through_gates
    }
}

impl<F: NdFloat> Parts<F> {
    fn zeros(&self) -> Self {
        Self {
            input: Array2::zeros(self.input.raw_dim()),
            inner: Array2::zeros(self.inner.raw_dim()),
            bias: Array1::zeros(self.bias.raw_dim()),
            output: Array2::zeros(self.output.raw_dim()),
            output_bias: Array1::zeros(self.output_bias.raw_dim()),
        }
    }

    fn values(&self) -> impl Iterator<Item = &F> {
        let matrices = self.input.iter().chain(&self.inner).chain(&self.bias);
        matrices.chain(&self.output).chain(&self.output_bias)
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut F> {
        let matrices = self
            .input
            .iter_mut()
            .chain(&mut self.inner)
            .chain(&mut self.bias);
        matrices
            .chain(&mut self.output)
            .chain(&mut self.output_bias)
    }
}

/// Steps by the mean and spread of past gradients.
///
/// Source: Kingma and Ba 2015.
struct Adam<F> {
    mean: Parts<F>,
    square: Parts<F>,
    steps: i32,
}

impl<F: NdFloat> Adam<F> {
    fn new(parts: &Parts<F>) -> Self {
        Self {
            mean: parts.zeros(),
            square: parts.zeros(),
            steps: 0,
        }
    }

    fn step(&mut self, parts: &mut Parts<F>, slopes: &Parts<F>, rate: f64) {
        self.steps += 1;
        let (keep, keep_square): (F, F) = (float(0.9), float(0.999));
        let rate =
            rate * (1.0 - 0.999_f64.powi(self.steps)).sqrt() / (1.0 - 0.9_f64.powi(self.steps));
        let (rate, tiny, one): (F, F, F) = (float(rate), float(1e-8), F::one());
        let moments = self.mean.values_mut().zip(self.square.values_mut());
        for ((value, slope), (mean, square)) in parts.values_mut().zip(slopes.values()).zip(moments)
        {
            *mean = keep * *mean + (one - keep) * *slope;
            *square = keep_square * *square + (one - keep_square) * *slope * *slope;
            *value -= rate * *mean / (square.sqrt() + tiny);
        }
    }
}

fn clip<F: NdFloat>(slopes: &mut Parts<F>, most: f64) {
    let square: f64 = slopes
        .values()
        .map(|v| v.to_f64().unwrap_or(0.0).powi(2))
        .sum();
    if square.sqrt() > most {
        let scale = float(most / square.sqrt());
        slopes.values_mut().for_each(|value| *value *= scale);
    }
}

fn huber_loss(error: f64, limit: f64) -> f64 {
    if error.abs() <= limit {
        error * error / 2.0
    } else {
        limit * (error.abs() - limit / 2.0)
    }
}

fn sigmoid<F: NdFloat>(x: F) -> F {
    F::one() / (F::one() + (-x).exp())
}

fn float<F: NdFloat>(value: f64) -> F {
    F::from(value).unwrap_or_else(F::zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        let mut dice = Dice::new(9);
        let model = Gru::<f64>::new(3, 4, 2, 1);
        let x = Array3::from_shape_simple_fn((5, 6, 3), || dice.normal());
        let y = Array2::from_shape_simple_fn((6, 2), || dice.normal());
        let (_, slopes) = model.slopes(x.view(), y.view(), 1.0);
        let slopes: Vec<f64> = slopes.values().copied().collect();
        for (at, slope) in slopes.iter().enumerate() {
            let loss = |by: f64| {
                let mut near = model.clone();
                *near.parts.values_mut().nth(at).unwrap() += by;
                near.slopes(x.view(), y.view(), 1.0).0
            };
            let seen = (loss(1e-6) - loss(-1e-6)) / 2e-6;
            assert!((seen - slope).abs() < 1e-6, "weight {at}: {seen} {slope}");
        }
    }

    #[test]
    fn it_learns_to_remember_the_first_value() {
        let settings = GruSettings {
            units: 8,
            steps: 600,
            batch: 32,
            rate: 0.02,
            seed: 1,
        };
        let mut make = |dice: &mut Dice, count: usize| {
            let x = Array3::from_shape_simple_fn((6, count, 1), || dice.normal() as f32);
            let y = x.slice(s![0, .., ..]).to_owned();
            (x, y)
        };
        let model = Gru::train(1, 1, &settings, 10.0, &mut make);
        let (x, y) = make(&mut Dice::new(77), 200);
        let error = (model.run(x.view()) - y).mapv(|e| e * e).mean().unwrap();
        assert!(error < 0.1, "{error}");
    }
}
