//! Language models and auto-encoders: what each promises beside what every family does.

use std::path::{Path, PathBuf};

use paceline_optimizer_core::task::{Evaluation, Split, TaskLanes};
use paceline_optimizer_core::{Params, Seed};
use paceline_tasks::{Family, Panel};
use serde_json::json;

use super::{family, settings};

/// Descends with gradients of length up to 1, on new batches.
fn descend(lanes: &mut dyn TaskLanes, steps: u64, rate: f32) -> Params {
    let mut params = lanes.init_params().expect("begin");
    for step in 0..steps {
        let (_, grads) = lanes.loss_and_grads(&params, step).expect("a step");
        let tensors = 0..params.layout().len();
        let square: f32 = tensors.clone().flat_map(|index| grads.tensor(index)).map(|grad| grad * grad).sum();
        let rate = rate / square.sqrt().max(1.0);
        for index in tensors {
            let values = params.tensor_mut(index).iter_mut();
            values.zip(grads.tensor(index)).for_each(|(value, grad)| *value -= rate * grad);
        }
    }
    params
}

/// Mean over the first test batches: loss and accuracy.
fn test_scores(lanes: &mut dyn TaskLanes, params: &Params) -> (f32, Option<f32>) {
    let scores: Vec<Evaluation> =
        (0..8).map(|batch| lanes.evaluate(params, Split::Test, batch).expect("a score")[0]).collect();
    let accuracy = scores.iter().map(|score| score.accuracy).sum::<Option<f32>>();
    (scores.iter().map(|score| score.loss).sum::<f32>() / 8.0, accuracy.map(|sum| sum / 8.0))
}

/// Scores before and after learning.
fn learn(family: &dyn Family, steps: u64, rate: f32) -> [(f32, Option<f32>); 2] {
    let mut lanes = family.bind(&[Seed::new(1)]).expect("bind a lane");
    let start = lanes.init_params().expect("begin");
    let before = test_scores(&mut *lanes, &start);
    let params = descend(&mut *lanes, steps, rate);
    [before, test_scores(&mut *lanes, &params)]
}

#[test]
fn language_models_begin_near_uniform_and_learn() {
    let uniform = 26.0_f32.ln();
    // From the identity itself an IRNN adds up what it reads, and begins far from uniform.
    let all = ["vanilla", "irnn", "gru", "lstm"].map(|cell| ("text_rnn", json!({"cell": cell, "identity_gain": 0.5})));
    for (name, value) in all.into_iter().chain([("text_transformer", json!({}))]) {
        let model = family(name, value.clone());
        let [before, after] = learn(&*model, 300, 0.5);
        assert!((before.0 - uniform).abs() < 0.8, "{name} {value}: {before:?} of a uniform loss of {uniform}");
        assert!(after.0 < 0.9 * uniform, "{name} {value}: {after:?} of a uniform loss of {uniform}");
        assert!(after.1 > before.1 && after.1 > Some(0.12), "{name} {value}: {before:?} to {after:?}");
    }
}

#[test]
fn cells_are_families_of_their_own() {
    let loss = |value| {
        let family = family("text_rnn", value);
        let mut lanes = family.bind(&[Seed::new(5)]).unwrap();
        let params = lanes.init_params().unwrap();
        lanes.evaluate(&params, Split::Test, 0).unwrap()[0].loss
    };
    let mut losses = ["vanilla", "irnn", "gru", "lstm"].map(|cell| loss(json!({"cell": cell}))).to_vec();
    losses.push(loss(json!({"cell": "irnn", "identity_gain": 0.5})));
    losses.sort_by(f32::total_cmp);
    losses.dedup();
    assert_eq!(losses.len(), 5);
    // A gain is nothing to the other cells.
    assert_eq!(loss(json!({"cell": "gru", "identity_gain": 0.5})), loss(json!({"cell": "gru"})));
}

#[test]
fn dropout_drops_while_training_only() {
    let value = |dropout| json!({"dropout": dropout, "sequence": 4});
    let (plain, dropping) = (family("text_transformer", value(0.0)), family("text_transformer", value(0.5)));
    let mut lanes = [&plain, &dropping].map(|family| family.bind(&[Seed::new(2)]).unwrap());
    let params = lanes[0].init_params().unwrap();
    let mut losses = |split| lanes.each_mut().map(|lanes| lanes.evaluate(&params, split, 0).unwrap()[0].loss);
    let [plain, dropping] = losses(Split::Test);
    assert_eq!(plain, dropping);
    let [plain, dropping] = losses(Split::Train);
    assert_ne!(plain, dropping);
}

#[test]
fn windows_of_text_are_shown() {
    let panels = family("text_rnn", json!({"sequence": 30})).panels(Seed::new(1));
    assert_eq!(panels.len(), 4);
    for panel in panels {
        let Panel::Text { text, .. } = &panel else { panic!("{panel:?}") };
        assert_eq!(text.chars().count(), 30, "{text:?}");
    }
}

