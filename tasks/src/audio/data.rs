//! Features of a data set in four splits.

use std::fmt;

use paceline_optimizer_core::task::Split;

/// Examples of one split.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AudioExamples {
    /// `[examples, channels, rows, frames]`.
    pub(crate) values: Vec<f32>,
    /// The class of each example.
    pub(crate) labels: Vec<u32>,
    /// The phase matrix φ of each example, `[examples, n_mfcc, frames]` in radians; empty unless asked for.
    pub(crate) phases: Vec<f32>,
}

impl AudioExamples {
    /// Number of examples.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// These examples in another order.
    pub(crate) fn reordered(&self, order: &[usize]) -> Self {
        let gather = |all: &[f32]| -> Vec<f32> {
            let size = all.len().checked_div(self.len()).unwrap_or(0);
            order.iter().flat_map(|&index| &all[index * size..(index + 1) * size]).copied().collect()
        };
        Self {
            values: gather(&self.values),
            labels: order.iter().map(|&index| self.labels[index]).collect(),
            phases: gather(&self.phases),
        }
    }
}

/// A data set of sounds as features.
#[derive(Clone, PartialEq)]
pub(crate) struct AudioData {
    /// What it is and where it came from, for people: two data sets are different problems.
    pub(crate) origin: String,
    /// Names of the classes; a label is a place in this list.
    pub(crate) classes: Vec<String>,
    /// Channels (1, or 2 for re and im), rows and frames of an example.
    pub(crate) shape: [usize; 3],
    /// Train, inner_valid, outer_valid, test.
    pub(crate) splits: [AudioExamples; 4],
}

impl AudioData {
    /// Channels (1, or 2 for re and im), rows and frames of an example.
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The examples of a split.
    pub(crate) fn split(&self, split: Split) -> &AudioExamples {
        let [train, inner_valid, outer_valid, test] = &self.splits;
        match split {
            Split::Train => train,
            Split::InnerValid => inner_valid,
            Split::OuterValid => outer_valid,
            Split::Test => test,
        }
    }
}

impl fmt::Debug for AudioData {
    /// What it is and how large, without the numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [train, inner, outer, test] = self.splits.each_ref().map(AudioExamples::len);
        let ([channels, rows, frames], classes) = (self.shape, self.classes.len());
        write!(
            f,
            "{}, {channels}×{rows}×{frames}, {classes} classes, {train}/{inner}/{outer}/{test} examples",
            self.origin
        )
    }
}

/// Subtracts from every row its mean over the training examples and frames, padding included, and divides by its standard
/// deviation. A complex row has one deviation, √E|z - mean|², so that angles around the mean stay.
pub(crate) fn standardise(splits: &mut [AudioExamples; 4], [channels, rows, frames]: [usize; 3]) {
    let plane = rows * frames;
    for row in 0..rows {
        let places = |channel: usize| channel * plane + row * frames..channel * plane + (row + 1) * frames;
        let train = || splits[0].values.chunks_exact(channels * plane);
        let count = (splits[0].len() * frames).max(1) as f64;
        let sum = |channel: usize, term: &dyn Fn(f64) -> f64| -> f64 {
            let numbers = train().flat_map(|example| &example[places(channel)]);
            numbers.map(|&value| term(f64::from(value))).sum()
        };
        let means: Vec<f64> = (0..channels).map(|channel| sum(channel, &|value| value) / count).collect();
        let squares = means.iter().enumerate().map(|(channel, mean)| sum(channel, &|value| (value - mean).powi(2)));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        // A constant row has nothing to scale.
        let scale = if deviation > 1e-9 { deviation } else { 1.0 };
        for example in splits.iter_mut().flat_map(|split| split.values.chunks_exact_mut(channels * plane)) {
            for (channel, mean) in means.iter().enumerate() {
                let values = example[places(channel)].iter_mut();
                values.for_each(|value| *value = ((f64::from(*value) - mean) / scale) as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standardised_rows_have_mean_0_and_deviation_1_in_training() {
        let values: Vec<f32> = (0..2 * 2 * 3 * 4 * 5).map(|n| ((n * n) % 37) as f32).collect();
        let examples = |values: &[f32]| AudioExamples {
            values: values.to_vec(),
            labels: vec![0; values.len() / 24],
            phases: vec![],
        };
        let split = examples(&values);
        let mut splits = [split.clone(), split.clone(), examples(&values[..24]), AudioExamples::default()];
        standardise(&mut splits, [2, 3, 4]);
        assert_eq!(splits[0], splits[1]);
        assert_eq!(splits[2].values, splits[0].values[..24]);
        for row in 0..3 {
            let numbers: Vec<(f64, f64)> = splits[0]
                .values
                .chunks(24)
                .flat_map(|example| (0..4).map(move |t| (example[row * 4 + t], example[12 + row * 4 + t])))
                .map(|(re, im)| (f64::from(re), f64::from(im)))
                .collect();
            let count = numbers.len() as f64;
            let (re, im) = numbers.iter().fold((0.0, 0.0), |(re, im), number| (re + number.0, im + number.1));
            let power: f64 = numbers.iter().map(|(re, im)| re * re + im * im).sum::<f64>() / count;
            assert!(re.abs() / count < 1e-6 && im.abs() / count < 1e-6 && (power - 1.0).abs() < 1e-6, "row {row}");
        }
    }
}
