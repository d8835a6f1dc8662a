//! `image_complex`: images in the complex plane, experiment 1 of the complex audio study (shared spec,
//! complex-and-audio.md §6.1).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use num_complex::Complex;
use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::task::Split;
use paceline_optimizer_core::{Purpose, Seed};
use serde::{Deserialize, Serialize};

use super::super::Family;
use super::super::settings::{FamilySettings, check_batch, family, refuse};
use super::net::{Fit, Net, NetSettings};
use super::perturb::{Fft2, Input, Perturbed, Strength};
use super::signals::{Examples, Goal, SignalProblem, Source, Wanted, pictures};
use crate::Error;
use crate::data::{DataSettings, ImageData, ImageSource};
use crate::layers::complex::ComplexInit;
use crate::models::Hidden;
use crate::problem::{ParametersBuilder, indices};
use crate::sample::Panel;

/// Settings of `image_complex`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct ImageComplex {
    /// Where images come from.
    data: ImageSource,
    /// Seed of procedural data.
    data_seed: u64,
    /// Height and width of an image.
    image_size: usize,
    /// Whether colours become grey.
    greyscale: bool,
    /// `complex`, `real`, or `real_matched`: as many numbers as the complex one.
    net: Net,
    /// Hidden activation; a real net has the same function of real numbers.
    activation: Hidden,
    /// Initial weights.
    init: ComplexInit,
    /// What makes images complex.
    input: Input,
    /// Which batches it is done to: `train`, as in the study, or `both`. The Fourier transform is for all.
    perturb: Perturbed,
    /// Deviation of each part of `input = "noise"`.
    noise: f32,
    /// The part that `input = "imaginary"` adds.
    imaginary: f32,
    /// The angle of `input = "rotation"`, in radians.
    rotation: f64,
    /// Height and width of both kernels.
    kernel: usize,
    /// Output channels of both convolutions.
    channels: [usize; 2],
    /// Width of the hidden layer; 500 in the study.
    hidden: usize,
    /// Examples in a batch.
    batch_size: usize,
}

impl Default for ImageComplex {
    fn default() -> Self {
        Self {
            data: ImageSource::default(),
            data_seed: 0,
            image_size: 16,
            greyscale: false,
            net: Net::Complex,
            activation: Hidden::Crelu,
            init: ComplexInit::PolarHe,
            input: Input::Plain,
            perturb: Perturbed::Train,
            noise: 1e-5,
            imaginary: 0.1,
            rotation: 0.5,
            kernel: 5,
            channels: [4, 8],
            hidden: 32,
            batch_size: 32,
        }
    }
}

impl FamilySettings for ImageComplex {
    const NAME: &'static str = "image_complex";
    const SUMMARY: &'static str =
        "classify images in the complex plane by two complex convolutions and two linear layers";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        let Self { data: source, data_seed, image_size, greyscale, input, perturb, batch_size, .. } = self;
        let Self { net, activation, init, kernel, channels, hidden, .. } = self;
        let net = NetSettings { net, activation, init, kernel, channels, hidden };
        net.check::<Self>()?;
        let strength = Strength { noise: self.noise, imaginary: self.imaginary, rotation: self.rotation };
        let amplitudes =
            [("noise", f64::from(self.noise)), ("imaginary", f64::from(self.imaginary)), ("rotation", self.rotation)];
        // A few turns: further away sine and cosine lose digits.
        if let Some((name, got)) = amplitudes.into_iter().find(|(_, value)| !(-10.0..=10.0).contains(value)) {
            return Err(refuse::<Self>(format!("{name} must be −10 to 10 (got {got})")));
        }
        let data = DataSettings { source, image_size, greyscale, data_seed }.load(Self::NAME, data_dir)?;
        check_batch::<Self>(batch_size, data.train.len())?;
        let [rows, columns, image_channels] = data.shape();
        let fit =
            Fit { image: [rows, columns], channels: image_channels, classes: data.classes(), is_real: input.is_real() };
        let net = net.build::<Self>(fit, ParametersBuilder::default())?;
        let fft = (input == Input::Fft).then(|| Fft2::new(rows));
        let source = Images { data, input, perturb, strength, fft };
        family::<Self>("channels, hidden", SignalProblem::new(Self::NAME, net, Box::new(source), batch_size))
    }
}

/// Images, made complex batch by batch.
struct Images {
    data: Arc<ImageData>,
    input: Input,
    perturb: Perturbed,
    strength: Strength,
    fft: Option<Fft2>,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = if self.perturb == Perturbed::Both { " in all splits" } else { "" };
        write!(f, "{:?}, {:?}{which}", self.data, self.input)
    }
}

impl Images {
    /// Numbers of one image, row by row.
    fn numbers(&self, split: Split, index: usize, draws: &mut Draws) -> Vec<Complex<f32>> {
        let [height, width, channels] = self.data.shape();
        let size = height * width * channels;
        let pixels = &self.data.split(split).images[index * size..(index + 1) * size];
        let centred: Vec<f32> = pixels.iter().map(|pixel| pixel - 0.5).collect();
        match &self.fft {
            Some(fft) => {
                let planes: Vec<Vec<_>> = (0..channels)
                    .map(|channel| fft.transform(centred.iter().copied().skip(channel).step_by(channels)))
                    .collect();
                (0..size).map(|place| planes[place % channels][place / channels]).collect()
            }
            None if split == Split::Train || self.perturb == Perturbed::Both => {
                self.input.perturb(self.strength, &centred, draws)
            }
            None => Input::Plain.perturb(self.strength, &centred, draws),
        }
    }

    /// Random numbers of a batch's perturbations.
    fn draws(wanted: Wanted) -> Draws {
        let seed = wanted.seed.purpose(Purpose::Data).fold_in(crate::data::position(wanted.split));
        Draws::new(seed.fold_in(wanted.number))
    }
}

impl Source for Images {
    fn shape(&self) -> Vec<usize> {
        self.data.shape().to_vec()
    }

    fn goal(&self) -> Goal {
        Goal::Class(self.data.classes())
    }

    fn test_examples(&self) -> Option<usize> {
        Some(self.data.test.len())
    }

    fn append(&self, wanted: Wanted, examples: &mut Examples) {
        let Wanted { seed, split, number, batch_size, size } = wanted;
        let (data, channels) = (self.data.split(split), self.data.shape()[2]);
        let mut draws = Self::draws(wanted);
        for index in indices(seed, split, number, data.len(), batch_size, size) {
            for pixel in self.numbers(split, index, &mut draws).chunks_exact(channels) {
                examples.values.extend(pixel.iter().map(|z| z.re));
                examples.values.extend(pixel.iter().map(|z| z.im));
            }
            examples.labels.push(data.labels[index]);
        }
    }

    fn panels(&self, seed: Seed) -> Vec<Panel> {
        let ([height, width, channels], train) = (self.data.shape(), &self.data.train);
        let mut draws = Draws::new(seed.purpose(Purpose::Data));
        let picked = indices(seed, Split::Train, 0, train.len(), 6, 6);
        let panels = picked.into_iter().flat_map(|index| {
            let numbers = self.numbers(Split::Train, index, &mut draws);
            let first: Vec<Complex<f32>> = numbers.into_iter().step_by(channels).collect();
            let (re, im): (Vec<f32>, Vec<f32>) = first.iter().map(|z| (z.re, z.im)).unzip();
            pictures(&format!("class {}", train.labels[index]), [height, width], &re, &im)
        });
        panels.collect()
    }
}
