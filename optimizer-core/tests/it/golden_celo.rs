//! Trajectories of the authors' Celo and Celo2 (`amoudgl/celo` @ 66d9761), step by step.
//!
//! Every case of `DIR/celo/manifest.json` is run in full: optimizer, settings, horizon and number of steps come from the
//! manifest, names and shapes from the files. `DIR` is `tests/golden` or what `PACELINE_GOLDEN` says.

use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use paceline_optimizer_core::optimizer::{OptState, Schedule};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::golden::{self, Tensor, Tensors, Worst, below};

/// Largest relative difference between the change of a parameter and the reference's, beside rounding.
const CHANGE_TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Case {
    file: String,
    config: Map<String, Value>,
    num_steps: u32,
    steps: usize,
    /// Tensors that Adam* moves.
    tensors_1d: Option<Vec<String>>,
    /// Tensors that AdamW moves.
    tensors_adamw: Option<Vec<String>>,
}

/// What we call the optimizer of a case. The reference has one namespace of settings for how the learned rule is applied
/// and for the rule itself; no case changes the latter.
fn config(case: &Case) -> LearnedOptimizerConfig {
    let mut settings = case.config.clone();
    let name = settings.remove("optimizer").expect("a name");
    let (kind, form) = match name.as_str().expect("a name") {
        "Celo" => ("celo", None),
        "Celo2Base" => ("celo2", Some("base")),
        "Celo2" => ("celo2", Some("meta")),
        "Celo2Optax" => ("celo2", Some("shipped")),
        other => panic!("{}: unknown optimizer {other}", case.file),
    };
    settings.insert("kind".into(), kind.into());
    if let Some(form) = form {
        settings.insert("form".into(), form.into());
    }
    if form == Some("shipped") {
        let schedule = settings.remove("schedule").expect("a schedule");
        settings.insert("learning_rate".into(), schedule);
        let adam_w = ["mult_1d", "adam_b1", "adam_b2", "adam_epsilon"].map(|name| settings.remove_entry(name));
        let adam_w: Map<String, Value> = adam_w.into_iter().flatten().collect();
        let vectors = if adam_w.is_empty() { "learned".into() } else { json!({ "adam_w": adam_w }) };
        settings.insert("vectors".into(), vectors);
    }
    serde_json::from_value(settings.into()).unwrap_or_else(|error| panic!("{}: {error}", case.file))
}

/// Which slot a key below `state/final/` corresponds to, in Celo, in a class of Celo2, and in a chain of optax.
fn slot_name(key: &str) -> Option<String> {
    let key = ["state_2d/", "0/", "inner_states/celo2/inner_state/0/"]
        .iter()
        .find_map(|outer| key.strip_prefix(outer))
        .unwrap_or(key);
    const PREFIXES: [(&str, &str); 11] = [
        ("mom_rolling/m/", "m/"),
        ("rms_rolling/rms/", "rms/"),
        ("fac_rolling/", ""),
        ("loss_buffer/decays", "loss/decays"),
        ("loss_buffer/means", "loss/means"),
        ("loss_buffer/running_min", "loss/running_min"),
        ("lstm_hidden_state/", "lstm/"),
        ("state_1d/mom_rolling/m/", "m/"),
        ("state_1d/rms_rolling/rms/", "v/"),
        ("inner_states/adam/inner_state/0/mu/", "m/"),
        ("inner_states/adam/inner_state/0/nu/", "v/"),
    ];
    let (prefix, ours) = PREFIXES.iter().find(|(prefix, _)| key.starts_with(prefix))?;
    Some(format!("{ours}{}", &key[prefix.len()..]))
}

