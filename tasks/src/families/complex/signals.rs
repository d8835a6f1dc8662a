//! A network on labelled or paired complex signals, as a problem.

use std::fmt;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::task::Split;

use crate::layers::complex::{ComplexTensor, mean_squared_distance, modulus};
use crate::layers::cross_entropy;
use crate::models::{SignalNet, Signals};
use crate::phasor::cis;
use crate::problem::{Classified, Parameters, Pass, Problem, Scores, TestSplit};
use crate::sample::Panel;

/// Which examples of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) seed: Seed,
    pub(super) split: Split,
    pub(super) number: u64,
    pub(super) batch_size: usize,
    pub(super) size: usize,
}

/// Examples one after another.
#[derive(Debug, Default)]
pub(super) struct Examples {
    /// Numbers with their parts stacked, as [`ComplexTensor`] has them: `[examples, shape…]`, the last axis twice as long.
    pub(super) values: Vec<f32>,
    /// Phase matrices, if the signals have them.
    pub(super) phases: Vec<f32>,
    /// Classes, or nothing.
    pub(super) labels: Vec<u32>,
    /// Numbers to be predicted, parts stacked, or nothing.
    pub(super) targets: Vec<f32>,
}

/// What is to be found out of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// One of so many classes.
    Class(usize),
    /// So many numbers, scaled so that their mean squared distance from their mean is 1.
    Numbers(usize),
}

/// Complex signals, and what is to be found out of them. `Debug` says what they are and where they come from.
pub(super) trait Source: fmt::Debug + Send + Sync {
    /// Shape of an example; the last axis is channels, in complex numbers.
    fn shape(&self) -> Vec<usize>;

    /// Rows and columns of an example's phase matrix, if it has one.
    fn phases(&self) -> Option<[usize; 2]> {
        None
    }

    /// What is to be found out.
    fn goal(&self) -> Goal;

    /// How many examples there are to test on, if they have an end.
    fn test_examples(&self) -> Option<usize> {
        None
    }

    /// Adds the examples wanted. Fewer are the first of more.
    fn append(&self, wanted: Wanted, examples: &mut Examples);

    /// What they look like.
    fn panels(&self, seed: Seed) -> Vec<Panel>;
}

/// A network on signals.
pub(super) struct SignalProblem {
    name: &'static str,
    net: Box<dyn SignalNet>,
    source: Box<dyn Source>,
    batch_size: usize,
}

impl SignalProblem {
    pub(super) fn new(name: &'static str, net: Box<dyn SignalNet>, source: Box<dyn Source>, batch_size: usize) -> Self {
        Self { name, net, source, batch_size }
    }
}

impl fmt::Debug for SignalProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (net, parameters) = (self.net.describe(), self.parameters().layout().size());
        write!(f, "{net}, {parameters} parameters, batch {}, data {:?}", self.batch_size, self.source)
    }
}

/// The data of a step.
pub(super) struct Batch {
    signals: Signals,
    goal: Target,
}

enum Target {
    Labels(Arc<Vec<u32>>),
    Numbers(ComplexTensor),
}

impl Problem for SignalProblem {
    type Instance = ();
    type Batch = Batch;

    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> &Parameters {
        self.net.parameters()
    }

    fn state(&self) -> Option<&Parameters> {
        self.net.state()
    }

    fn instance(&self, _: Seed) {}

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn test_split(&self) -> Option<TestSplit> {
        TestSplit::new(self.source.test_examples()?, self.batch_size)
    }

    fn batch(&self, tasks: &[(Seed, ())], split: Split, number: u64, size: usize) -> Result<Batch> {
        let mut examples = Examples::default();
        // Grown bit by bit, the largest tensor of a batch would take up to twice its size.
        let count = |shape: &[usize]| tasks.len() * size * shape.iter().product::<usize>();
        examples.values.reserve_exact(2 * count(&self.source.shape()));
        if let Some(shape) = self.source.phases() {
            examples.phases.reserve_exact(count(&shape));
        }
        for &(seed, ()) in tasks {
            let wanted = Wanted { seed, split, number, batch_size: self.batch_size, size };
            self.source.append(wanted, &mut examples);
        }
        let Examples { values, phases, labels, targets } = examples;
        let shaped = |values: Vec<f32>, shape: &[usize]| {
            Tensor::from_vec(values, [&[tasks.len(), size], shape].concat(), &Device::Cpu)
        };
        let stacked = |mut shape: Vec<usize>| {
            shape.iter_mut().last().into_iter().for_each(|channels| *channels *= 2);
            shape
        };
        let values = ComplexTensor::from_stacked(shaped(values, &stacked(self.source.shape()))?)?;
        let phases = self.source.phases().map(|shape| shaped(phases, &shape)).transpose()?;
        let goal = match self.source.goal() {
            Goal::Class(_) => Target::Labels(Arc::new(labels)),
            Goal::Numbers(count) => {
                Target::Numbers(ComplexTensor::from_stacked(shaped(targets, &stacked(vec![count]))?)?)
            }
        };
        Ok(Batch { signals: Signals { values, phases }, goal })
    }

