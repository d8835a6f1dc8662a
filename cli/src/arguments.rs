//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use paceline_proto::access::Secret;
use paceline_proto::client::{Access, TokenSource};
use paceline_proto::model::RunId;
use paceline_proto::tls::Trust;

use crate::console::{Color, Format};
use crate::export::Form;

mod bench;
mod token;

pub(crate) use bench::{
    BenchCommand, BenchEstimators, BenchFold, BenchInner, BenchReal, BenchScaling, BenchUpdate, InnerWork, NoiseKind,
    OptimizerChoice,
};

pub(crate) use token::{NewTokenArguments, TokenCommand, WorkersCommand};

/// Meta-trains learned optimizers, alone or on a fleet.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "paceline",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  paceline train                            train a small learned optimizer here, then compare it with tuned Adam
  paceline train my-recipe.toml --workers 2
  paceline run submit my-recipe.toml        give a run to a coordinator and its fleet
  paceline checkpoint pull quickstart-1a2b3c4d
  paceline eval quickstart-1a2b3c4d-600.safetensors

Exit codes: 0 ok, 1 run failed, 2 usage, 64 bad input, 69 coordinator unavailable, 70 internal, 73 cannot create,
74 input/output, 75 try later, 77 not allowed, 78 configuration or version, 130 interrupted (docs/exit-codes.md)."
)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How results are written: text for people, or JSON, one object or one a line for each event
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// Whether to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Say more on standard error (-v: information, -vv: debugging); PACELINE_LOG, a filter such as paceline_worker=debug, goes first
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print every setting of the command and where it comes from, and do nothing
    #[arg(long, global = true)]
    pub(crate) print_config: bool,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a learned optimizer here: coordinator and workers in this process
    Train(TrainArguments),
    /// Submit, watch and steer runs of a coordinator
    #[command(after_help = "\
Examples:
  paceline run submit recipe.toml --coordinator http://fleet:7700
  paceline run watch quickstart-1a2b3c4d
  paceline run ledger quickstart-1a2b3c4d --format json
  paceline run export quickstart-1a2b3c4d --to tensorboard -o logs/quickstart")]
    Run {
        /// What to do with runs.
        #[command(subcommand)]
        command: RunCommand,
        /// Where the coordinator listens.
        #[command(flatten)]
        remote: Remote,
    },
    /// List, pull, show, verify, import and export trained optimizers
    #[command(after_help = "\
Examples:
  paceline checkpoint list quickstart-1a2b3c4d
  paceline checkpoint pull quickstart-1a2b3c4d --step 200 -o trained.safetensors
  paceline checkpoint verify trained.safetensors
  paceline checkpoint import velo/
  paceline checkpoint export trained.safetensors --to flax -o for-jax/")]
    Checkpoint {
        /// What to do with checkpoints.
        #[command(subcommand)]
        command: CheckpointCommand,
        /// Where the coordinator listens.
        #[command(flatten)]
        remote: Remote,
    },
    /// Enrol workers at a coordinator that asks for tokens, list and revoke them
    #[command(after_help = "\
Examples:
  paceline workers enroll gpu-7 -o gpu-7.token      then: paceline-worker --token-file gpu-7.token …
  paceline workers enroll spot --expires 12h        one token for a group: their ids begin with spot.
  paceline workers revoke gpu-7")]
    Workers {
        /// What to do with workers.
        #[command(subcommand)]
        command: WorkersCommand,
        /// Where the coordinator listens.
        #[command(flatten)]
        remote: Remote,
    },
    /// Make, list and revoke tokens of people and programs at a coordinator
    #[command(after_help = "\
Examples:
  paceline token create ann -o ann.token            may submit and steer runs
  paceline token create ops --role operator --expires 30d
  paceline token list
  paceline token revoke 1f2e3d4c")]
    Token {
        /// What to do with tokens.
        #[command(subcommand)]
        command: TokenCommand,
        /// Where the coordinator listens.
        #[command(flatten)]
        remote: Remote,
    },
    /// Compare a checkpoint with learning-rate-tuned Adam on held-out tasks: table, CSV, JSON and SVG
    Eval(EvalArguments),
    /// The families of inner problems: what they draw, their size and cost, a sample of their data
    #[command(after_help = "\
Examples:
  paceline tasks list
  paceline tasks show image_mlp --measure
  paceline tasks sample image_mlp --seed 3 -o sample.svg")]
    Tasks {
        /// What to do with task families.
        #[command(subcommand)]
        command: TasksCommand,
    },
    /// Measurements that anybody can repeat
    #[command(after_help = "\
