//! `paceline tasks sample`: one task of a family, to look at.

use std::path::{Path, PathBuf};

use paceline_optimizer_core::task::{Evaluation, Split, TaskFamily};
use paceline_optimizer_core::{Params, Purpose, Seed};
use paceline_tasks::Panel;
use serde_json::json;

use super::{compact, open, panels, paragraph};
use crate::arguments::SampleFamily;
use crate::console::Console;
use crate::failure::Failure;
use crate::file::write_atomically;

const SPLITS: [(Split, &str); 4] = [
    (Split::Train, "train"),
    (Split::InnerValid, "inner_valid"),
    (Split::OuterValid, "outer_valid"),
    (Split::Test, "test"),
];

/// `paceline tasks sample`.
pub(super) fn sample(arguments: &SampleFamily, console: Console) -> Result<(), Failure> {
    let opened = open(&arguments.family)?;
    let (name, seed) = (opened.info.name, Seed::new(arguments.seed));
    // As an evaluation with this seed draws it.
    let member = opened.family.draw(seed.purpose(Purpose::Member))?;
    let task: &dyn TaskFamily = member.as_deref().unwrap_or(&*opened.family);
    let begin = Beginning::of(task, seed)?;
    let panels = opened.family.panels(seed);
    let file = arguments.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}-{}.svg", arguments.seed)));
    let svg = panels::svg(&format!("{name}, the task of seed {}", arguments.seed), &format!("{task:?}"), &panels)?;
    write_atomically(Path::new(&file), svg.as_bytes())?;

    console.say(paragraph(name, opened.info.summary));
    console.say(paragraph(&format!("seed {}", arguments.seed), &format!("{task:?}")));
    console.say("\nAt the initial weights, on the first batch of each split");
    console.say(begin.table(task));
    console.say(format!("gradient norm {:.4}, on the first training batch", begin.gradient_norm));
    for panel in &panels {
        if let Panel::Text { title, text } = panel {
            console.say(format!("\n{title}\n{text}"));
        }
    }
    console.say(format!("\n{} panels drawn into {}", panels.len(), file.display()));
    let score = |(name, score): &(&str, Evaluation)| {
        let normalised = task.normalise(f64::from(score.loss));
        json!({"split": name, "loss": score.loss, "accuracy": score.accuracy, "normalised": normalised})
    };
    console.emit(&json!({
        "family": name,
        "seed": arguments.seed,
        "built": format!("{task:?}"),
        "settings": opened.settings,
        "splits": begin.splits.iter().map(score).collect::<Vec<_>>(),
        "gradient_norm": begin.gradient_norm,
        "panels": panels.iter().map(panels::title).collect::<Vec<_>>(),
        "file": file,
    }));
    Ok(())
}

/// How a task begins.
struct Beginning {
    splits: Vec<(&'static str, Evaluation)>,
    gradient_norm: f64,
}

impl Beginning {
    fn of(task: &dyn TaskFamily, seed: Seed) -> Result<Self, Failure> {
        let mut lanes = task.bind(&[seed])?;
        let params = lanes.init_params()?;
        // Before the step that may change the task's state.
        let mut splits = Vec::with_capacity(SPLITS.len());
        for (split, name) in SPLITS {
            let scores = lanes.evaluate(&params, split, 0)?;
            let score = scores.first().ok_or_else(|| Failure::bug(format!("{} scores no lane", task.name())))?;
            splits.push((name, *score));
        }
        let (_, gradient) = lanes.loss_and_grads(&params, 0)?;
        Ok(Self { splits, gradient_norm: norm(&gradient) })
    }

    fn table(&self, task: &dyn TaskFamily) -> String {
        let mut table = compact(&["split", "loss", "normalised", "accuracy"]);
        for (name, score) in &self.splits {
            table.add_row([
                (*name).to_owned(),
                format!("{:.4}", score.loss),
                format!("{:.4}", task.normalise(f64::from(score.loss))),
                score.accuracy.map_or("–".into(), |accuracy| format!("{:.1} %", 100.0 * accuracy)),
            ]);
        }
        table.to_string()
    }
}

/// Euclidean norm over all tensors.
fn norm(params: &Params) -> f64 {
    let tensors = (0..params.layout().len()).flat_map(|index| params.tensor(index));
    tensors.map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}