/// The reference's state with one row of the LSTM, after a check that all rows are equal: we keep one.
fn with_one_row(mut expected: Tensors) -> Tensors {
    for part in ["lstm_hidden_state/hidden", "lstm_hidden_state/cell"] {
        let Some(Tensor { shape, values }) = expected.get_mut(part) else { continue };
        let rows: Vec<&[f32]> = values.chunks_exact(shape[1]).collect();
        let spread =
            rows.iter().flat_map(|row| row.iter().zip(rows[0])).fold(0.0_f32, |d, (a, b)| d.max((a - b).abs()));
        assert!(spread <= 1e-6, "{part}: rows of the reference differ by {spread:e}");
        values.truncate(shape[1]);
        shape[0] = 1;
    }
    expected
}

/// The tensors that the learned rule does not move have a slot `v/NAME`.
fn moved_by_adam(state: &OptState) -> Vec<&str> {
    let mut names: Vec<&str> = state.slots.iter().filter_map(|slot| slot.name.strip_prefix("v/")).collect();
    names.sort_unstable();
    names
}

/// Checks the schedule of a case that stores one: learning rates within a few roundings of f32.
fn check_schedule(case: &Case, stored: &Tensors) {
    let Some(rates) = stored.get("learning_rates") else {
        assert!(!case.config.contains_key("schedule"), "{}: no learning rates for a schedule", case.file);
        return;
    };
    let schedule: Schedule = serde_json::from_value(case.config["schedule"].clone()).unwrap();
    assert_eq!(rates.values.len(), case.steps);
    for (step, &expected) in (0..).zip(&rates.values) {
        let got = schedule.value(step, case.num_steps.into()) as f32;
        let error = (got - expected).abs();
        assert!(error <= 2e-6 * expected.abs(), "{} step {step}: rate {got:e} for {expected:e}", case.file);
    }
}

#[test]
fn golden_trajectories_of_celo() {
    let folder = crate::golden_folder("celo");
    let cases: Vec<Case> = golden::cases(&folder);
    assert!(!cases.is_empty(), "{} lists no case", folder.display());
    let mut failures = Vec::new();
    for case in &cases {
        let stored = golden::read(&folder.join(&case.file));
        let learned = config(case).build().unwrap();
        let theta = golden::theta_of(learned.as_ref(), &below(&stored, "theta/"), &case.file);
        let bound = learned.bind(theta).unwrap();
        check_schedule(case, &stored);
        let followed = golden::follow(bound.as_ref(), &stored, case.num_steps, case.steps, &case.file);
        if let Some(names) = case.tensors_1d.as_ref().or(case.tensors_adamw.as_ref()) {
            assert_eq!(&moved_by_adam(&followed.state), names, "{}: tensors moved by Adam", case.file);
        }
        let expected = with_one_row(below(&stored, "state/final/"));
        let mut state = Worst::default();
        let compared = golden::compare_state(&followed.state, &expected, slot_name, &case.file, &mut state);
        // The buffer's own count has none: the reference keeps it as one number.
        let slots = followed.state.slots.iter().filter(|slot| slot.name != "loss/iteration");
        assert!(compared >= slots.count(), "{}: some slot has no counterpart", case.file);
        crate::announce(&format!(
            "golden celo/{:34} worst difference: parameter {:.1e}, change {:.1e}, state {:.1e} of {compared} tensors",
            case.file, followed.parameter.value, followed.change.value, state.value
        ));
        let orthogonal = case.config.get("orthogonalize") == Some(&Value::Bool(true));
        let has_scheduler = case.config["optimizer"] == "Celo";
        for (what, worst, most) in [
            ("parameter", &followed.parameter, if orthogonal { 2e-6 } else { 5e-7 }),
            ("change", &followed.change, CHANGE_TOLERANCE),
            ("state", &state, if has_scheduler { 1e-5 } else { 1e-6 }),
        ] {
            if worst.value > most || worst.value.is_nan() {
                failures.push(format!("{what} {:e} > {most:e}: {}", worst.value, worst.place));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    crate::announce(&format!("golden celo: {0} of {0} cases ran", cases.len()));
}