Examples:
  paceline bench inner --optimizer adafac_mlp --task mlp
                                            inner steps a second of whole meta-gradients
  paceline bench update --optimizer celo2_base --shapes square
                                            an optimizer's step in ns a parameter, Adam beside it
  paceline bench scaling --threads 1,2      the same by threads
  paceline bench estimators                 the estimators on the toy regression, beside the published curves
  paceline bench fold                       4096 pairs of VeLO's size into a meta-gradient, low-rank and dense")]
    Bench {
        /// What to measure.
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// Check this machine: processor, data, store, coordinator
    Doctor(DoctorArguments),
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  paceline completions bash > ~/.local/share/bash-completion/completions/paceline
  paceline completions zsh > ~/.zfunc/_paceline
  paceline completions fish > ~/.config/fish/completions/paceline.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one a command
    #[command(after_help = "\
Examples:
  paceline man ~/.local/share/man/man1 && man paceline-train")]
    Man {
        /// Folder to write them into; made if it is not there
        folder: PathBuf,
    },
}

/// Where a coordinator listens.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remote {
    /// Address of the coordinator
    #[arg(
        long,
        global = true,
        env = "PACELINE_COORDINATOR",
        default_value = "http://127.0.0.1:7700",
        value_name = "URL"
    )]
    pub(crate) coordinator: String,
    /// What is trusted and shown there.
    #[command(flatten)]
    pub(crate) access: AccessArguments,
}

/// What is trusted and shown at a coordinator. The token itself is never an argument, which others can see.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Security (docs/security.md)")]
pub(crate) struct AccessArguments {
    /// Authorities that may vouch for the coordinator, in PEM; those of the system if left out
    #[arg(long, global = true, env = "PACELINE_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Your certificate, in PEM
    #[arg(long, global = true, env = "PACELINE_CERT", value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, global = true, env = "PACELINE_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// File with your token; without one, PACELINE_TOKEN is the token
    #[arg(long, global = true, env = "PACELINE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl AccessArguments {
    /// As the client takes it.
    pub(crate) fn access(&self) -> Access {
        let token = match (&self.token_file, std::env::var("PACELINE_TOKEN")) {
            (Some(file), _) => TokenSource::File(file.clone()),
            (None, Ok(token)) if !token.is_empty() => TokenSource::Text(Secret::new(token)),
            (None, _) => TokenSource::None,
        };
        let Self { ca, cert, key, .. } = self.clone();
        Access { trust: Trust { ca, certificate: cert, key }, token }
    }
}

/// `paceline train`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Ctrl-C stops gracefully: the same command continues the run where it stood. A second Ctrl-C ends at once.

Examples:
  paceline train                              the quick start
  paceline train --data-dir ./data            with real images, if there are any in ./data
  paceline train conv --workers 4 --threads 2 another built-in recipe (quickstart, full-es, nres, conv, hyper-v2, ten-families)
  paceline train my.toml --steps 50 --no-eval --store /tmp/try")]
pub(crate) struct TrainArguments {
    /// A recipe: a TOML file, or a built-in name; the quick start if left out
    #[arg(value_name = "RECIPE")]
    pub(crate) recipe: Option<PathBuf>,
    /// Folder with real data sets
    #[arg(long, env = "PACELINE_DATA", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Folder of runs and checkpoints
    #[arg(long, env = "PACELINE_STORE", default_value = "./paceline-data", value_name = "DIR")]
    pub(crate) store: PathBuf,
    /// Workers in this process
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,
    /// Threads that compute, a worker; all processors, shared out, if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Where workers compute: cpu, cuda:N, or auto (cuda:0 if it can be used, else cpu)
    #[arg(long, env = "PACELINE_DEVICE", value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: paceline_worker::Device,
    /// Outer steps, instead of the recipe's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: Option<u64>,
    /// Start a new run even if an equal one is unfinished
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Do not compare the result with tuned Adam at the end
    #[arg(long)]
    pub(crate) no_eval: bool,
}

