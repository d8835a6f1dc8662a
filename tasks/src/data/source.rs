//! Which data a family trains on: settings to a shared data set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use paceline_optimizer_core::Seed;
use serde::{Deserialize, Serialize};

use super::resize::resize;
use super::{Examples, ImageData, Pixels, Shared, cifar, data_error, data_folder, idx, procedural, split_shuffled};
use crate::Error;

/// Where images come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// Drawn from `data_seed`; needs no files.
    #[default]
    Procedural,
    /// MNIST if the data folder has it, else procedural. The family's `Debug` says which it was.
    Auto,
    /// IDX files in `<data folder>/mnist`; the test files alone are enough.
    Mnist,
    /// IDX files in `<data folder>/fashion_mnist`; the test files alone are enough.
    FashionMnist,
    /// Binary files in `<data folder>/cifar10`.
    Cifar10,
    /// No data: black images of this many channels, to find out what a member of a family would cost before its data
    /// are read. Nobody can write this in a recipe.
    #[serde(skip)]
    Blank(u8),
}

impl ImageSource {
    /// Largest height and width of its images, and their channels.
    pub(crate) fn most(self) -> (usize, u8) {
        match self {
            Self::Procedural | Self::Auto => (MAX_PROCEDURAL, 1),
            Self::Mnist | Self::FashionMnist => (28, 1),
            Self::Cifar10 => (cifar::SIDE, 3),
            Self::Blank(channels) => (MAX_PROCEDURAL, channels),
        }
    }

    /// This source, with `auto` decided by what the data folder holds.
    #[must_use]
    pub fn resolve(self, data_dir: Option<&Path>) -> Self {
        if self != Self::Auto {
            return self;
        }
        let has_mnist = data_dir.is_some_and(|folder| {
            let folder = folder.join("mnist");
            ["train", "t10k"].iter().any(|part| idx::locate(&folder, &format!("{part}-images-idx3-ubyte")).is_some())
        });
        if has_mnist { Self::Mnist } else { Self::Procedural }
    }
}

/// What a family's settings say about its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DataSettings {
    /// Where images come from.
    pub source: ImageSource,
    /// Height and width after resizing.
    pub image_size: usize,
    /// Whether colours become grey.
    pub greyscale: bool,
    /// Seed of procedural data; real data ignore it.
    pub data_seed: u64,
}

/// Largest procedural image, in pixels a side.
const MAX_PROCEDURAL: usize = 64;

impl DataSettings {
    /// The data set, made or read once in this process for all that use it at the same time.
    ///
    /// # Errors
    /// [`Error::Data`] names the file or folder at fault, [`Error::Setting`] an image size the data cannot give.
    pub fn load(self, family: &str, data_dir: Option<&Path>) -> Result<Arc<ImageData>, Error> {
        let resolved = self.resolve(data_dir);
        let folder = resolved.folder(data_dir)?;
        // Only real data depend on files, only procedural data on the seed.
        let key = match folder {
            None => (DataSettings { greyscale: true, ..resolved }, None),
            Some(_) => (DataSettings { data_seed: 0, ..resolved }, folder.clone()),
        };
        static LOADED: Shared<(DataSettings, Option<PathBuf>), ImageData> = Shared::new();
        LOADED.get(key, || match folder {
            None => resolved.generate(family),
            Some(folder) => resolved.read(family, &folder),
        })
    }

    /// Decides what `auto` is.
    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { source: self.source.resolve(data_dir), ..self }
    }

    /// The folder of real data.
    fn folder(self, data_dir: Option<&Path>) -> Result<Option<PathBuf>, Error> {
        let name = match self.source {
            ImageSource::Procedural | ImageSource::Auto | ImageSource::Blank(_) => return Ok(None),
            ImageSource::Mnist => "mnist",
            ImageSource::FashionMnist => "fashion_mnist",
            ImageSource::Cifar10 => "cifar10",
        };
        data_folder(data_dir, name).map(Some)
    }

    fn check_size(self, family: &str, largest: usize) -> Result<(), Error> {
        if (1..=largest).contains(&self.image_size) {
            return Ok(());
        }
        let reason = format!("image_size must be 1 to {largest} for these data (got {})", self.image_size);
        Err(Error::Setting { family: family.into(), reason })
    }

    fn generate(self, family: &str) -> Result<ImageData, Error> {
        self.check_size(family, MAX_PROCEDURAL)?;
        if let ImageSource::Blank(channels) = self.source {
            return Ok(blank(self.image_size, usize::from(channels)));
        }
        Ok(procedural::generate(Seed::new(self.data_seed), self.image_size))
    }

    fn read(self, family: &str, folder: &Path) -> Result<ImageData, Error> {
        let (name, classes, train, test) = match self.source {
            ImageSource::Cifar10 => {
                let (train, test) = (cifar::read_train(folder)?, cifar::read_test(folder)?);
                ("cifar10", cifar::CLASSES, Some(train), test)
            }
            source => {
                let name = if source == ImageSource::FashionMnist { "fashion_mnist" } else { "mnist" };
                let has_train = idx::locate(folder, "train-images-idx3-ubyte").is_some();
                let train = has_train.then(|| idx::read_pair(folder, "train")).transpose()?;
                (name, idx::CLASSES, train, idx::read_pair(folder, "t10k")?)
            }
        };
        if let Some(train) = &train
            && (train.height, train.width) != (test.height, test.width)
        {
            return Err(data_error(folder, "training and test images differ in size: they are not of one data set"));
        }
        self.check_size(family, test.height.min(test.width))?;
        let resized = |pixels: &Pixels| resize(pixels, self.image_size, self.greyscale);
        let only_test = train.is_none();
        let [train, inner_valid, outer_valid, test] = match train {
            Some(train) => {
                let all = resized(&train);
                let (tenth, rest) = (all.len() / 10, all.len() - 2 * (all.len() / 10));
                let [train, inner, outer] = split_shuffled(&all, [rest, tenth, tenth]);
                [train, inner, outer, resized(&test)]
            }
            None => {
                let all = resized(&test);
                let (tenth, twentieth) = (all.len() / 10, all.len() / 20);
                split_shuffled(&all, [all.len() - 2 * twentieth - tenth, twentieth, twentieth, tenth])
            }
        };
        let parts = [&train, &inner_valid, &outer_valid, &test];
        if parts.iter().any(|part| part.is_empty()) {
            let counts = parts.map(Examples::len);
            return Err(data_error(folder, format!("holds too few examples to split: {counts:?} would remain")));
        }
        let files = if only_test { " (test files only)" } else { "" };
        let channels = train.images.len() / (train.len() * self.image_size * self.image_size);
        Ok(ImageData {
            origin: format!("{name}{files} from {}", folder.display()),
            size: self.image_size,
            channels,
            classes: usize::from(classes),
            train,
            inner_valid,
            outer_valid,
            test,
        })
    }
}

/// As many black images as the largest batch.
fn blank(size: usize, channels: usize) -> ImageData {
    let examples = || Examples { images: vec![0.0; 512 * size * size * channels], labels: vec![0; 512] };
    ImageData {
        origin: "blank".into(),
        size,
        channels,
        classes: usize::from(idx::CLASSES),
        train: examples(),
        inner_valid: examples(),
        outer_valid: examples(),
        test: examples(),
    }
}