#[test]
fn auto_encoders_learn_whatever_their_loss() {
    for (value, rate, factor) in
        [(json!({}), 5.0, 0.8), (json!({"centred": true}), 1.0, 0.8), (json!({"squashed": false}), 0.5, 0.8)]
    {
        let [(before, _), (after, accuracy)] = learn(&*family("image_ae", value.clone()), 100, rate);
        assert!(after < factor * before && accuracy.is_none(), "{value}: {before} to {after}");
    }
    let [(before, _), (after, _)] = learn(&*family("image_vae", json!({})), 300, 0.2);
    // 8-bit pixels that are all as likely cost ln 256 = 5.5 nats.
    assert!(after < before && after < 5.5, "{before} to {after}");
}

#[test]
fn the_logarithm_of_a_loss_is_its_logarithm_and_centred_data_count_four_times() {
    let loss = |value| {
        let family = family("image_ae", value);
        let mut lanes = family.bind(&[Seed::new(5)]).unwrap();
        // An output of 0 whatever is shown.
        let params = Params::zeros(family.layout(), 1);
        lanes.evaluate(&params, Split::Test, 0).unwrap()[0].loss
    };
    // A sigmoid of 0 is a half, the tanh of 0 is 0, which is a half of what is not centred.
    let (plain, centred) = (loss(json!({})), loss(json!({"centred": true})));
    assert!((centred / plain - 4.0).abs() < 1e-4, "{plain} {centred}");
    assert_eq!(centred, loss(json!({"centred": true, "squashed": false})));
    assert!((loss(json!({"loss": "log_mse"})) - plain.ln()).abs() < 1e-5);
    assert_ne!(plain, loss(json!({"squashed": false})));
}

#[test]
fn evaluations_of_a_vae_sample_from_the_seed_of_the_batch() {
    let family = family("image_vae", json!({"latent": 2}));
    let mut lanes = family.bind(&[Seed::new(1), Seed::new(2)]).unwrap();
    let mut params = lanes.init_params().unwrap();
    for index in 0..params.layout().len() {
        let first = params.lane(index, 0).to_vec();
        params.lane_mut(index, 1).copy_from_slice(&first);
    }
    // Test batches are the same examples for every task; only the samples differ.
    let scores = lanes.evaluate(&params, Split::Test, 3).unwrap();
    assert_ne!(scores[0].loss, scores[1].loss);
    assert_eq!(scores, lanes.evaluate(&params, Split::Test, 3).unwrap());
}

#[test]
fn a_classifier_with_a_squared_error_is_scored_against_one_hot_targets() {
    let family = family("image_mlp", json!({"loss": "mse", "hidden": []}));
    let mut lanes = family.bind(&[Seed::new(1)]).unwrap();
    // All outputs 0: one of ten targets is 1.
    let zeros = Params::zeros(family.layout(), 1);
    let score = lanes.evaluate(&zeros, Split::Test, 0).unwrap()[0];
    assert!((score.loss - 0.1).abs() < 1e-6, "{score:?}");
    assert_eq!(family.normalise(0.05), 0.5);
    let [_, (loss, accuracy)] = learn(&*family, 200, 0.5);
    assert!(loss < 0.09 && accuracy > Some(0.3), "{loss} {accuracy:?}");
}

#[test]
fn a_normaliser_is_a_setting() {
    let normalised = |name, value, loss| family(name, value).normalise(loss);
    let parametric = json!({"normaliser": "parametric"});
    assert!((normalised("image_mlp", parametric.clone(), 2.0_f64.ln())).abs() < 1e-9);
    assert!((normalised("image_conv", json!({"normaliser": "parametric"}), 99.0) - 10.0).abs() < 1e-9);
    assert_eq!(normalised("image_vit", json!({"normaliser": "parametric_deep"}), 99.0), 10.0);
    assert_eq!(normalised("image_mlp", json!({}), 2.0), 2.0);
    assert_eq!(normalised("image_ae", json!({}), 7.0), 1.0);
    assert_eq!(normalised("image_ae", json!({"loss": "log_mse"}), -3.0), 8.5);
    assert_eq!(normalised("image_vae", json!({}), 3.0), 3.0);
    assert_eq!(normalised("text_rnn", json!({"vocab": 20}), 99.0), 1.5 * 20.0_f64.ln());
    let at_fifth = normalised("text_transformer", json!({"vocab": 20, "normaliser": "parametric"}), 4.0_f64.ln());
    assert!(at_fifth.abs() < 1e-9, "{at_fifth}");
}

/// The folder of real data, if this machine has one with text.
fn data_dir() -> Option<PathBuf> {
    let folder = std::env::var_os("PACELINE_DATA")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
    folder.join("text/tinyshakespeare.txt").is_file().then_some(folder)
}

#[test]
fn shakespeare_is_learned() {
    let Some(folder) = data_dir() else {
        crate::announce(
            "SKIPPED shakespeare_is_learned: no text/tinyshakespeare.txt in ../shared/data or PACELINE_DATA",
        );
        return;
    };
    let family = paceline_tasks::build("text_rnn", &settings(json!({"data": "file"})), Some(&folder)).unwrap();
    let described = format!("{family:?}");
    assert!(described.contains("data text of") && described.contains("vocabulary of 66"), "{described}");
    let [before, after] = learn(&*family, 100, 0.5);
    let uniform = 66.0_f32.ln();
    assert!((before.0 - uniform).abs() < 0.5, "{before:?}, uniform {uniform}");
    assert!(after.0 < 0.85 * uniform && after.1 > Some(0.15), "{after:?}, uniform {uniform}");
}