/// `paceline run …`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Give a run to the coordinator
    Submit {
        /// A recipe: a TOML file, or a built-in name
        recipe: PathBuf,
        /// Folder with real data sets, to check the recipe against
        #[arg(long, env = "PACELINE_DATA", value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Continue the newest unfinished run of the same recipe, if there is one
        #[arg(long)]
        resume: bool,
    },
    /// All runs, newest first
    List,
    /// Everything about a run
    Show {
        /// The run's id
        run: RunId,
    },
    /// Follow a run until it ends; exit code 1 if it failed. On a terminal a live view; q leaves it, the run goes on
    Watch {
        /// The run's id
        run: RunId,
        /// Lines and a bar, also on a terminal
        #[arg(long)]
        plain: bool,
    },
    /// Give no more leases for a run
    Pause {
        /// The run's id
        run: RunId,
    },
    /// Go on with a paused run
    Resume {
        /// The run's id
        run: RunId,
    },
    /// End a run early, after a last checkpoint
    Stop {
        /// The run's id
        run: RunId,
    },
    /// What became of a run's leases, as an equation that must balance
    Ledger {
        /// The run's id
        run: RunId,
    },
    /// How a run's checkpoints trained held-out tasks beside tuned Adam, where `eval --record` or `train` told
    Evaluations {
        /// The run's id
        run: RunId,
    },
    /// Write a run's folded steps for other programs: CSV, JSON lines, or a folder for TensorBoard
    Export {
        /// The run's id
        run: RunId,
        /// What to write
        #[arg(long, value_enum, value_name = "FORM", default_value = "csv")]
        to: Form,
        /// File to write, or folder for TensorBoard; RUN.csv, RUN.jsonl or the folder RUN if left out
        #[arg(short, long, value_name = "PATH")]
        output: Option<PathBuf>,
        /// Replace what is there
        #[arg(long)]
        force: bool,
    },
}

/// `paceline checkpoint …`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Checkpoints of a run, newest first
    List {
        /// The run's id
        run: RunId,
    },
    /// What a checkpoint says of itself
    Show {
        /// A file, or RUN for its newest checkpoint, or RUN@STEP
        #[arg(value_name = "FILE-or-RUN[@STEP]")]
        source: String,
    },
    /// Download a checkpoint
    Pull {
        /// The run's id
        run: RunId,
        /// Its outer step; the newest if left out
        #[arg(long, value_name = "N")]
        step: Option<u64>,
        /// File to write; RUN-STEP.safetensors if left out
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check every byte of a checkpoint file; exit code 64 if it is damaged, 78 if it is of a newer format
    Verify {
        /// The file
        file: PathBuf,
    },
    /// Make a checkpoint of a theta from another program: a flax checkpoint, or plain safetensors
    #[command(after_help = "\
The optimizer is the one that config.gin names, which is looked for beside the file; or say it yourself. Its settings are
those of a recipe's [optimizer] table: a kind, JSON, TOML, or a file that has it. The result has no recipe, so `eval` takes
the tasks of the quick start, or those of --recipe.

Examples:
  paceline checkpoint import velo/                                    params and config.gin in one folder
  paceline checkpoint import params --gin other/config.gin -o velo.safetensors
  paceline checkpoint import celo/theta.state                         Celo is known by its shapes
  paceline checkpoint import celo2/theta.state --optimizer '{\"kind\": \"celo2\", \"form\": \"base\"}'
  paceline checkpoint import mine.safetensors --optimizer '{\"kind\": \"adafac_mlp\", \"hidden_size\": 4}'")]
    Import {
        /// The file that holds theta, or a folder with params or theta.state
        source: PathBuf,
        /// The gin file that describes the optimizer; config.gin beside theta if left out
        #[arg(long, value_name = "FILE")]
        gin: Option<PathBuf>,
        /// The optimizer: its kind, its settings in JSON or TOML, or a file with them
        #[arg(long, value_name = "SETTINGS", conflicts_with = "gin")]
        optimizer: Option<String>,
        /// Checkpoint to write; SOURCE.safetensors in this folder if left out
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace the file if there is one
        #[arg(long)]
        force: bool,
    },
    /// Write the theta of a checkpoint for other programs
    #[command(after_help = "\
`--to flax` makes a folder with params and config.gin, as google/learned_optimization reads it, or with theta.state for the
Celo family; `--to safetensors` makes one file with theta alone.

Examples:
  paceline checkpoint export trained.safetensors --to flax -o for-jax/
  paceline checkpoint export quickstart-1a2b3c4d@200 --to safetensors -o theta.safetensors")]
    Export {
        /// A checkpoint file, or RUN for its newest checkpoint, or RUN@STEP
        #[arg(value_name = "FILE-or-RUN[@STEP]")]
        source: String,
        /// What to write
        #[arg(long, value_enum, value_name = "FORMAT")]
        to: ForeignFormat,
        /// Folder to write (flax), or file (safetensors)
        #[arg(short, long, value_name = "PATH")]
        output: PathBuf,
        /// Replace files if there are any
        #[arg(long)]
        force: bool,
    },
}

