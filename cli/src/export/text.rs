//! Tables and lines. A number is written with as many digits as it needs to come back to the bit; what is not known is an
//! empty cell, or null.

use std::fmt::Write;

use paceline_proto::model::{FoldedStep, RunState};
use serde_json::{Map, Value, json};

use super::entry_names;

/// Columns before those of the entries.
const COLUMNS: [&str; 9] = [
    "outer_step",
    "folded_at_ms",
    "meta_loss",
    "grad_norm",
    "signal_to_noise",
    "antithetic_correlation",
    "update_norm",
    "inner_steps",
    "diverged_lanes",
];

pub(super) fn csv(state: &RunState, steps: &[FoldedStep]) -> String {
    let mut out = COLUMNS.join(",");
    for name in entry_names(state) {
        // Names of families are words, so no cell needs quotes.
        let _ = write!(out, ",meta_loss_{name}");
    }
    out.push('\n');
    let cell = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for step in steps {
        let FoldedStep { outer_step, folded_at_ms, inner_steps, diverged_lanes, .. } = step;
        let numbers = [
            Some(step.meta_loss),
            Some(step.grad_norm),
            step.variance.signal_to_noise,
            step.variance.antithetic_correlation,
            Some(step.update_norm),
        ];
        let _ = write!(out, "{outer_step},{folded_at_ms},{}", numbers.map(cell).join(","));
        let _ = write!(out, ",{inner_steps},{diverged_lanes}");
        for (index, _) in state.spec.tasks.iter().enumerate() {
            let _ = write!(out, ",{}", cell(step.entry_losses.get(index).copied().flatten()));
        }
        out.push('\n');
    }
    out
}

pub(super) fn jsonl(state: &RunState, steps: &[FoldedStep]) -> String {
    let names = entry_names(state);
    let mut out = String::new();
    for step in steps {
        let losses = names.iter().zip(&step.entry_losses).map(|(name, loss)| (name.clone(), json!(loss)));
        let object = json!({
            "run": state.run,
            "outer_step": step.outer_step,
            "folded_at_ms": step.folded_at_ms,
            "meta_loss": step.meta_loss,
            "grad_norm": step.grad_norm,
            "signal_to_noise": step.variance.signal_to_noise,
            "antithetic_correlation": step.variance.antithetic_correlation,
            "update_norm": step.update_norm,
            "inner_steps": step.inner_steps,
            "diverged_lanes": step.diverged_lanes,
            "meta_loss_by_entry": Value::Object(losses.collect::<Map<_, _>>()),
        });
        let _ = writeln!(out, "{object}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::example;

    #[test]
    fn a_table_has_a_row_a_step_and_numbers_that_come_back() {
        let (state, steps) = example();
        let csv = csv(&state, &steps);
        let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.len() == COLUMNS.len() + 2), "{csv}");
        assert_eq!(&rows[1][..5], ["1", "1700000000501", "2.5", "0.1", ""]);
        assert_eq!(rows[1].last(), Some(&""), "an entry without a slot in the step");
        assert_eq!(rows[2][6].parse::<f64>().unwrap().to_bits(), steps[1].update_norm.to_bits());
    }

    #[test]
    fn every_line_is_an_object() {
        let (state, steps) = example();
        let lines = jsonl(&state, &steps);
        let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[1]["signal_to_noise"], -0.25);
        assert_eq!(objects[0]["signal_to_noise"], Value::Null);
        let losses: Vec<f64> =
            objects[1]["meta_loss_by_entry"].as_object().unwrap().values().filter_map(Value::as_f64).collect();
        assert_eq!(losses, [1.0, 1.5]);
    }
}
