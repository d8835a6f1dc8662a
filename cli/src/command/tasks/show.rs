//! `paceline tasks show`: everything about one family.

use paceline_optimizer_core::params::{Layout, Part};
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::{Purpose, Seed};
use serde_json::{Map, Value, json};

use super::measure::{REPEATS, step_seconds};
use super::{Opened, compact, open, paragraph};
use crate::arguments::ShowFamily;
use crate::command::doctor::machine;
use crate::console::Console;
use crate::failure::Failure;
use crate::file::size_text;
use crate::pace::short;

/// Members shown of a family that draws them.
const MEMBERS: u64 = 5;

/// Losses that the normaliser is shown at.
const LOSSES: [f64; 5] = [0.0, std::f64::consts::LN_2, 1.0, 10.0, f64::NAN];

/// `paceline tasks show`.
pub(super) fn show(arguments: &ShowFamily, console: Console) -> Result<(), Failure> {
    let opened = open(&arguments.family)?;
    let family = &*opened.family;
    let members = members(family)?;
    let seconds = if arguments.measure { Some(step_seconds(family)?) } else { None };
    console.say(head(&opened, !members.is_empty()));
    console.say(format!("\nSettings\n{}", settings_text(&opened.settings, &opened.info.settings)));
    console.say(format!("\nParameters: {}\n{}", family.layout().size(), tensors_text(family.layout())));
    console.say(format!("\nNormalised loss\n{}", normaliser_text(family)));
    console.say(format!("\nCost of one inner step of one lane, without the optimizer\n{}", cost_text(family, seconds)));
    if !members.is_empty() {
        console.say(format!("\nMembers, by seed (the sizes above are a typical member's)\n{}", members_text(&members)));
    }
    console.emit(&object(&opened, &members, seconds));
    Ok(())
}

/// One family of static shapes of those that a family draws.
struct Member {
    seed: u64,
    about: String,
    parameters: usize,
    flop: f64,
    bytes: f64,
}

/// A handful of what the family draws; none if its own shapes are static.
fn members(family: &dyn TaskFamily) -> Result<Vec<Member>, Failure> {
    let mut members = Vec::new();
    for seed in 0..MEMBERS {
        // As an evaluation with this seed draws it.
        let Some(member) = family.draw(Seed::new(seed).purpose(Purpose::Member))? else { break };
        let cost = member.cost();
        let parameters = member.layout().size();
        members.push(Member { seed, about: format!("{member:?}"), parameters, flop: cost.flop, bytes: cost.bytes });
    }
    Ok(members)
}

fn head(opened: &Opened, draws: bool) -> String {
    let shapes = if draws {
        "shapes and architecture, one member for all lanes of a lease: see the members below"
    } else {
        "nothing: the settings fix all shapes"
    };
    [
        paragraph(opened.info.name, opened.info.summary),
        paragraph("built", &format!("{:?}", opened.family)),
        paragraph("a member", &format!("draws {shapes}")),
        paragraph(
            "a task",
            "draws, by its own seed, initial weights, the order of the data, and what else it leaves open",
        ),
    ]
    .join("\n")
}