/// Formats of other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ForeignFormat {
    /// MessagePack and gin, as google/learned_optimization and amoudgl/celo read them
    Flax,
    /// Theta alone as safetensors
    Safetensors,
}

/// `paceline eval`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The tasks are drawn from seeds that training never uses, the same for every optimizer. Adam runs at 15 learning rates,
{1,3} x 10^-7 … 10^-1 and 1.

Examples:
  paceline eval trained.safetensors
  paceline eval trained.safetensors --recipe conv --steps 1000 --seeds 10 -o conv-eval")]
pub(crate) struct EvalArguments {
    /// The checkpoint file
    pub(crate) checkpoint: PathBuf,
    /// Tasks to evaluate on, from this recipe instead of the checkpoint's own
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<PathBuf>,
    /// Folder with real data sets
    #[arg(long, env = "PACELINE_DATA", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Inner steps of each curve, instead of the recipe's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) steps: Option<u32>,
    /// Held-out task instances a family, instead of the recipe's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) seeds: Option<u32>,
    /// Threads that compute; all processors if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Folder for the tables and plots; CHECKPOINT.eval if left out
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Have the coordinator that keeps this checkpoint show its curves on the run's page
    #[arg(long, conflicts_with = "recipe")]
    pub(crate) record: bool,
    /// Where that coordinator listens.
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `paceline tasks …`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TasksCommand {
    /// Every family: its size and cost, and what it is
    List(ListFamilies),
    /// One family: what it draws, settings, parameters, normaliser, cost
    Show(ShowFamily),
    /// One task of a family: its first losses, and its data as an SVG
    Sample(SampleFamily),
}

/// `paceline tasks list`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Sizes and costs are those of the default settings, on the data that are found.

Examples:
  paceline tasks list
  paceline tasks list image
  paceline tasks list --data-dir ./data --format json")]
pub(crate) struct ListFamilies {
    /// Only families with this in their name
    #[arg(value_name = "WORD")]
    pub(crate) filter: Option<String>,
    /// Folder with real data sets
    #[arg(long, env = "PACELINE_DATA", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// A family and its settings.
#[derive(Clone, Debug, Args)]
pub(crate) struct FamilyArguments {
    /// The family's name
    #[arg(value_name = "FAMILY")]
    pub(crate) family: String,
    /// A setting, as in a recipe: the value is TOML, or a bare word; may be given again for another key
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Folder with real data sets
    #[arg(long, env = "PACELINE_DATA", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// `paceline tasks show`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  paceline tasks show image_mlp
  paceline tasks show image_mlp --set image_size=16 --set 'hidden=[64, 32]' --measure
  paceline tasks show image_conv --set data=mnist --data-dir ./data --format json")]
pub(crate) struct ShowFamily {
    /// Which family.
    #[command(flatten)]
    pub(crate) family: FamilyArguments,
    /// Time the inner step on this machine
    #[arg(long)]
    pub(crate) measure: bool,
}

/// `paceline tasks sample`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The SVG is one file that needs no other; a file of that name is replaced.

Examples:
  paceline tasks sample image_mlp
  paceline tasks sample image_mlp --seed 3 --set data=mnist --set image_size=28 --data-dir ./data -o mnist.svg")]
pub(crate) struct SampleFamily {
    /// Which family.
    #[command(flatten)]
    pub(crate) family: FamilyArguments,
    /// Seed of the task
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
    /// File to write; FAMILY-SEED.svg if left out
    #[arg(short, long, visible_alias = "output", value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `paceline doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  paceline doctor
  paceline doctor --data-dir ./data --coordinator http://fleet:7700")]
pub(crate) struct DoctorArguments {
    /// Address of a coordinator that must answer
    #[arg(long, env = "PACELINE_COORDINATOR", value_name = "URL")]
    pub(crate) coordinator: Option<String>,
    /// What is trusted and shown there.
    #[command(flatten)]
    pub(crate) access: AccessArguments,
    /// Folder with real data sets
    #[arg(long, env = "PACELINE_DATA", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Folder of runs and checkpoints
    #[arg(long, env = "PACELINE_STORE", default_value = "./paceline-data", value_name = "DIR")]
    pub(crate) store: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_long_command_shows_examples() {
        for command in Arguments::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{} has no examples", command.get_name());
        }
    }
}
