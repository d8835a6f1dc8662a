//! What is measured, by the short names that measurements go by.
//!
//! ```text
//!  celo2_base ─► {"kind": "celo2", "form": "base"}      conv ─► image_conv {"image_size": 16, "channels": [16, 32], …}
//! ```

use std::sync::Arc;

use paceline_optimizer_core::learned::{LearnedOptimizer, LearnedOptimizerConfig};
use paceline_optimizer_core::task::TaskFamily;
use serde_json::{Map, Value, json};

use crate::arguments::OptimizerChoice;
use crate::failure::{Exit, Failure};

/// A learned optimizer and what of it may be sized.
struct LearnedName {
    name: &'static str,
    /// Its settings, as in a recipe.
    settings: &'static str,
    /// Whether `--hidden` is its `hidden_size`.
    hidden: bool,
    /// Whether `--lstm` and `--bank` are its `lstm_hidden_size` and `param_inits`.
    recurrent: bool,
}

const fn plain(name: &'static str, settings: &'static str) -> LearnedName {
    LearnedName { name, settings, hidden: false, recurrent: false }
}

/// The sizes that Celo was published in.
const CELO: &str = r#"{"kind": "celo", "lstm_hidden_size": 64, "param_inits": 1, "train_phase": 2}"#;

const LEARNED: [LearnedName; 12] = [
    LearnedName { hidden: true, ..plain("adafac_mlp", r#"{"kind": "adafac_mlp"}"#) },
    LearnedName { recurrent: true, ..plain("hyper_v2", r#"{"kind": "hyper_v2"}"#) },
    plain("celo2_base", r#"{"kind": "celo2", "form": "base"}"#),
    plain("celo2", r#"{"kind": "celo2", "form": "shipped", "learning_rate": 0.001}"#),
    LearnedName { recurrent: true, ..plain("celo", CELO) },
    LearnedName { hidden: true, ..plain("mlp", r#"{"kind": "mlp"}"#) },
    LearnedName { hidden: true, ..plain("mlp_nominal", r#"{"kind": "mlp_nominal"}"#) },
    plain("rnn_mlp", r#"{"kind": "rnn_mlp"}"#),
    plain("nn_adam", r#"{"kind": "nn_adam"}"#),
    plain("learnable_adam", r#"{"kind": "learnable_adam"}"#),
    plain("learnable_sgdm", r#"{"kind": "learnable_sgdm"}"#),
    plain("learnable_sgd", r#"{"kind": "learnable_sgd"}"#),
];

/// An inner problem: its family and settings. The data are procedural.
const TASKS: [(&str, &str, &str); 5] = [
    ("mlp", "image_mlp", r#"{"image_size": 8, "hidden": [32], "batch_size": 128}"#),
    ("conv", "image_conv", r#"{"image_size": 16, "channels": [16, 32], "batch_size": 64}"#),
    ("complex_conv", "image_complex", "{}"),
    ("gnn", "graph_gcn", "{}"),
    ("transformer", "text_transformer", "{}"),
];

/// A learned optimizer, built.
pub(super) fn learned(choice: &OptimizerChoice) -> Result<Arc<dyn LearnedOptimizer>, Failure> {
    let OptimizerChoice { optimizer: name, lstm, bank, hidden } = choice;
    let Some(found) = LEARNED.iter().find(|learned| learned.name == name) else {
        return Err(unknown("optimizer", name, LEARNED.iter().map(|learned| learned.name)));
    };
    let mut settings: Value = serde_json::from_str(found.settings).map_err(Failure::bug)?;
    let sizes = [
        ("--hidden", "hidden_size", hidden, found.hidden),
        ("--lstm", "lstm_hidden_size", lstm, found.recurrent),
        ("--bank", "param_inits", bank, found.recurrent),
    ];
    for (flag, key, size, fits) in sizes {
        match size {
            Some(size) if fits => settings[key] = json!(size),
            Some(size) => {
                let message = format!("{flag} {size}: optimizer {name} has no such size");
                return Err(Failure::new(Exit::BadInput, "SETTING_INVALID", message)
                    .help(format!("leave {flag} out, or choose another --optimizer")));
            }
            None => {}
        }
    }
    let config: LearnedOptimizerConfig = serde_json::from_value(settings).map_err(Failure::bug)?;
    Ok(config.build()?)
}

/// An inner problem, built; `batch` instead of its own batch size.
pub(super) fn task(name: &str, batch: Option<u32>) -> Result<Arc<dyn TaskFamily>, Failure> {
    let Some((_, family, settings)) = TASKS.iter().find(|(known, ..)| *known == name) else {
        return Err(unknown("task", name, TASKS.iter().map(|(known, ..)| *known)));
    };
    let mut settings: Map<String, Value> = serde_json::from_str(settings).map_err(Failure::bug)?;
    if let Some(batch) = batch {
        settings.insert("batch_size".into(), batch.into());
    }
    Ok(paceline_tasks::build(family, &settings, None)?)
}

/// No such name: what there is.
pub(super) fn unknown(what: &str, name: &str, known: impl Iterator<Item = &'static str>) -> Failure {
    let reason = format!("{}_UNKNOWN", what.to_uppercase());
    Failure::new(Exit::BadInput, &reason, format!("no measurement knows --{what} {name}"))
        .help(format!("choose one of: {}", known.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(name: &str) -> OptimizerChoice {
        OptimizerChoice { optimizer: name.into(), lstm: None, bank: None, hidden: None }
    }

    #[test]
    fn every_name_is_built() {
        for known in &LEARNED {
            assert!(learned(&choice(known.name)).unwrap().layout().size() > 0, "{}", known.name);
        }
        for (known, ..) in TASKS {
            assert!(task(known, None).unwrap().layout().size() > 0, "{known}");
        }
    }

    /// Sizes of theta that other programs have for the same optimizers; HyperV2's with the 31 values a unit of its LSTM
    /// that the reference keeps and never reads.
    #[test]
    fn theta_is_as_long_as_elsewhere() {
        let size = |choice: &OptimizerChoice| learned(choice).unwrap().layout().size();
        assert_eq!(size(&choice("adafac_mlp")), 197);
        assert_eq!(size(&choice("celo2_base")), 347);
        assert_eq!(size(&choice("hyper_v2")), 158_337 + 31 * 128);
        assert_eq!(
            size(&OptimizerChoice { lstm: Some(512), bank: Some(256), ..choice("hyper_v2") }),
            2_304_513 + 31 * 512
        );
    }

    /// 64-32-10, and 3×3 convolutions of 1 to 16 and 16 to 32 channels below 10 classes.
    #[test]
    fn inner_problems_have_the_shapes_that_others_measure() {
        let size = |name| task(name, None).unwrap().layout().size();
        assert_eq!(size("mlp"), 64 * 32 + 32 + 32 * 10 + 10);
        assert_eq!(size("conv"), 9 * 16 + 16 + 9 * 16 * 32 + 32 + 32 * 10 + 10);
    }
}