    fn tensors(batch: &Batch) -> Vec<&Tensor> {
        let mut tensors = vec![batch.signals.values.stacked()];
        tensors.extend(&batch.signals.phases);
        if let Target::Numbers(numbers) = &batch.goal {
            tensors.push(numbers.stacked());
        }
        tensors
    }

    fn losses(&self, pass: &mut Pass<'_>, _: &[(Seed, ())], batch: &Batch) -> Result<Scores> {
        let outputs = self.net.outputs(pass, &batch.signals)?;
        match &batch.goal {
            Target::Numbers(numbers) => {
                let losses = mean_squared_distance(&mut pass.tape, &outputs, numbers)?;
                Ok(Scores { losses, classified: None })
            }
            Target::Labels(labels) => {
                let logits = modulus(&mut pass.tape, &outputs)?;
                let losses = cross_entropy(&mut pass.tape, &logits, labels)?;
                let classified = Classified { logits, labels: Arc::clone(labels), padding: None };
                Ok(Scores { losses, classified: Some(classified) })
            }
        }
    }

    /// `clip(loss, 0, 1.5 c)`, where c is the loss of who knows nothing: ln classes, or 1 for scaled numbers. Not a number
    /// is the ceiling.
    fn normalise(&self, loss: f64) -> f64 {
        let ceiling = match self.source.goal() {
            Goal::Class(classes) => 1.5 * (classes as f64).ln(),
            Goal::Numbers(_) => 1.5,
        };
        if loss.is_finite() { loss.clamp(0.0, ceiling) } else { ceiling }
    }

    fn panels(&self, seed: Seed) -> Vec<Panel> {
        self.source.panels(seed)
    }
}

/// Angle in turns of a number, in `[−½, ½]`, by bisection with [`cis`]: pictures are the same on every host.
fn turns(re: f32, im: f32) -> f32 {
    let (re, im) = (f64::from(re), f64::from(im));
    if !(re.is_finite() && im.is_finite()) {
        return 0.0;
    }
    // Where the number lies left of the direction, the angle is larger.
    let (mut low, mut high) = if im >= 0.0 { (0.0, 0.5) } else { (-0.5, 0.0) };
    for _ in 0..24 {
        let middle = (low + high) / 2.0;
        let direction = cis(middle);
        if direction.re * im - direction.im * re > 0.0 { low = middle } else { high = middle }
    }
    ((low + high) / 2.0) as f32
}

/// Magnitudes and angles of `rows × columns` numbers, as two pictures; black is −π, white is π.
pub(super) fn pictures(title: &str, [rows, columns]: [usize; 2], re: &[f32], im: &[f32]) -> [Panel; 2] {
    let parts = || re.iter().zip(im);
    let magnitudes: Vec<f32> = parts().map(|(&re, &im)| (re * re + im * im).sqrt()).collect();
    let angles = parts().map(|(&re, &im)| (turns(re, im) + 0.5).clamp(0.0, 1.0)).collect();
    [
        Panel::scaled(format!("{title}, magnitude"), rows, columns, &magnitudes),
        Panel::Picture { title: format!("{title}, phase"), height: rows, width: columns, channels: 1, values: angles },
    ]
}

/// A stream of examples without end: number `place` of the batch that the draws of its seed make. Test batches are the same
/// for all tasks, and follow one another.
pub(super) fn stream(wanted: Wanted, place: usize, data: Seed) -> Draws {
    let Wanted { seed, split, number, batch_size, .. } = wanted;
    let position = crate::data::position(split);
    let of_task = if split == Split::Test { 0 } else { seed.value() };
    let example = u128::from(number) * batch_size as u128 + place as u128;
    let [high, low] = [(example >> 64) as u64, example as u64];
    Draws::new(data.fold_in(position).fold_in(of_task).fold_in(high).fold_in(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_are_those_of_the_plane() {
        for step in -99..100 {
            let turn = f64::from(step) / 200.0;
            let number = cis(turn) * 3.0;
            assert!((f64::from(turns(number.re as f32, number.im as f32)) - turn).abs() < 1e-6, "{turn}");
        }
        assert!((turns(-1.0, 0.0) - 0.5).abs() < 1e-6 && turns(f32::NAN, 0.0) == 0.0);
    }

    #[test]
    fn streams_differ_by_task_but_for_the_test() {
        let wanted = |seed, split, number| Wanted { seed: Seed::new(seed), split, number, batch_size: 8, size: 8 };
        let first = |wanted, place| stream(wanted, place, Seed::new(1)).word();
        assert_eq!(first(wanted(1, Split::Test, 1), 0), first(wanted(2, Split::Test, 0), 8));
        assert_ne!(first(wanted(1, Split::Train, 0), 0), first(wanted(2, Split::Train, 0), 0));
        assert_ne!(first(wanted(1, Split::Train, 0), 0), first(wanted(1, Split::InnerValid, 0), 0));
        assert_ne!(first(wanted(1, Split::Train, 0), 0), first(wanted(1, Split::Train, 1), 0));
    }
}