/// Settings as in a recipe's `[[tasks]]`, with the default of those that differ from it.
fn settings_text(settings: &Map<String, Value>, defaults: &Value) -> String {
    let lines = settings.iter().map(|(key, value)| {
        let set = format!("  {key} = {}", setting_text(value));
        match defaults.get(key) {
            Some(default) if default != value => format!("{set:<40} # default {}", setting_text(default)),
            _ => set,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A setting as it is written in TOML.
fn setting_text(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        other => other.to_string(),
    }
}

fn part_text(part: Part) -> &'static str {
    match part {
        Part::Real => "real",
        Part::Re => "re, of a complex pair",
        Part::Im => "im, of the same pair",
    }
}

fn tensors_text(layout: &Layout) -> String {
    let complex = layout.pairs().next().is_some();
    let mut table =
        compact(if complex { &["tensor", "shape", "values", "part"] } else { &["tensor", "shape", "values"] });
    for tensor in layout.tensors() {
        let mut row = vec![tensor.name().to_owned(), format!("{:?}", tensor.shape()), tensor.size().to_string()];
        if complex {
            row.push(part_text(tensor.part()).to_owned());
        }
        table.add_row(row);
    }
    table.to_string()
}

fn normaliser_text(family: &dyn TaskFamily) -> String {
    let mut table = compact(&["loss", "normalised"]);
    for loss in LOSSES {
        table.add_row([format!("{loss:.4}"), format!("{:.4}", family.normalise(loss))]);
    }
    table.to_string()
}

fn cost_text(family: &dyn TaskFamily, seconds: Option<f64>) -> String {
    let cost = family.cost();
    let mut text = format!("  {} FLOP, {} at most", short(cost.flop), size_text(cost.bytes as u64));
    if let Some(seconds) = seconds {
        text.push_str(&format!(
            "\n  {:.3} ms, {:.2} GFLOP/s, median of {REPEATS} on one thread of: {}",
            1e3 * seconds,
            cost.flop / seconds / 1e9,
            machine(),
        ));
    }
    text
}

fn members_text(members: &[Member]) -> String {
    let lines = members.iter().map(|member| {
        let Member { seed, about, parameters, flop, bytes } = member;
        let size = format!("{parameters} parameters, {} FLOP, {}", short(*flop), size_text(*bytes as u64));
        paragraph(&format!("  seed {seed}"), about) + "\n" + &paragraph("", &size)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn object(opened: &Opened, members: &[Member], seconds: Option<f64>) -> Value {
    let family = &opened.family;
    let cost = family.cost();
    let tensor = |tensor: &paceline_optimizer_core::TensorSpec| {
        let part = match tensor.part() {
            Part::Real => "real",
            Part::Re => "re",
            Part::Im => "im",
        };
        json!({"name": tensor.name(), "shape": tensor.shape(), "part": part})
    };
    let member = |member: &Member| {
        let Member { seed, about, parameters, flop, bytes } = member;
        json!({"seed": seed, "built": about, "parameters": parameters, "flop": flop, "bytes": bytes})
    };
    let measured = seconds.map(|seconds| {
        let gflops = cost.flop / seconds / 1e9;
        json!({"milliseconds": 1e3 * seconds, "gflop_per_second": gflops, "repeats": REPEATS, "machine": machine()})
    });
    json!({
        "family": opened.info.name,
        "summary": opened.info.summary,
        "built": format!("{family:?}"),
        "settings": opened.settings,
        "defaults": opened.info.settings,
        "parameters": family.layout().size(),
        "tensors": family.layout().tensors().iter().map(tensor).collect::<Vec<_>>(),
        "normalised": LOSSES.map(|loss| json!({"loss": loss, "normalised": family.normalise(loss)})),
        "flop": cost.flop,
        "bytes": cost.bytes,
        "measured": measured,
        "members": members.iter().map(member).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use paceline_optimizer_core::TensorSpec;

    #[test]
    fn settings_say_where_they_differ_from_their_defaults() {
        let settings = json!({"a": 1, "b": [2], "c": null});
        let text = settings_text(settings.as_object().expect("a table"), &json!({"a": 1, "b": [3], "c": null}));
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "  a = 1");
        assert!(lines[1].starts_with("  b = [2]  ") && lines[1].ends_with("# default [3]"), "{text}");
        assert_eq!(lines[2], "  c = (none)");
    }

    #[test]
    fn complex_pairs_are_marked_and_real_models_have_no_such_column() {
        let real = TensorSpec::new("b", [3]);
        let layout = Layout::new(TensorSpec::complex("w", [2, 3]).into_iter().chain([real.clone()]).collect());
        let text = tensors_text(&layout.expect("a layout"));
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
        assert!(
            line("w.re").contains("re, of a complex pair") && line("w.im").contains("im, of the same pair"),
            "{text}"
        );
        assert!(line(" b ").contains("real"), "{text}");
        assert!(!tensors_text(&Layout::new(vec![real]).expect("a layout")).contains("part"));
    }
}
