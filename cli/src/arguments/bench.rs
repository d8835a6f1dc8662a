//! What can be typed after `paceline bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `paceline bench …`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Inner steps a second of whole meta-gradients: perturb, unroll both lanes of every pair, fold
    Inner(BenchInner),
    /// One step of an optimizer on a list of tensors, in ns a parameter, Adam and AdamW beside it
    Update(BenchUpdate),
    /// What more threads bring: the measurement of `inner` at several thread counts, in alternation
    Scaling(BenchScaling),
    /// Every estimator on the toy regression of arXiv 2112.13835, beside the published curves of PES and NRES
    Estimators(BenchEstimators),
    /// The coordinator's fold: many pairs' reports into one meta-gradient of VeLO's size
    Fold(BenchFold),
    /// Networks on real data under Adam, beside published figures: Cora, spoken digits, MNIST
    Real(BenchReal),
}

/// A learned optimizer by name, with its sizes.
#[derive(Clone, Debug, Args)]
pub(crate) struct OptimizerChoice {
    /// The optimizer; a wrong name lists those there are
    #[arg(long, default_value = "adafac_mlp", value_name = "NAME")]
    pub(crate) optimizer: String,
    /// Width of its LSTM (hyper_v2, celo); VeLO has 512
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) lstm: Option<u32>,
    /// Networks in its bank (hyper_v2, celo); VeLO has 256
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) bank: Option<u32>,
    /// Width of its network a parameter (adafac_mlp, mlp, mlp_nominal)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) hidden: Option<u32>,
}

/// Which perturbations are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum NoiseKind {
    /// A normal for every value of theta
    Dense,
    /// Outer products of columns of normals
    LowRank,
}

/// The meta-gradient that is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct InnerWork {
    /// The learned optimizer.
    #[command(flatten)]
    pub(crate) optimizer: OptimizerChoice,
    /// The inner problem; a wrong name lists those there are
    #[arg(long, default_value = "mlp", value_name = "NAME")]
    pub(crate) task: String,
    /// Antithetic pairs
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) pairs: u32,
    /// Inner steps of each lane
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) steps: u32,
    /// Examples in a batch, instead of the task's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) batch: Option<u32>,
    /// Perturbations of theta
    #[arg(long, value_enum, default_value_t = NoiseKind::Dense, value_name = "KIND")]
    pub(crate) noise: NoiseKind,
    /// Rank of low-rank perturbations
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) rank: u32,
    /// How often it is timed, after one run that is not
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) reps: u32,
}

/// `paceline bench inner`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
A meta-gradient perturbs theta for every pair, trains both lanes of it, and folds the losses; making data is part of it.
Inner steps are counted over all lanes: 2 x pairs x steps.

Examples:
  paceline bench inner
  paceline bench inner --optimizer hyper_v2 --lstm 512 --bank 256 --noise low_rank --reps 3
  paceline bench inner --optimizer celo2_base --task conv --threads 2 --format json")]
pub(crate) struct BenchInner {
    /// What is computed.
    #[command(flatten)]
    pub(crate) work: InnerWork,
    /// Threads that compute; all processors if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// `paceline bench scaling`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Thread counts take turns, so that other work on the machine slows all of them. Efficiency is the pace a thread, over that of
the fewest threads.

Examples:
  paceline bench scaling
  paceline bench scaling --threads 1,2,4,8 --optimizer celo2_base --pairs 32
  paceline bench scaling --threads 1,2 --task conv --reps 3 --format json")]
pub(crate) struct BenchScaling {
    /// What is computed.
    #[command(flatten)]
    pub(crate) work: InnerWork,
    /// Thread counts, with commas between them; 1, 2, 4 … and all processors if left out
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Vec<u16>,
}

/// `paceline bench update`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Lists of shapes: square (one 1024x1024 matrix), vit_b16 (ViT-B/16, 86 M), gpt2_124m (GPT-2, 124 M), many_small (200 tensors
of 64 to 4096 values). Gradients are random; three steps of each come first and are not timed; optimizers take turns.

Examples:
  paceline bench update --optimizer celo2_base
  paceline bench update --optimizer adafac_mlp --hidden 32 --shapes many_small --threads 1
  paceline bench update --optimizer hyper_v2 --lstm 512 --bank 256 --shapes vit_b16 --format json")]
pub(crate) struct BenchUpdate {
    /// The optimizer.
    #[command(flatten)]
    pub(crate) optimizer: OptimizerChoice,
    /// List of tensors; a wrong name lists those there are
    #[arg(long, default_value = "square", value_name = "NAME")]
    pub(crate) shapes: String,
    /// Timed steps, at least 10 for figures that are told to others
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) reps: u32,
    /// Threads that compute; all processors if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// `paceline bench estimators`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  paceline bench estimators
  paceline bench estimators --seeds 1 --generations 1000
  paceline bench estimators --format json")]
pub(crate) struct BenchEstimators {
    /// Seeds of each estimator
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) seeds: u16,
    /// The first seed; the others follow it
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1 << 62))]
    pub(crate) seed: u64,
    /// Last generation; curves are published up to 4500
    #[arg(long, default_value_t = 4500, value_name = "N")]
    pub(crate) generations: u64,
    /// Threads that compute; all processors if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl BenchEstimators {
    /// Threads that compute.
    pub(crate) fn threads(&self) -> usize {
        self.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, Into::into), Into::into)
    }
}

/// `paceline bench fold`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Perturbations are drawn again from their seeds. The floor is what the rates of one thread, measured first, make of the
normals and the matrix products alone. Dense pairs take long: unless asked for more, 256 are timed and scaled.

Examples:
  paceline bench fold
  paceline bench fold --pairs 4096 --rank 1 --repeats 3 --threads 2
  paceline bench fold --dense-pairs 4096 --format json")]
pub(crate) struct BenchFold {
    /// Antithetic pairs to fold
    #[arg(long, default_value_t = 4096, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) pairs: u32,
    /// Rank of the low-rank perturbations
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) rank: u32,
    /// How often each fold is timed
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeats: u32,
    /// Threads that fold; all processors if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Dense pairs to fold, their time scaled to all; 256 if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) dense_pairs: Option<u32>,
}

/// `paceline bench real`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Every experiment trains from several seeds and is scored on its whole test split. Experiments whose data are not in the data
folder are skipped by name; if none has its data, the exit code is 64.

Examples:
  paceline bench real --data-dir ./data                       all of them
  paceline bench real cora fsdd/real fsdd/complex --data-dir ./data
  paceline bench real --data-dir ./data --quick               a tenth of the steps, two seeds: does it run?
  paceline bench real --data-dir ./data --out docs/results.md record whole groups in a page of Markdown")]
pub(crate) struct BenchReal {
    /// Groups of experiments, or single ones as GROUP/NAME; all if left out. A wrong name lists those there are
    #[arg(value_name = "EXPERIMENT")]
    pub(crate) experiments: Vec<String>,
    /// Folder with real data sets
    #[arg(long, env = "PACELINE_DATA", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Trainings of each experiment; as the experiments say if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) seeds: Option<u16>,
    /// A tenth of the steps, and two seeds unless told otherwise
    #[arg(long)]
    pub(crate) quick: bool,
    /// Page of Markdown whose sections of these groups are written anew
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Threads that compute; all processors if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl BenchReal {
    /// Threads that compute.
    pub(crate) fn threads(&self) -> usize {
        self.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, Into::into), Into::into)
    }
}
