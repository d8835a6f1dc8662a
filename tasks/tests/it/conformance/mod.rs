//! What every task family promises, checked over every registered one.

use std::sync::Arc;

use paceline_optimizer_core::task::Split;
use paceline_optimizer_core::{Params, Seed};
use paceline_tasks::{Family, FamilyInfo};
use serde_json::{Value, json};

use super::allocator::peak;
use super::family;

const SPLITS: [Split; 4] = [Split::Train, Split::InnerValid, Split::OuterValid, Split::Test];

/// Every registered family with its defaults, then variants that use layers the defaults do not, all small.
fn every_family() -> Vec<Arc<dyn Family>> {
    let mut all: Vec<Arc<dyn Family>> = paceline_tasks::families().iter().map(by_default).collect();
    assert!(all.len() >= 2);
    all.push(family("image_mlp", json!({"hidden": [], "image_size": 3, "batch_size": 5})));
    all.push(family("image_mlp", json!({"hidden": [7, 5, 3], "image_size": 4, "batch_size": 33, "data_seed": 2})));
    all.push(family("image_conv", json!({"channels": [3, 5], "max_pool": true, "image_size": 5, "batch_size": 7})));
    all.push(family("image_conv", json!({"channels": [4, 2, 3], "image_size": 7, "batch_size": 6})));
    all.push(family("quadratic", json!({"form": "log", "condition": 1.0, "dim": 3, "rotate": false})));
    all.push(family("rosenbrock", json!({"dim": 2, "rotate": true, "steepness": 10.0})));
    all.push(family("saddle", json!({"form": "monkey", "dim": 2, "start": 0.5})));
    all.push(family("saddle", json!({"form": "plateau", "dim": 3, "start": 3.0})));
    let small = |more: serde_json::Value| {
        let common = json!({"nodes": 90, "classes": 3, "p_in": 0.2, "p_out": 0.05, "batch_size": 7});
        serde_json::Value::Object(crate::settings(common).into_iter().chain(crate::settings(more)).collect())
    };
    // Wider after narrower: neighbours are summed before the product.
    all.push(family("graph_gcn", small(json!({"hidden": [3, 6], "activation": ["tanh", "relu"], "l2": 0.0}))));
    all.push(family("graph_gcn", small(json!({"hidden": [], "dropout": 0.0, "l2": 0.1}))));
    all.push(family("graph_gcn", small(json!({"graph": "task", "dropout": 0.2}))));
    all.push(family("graph_gat", small(json!({"graph": "task", "heads": 2, "output_heads": 3, "hidden": [5, 3]}))));
    all.push(family(
        "graph_sage",
        small(json!({"graph": "task", "activation": "silu", "hidden": [4], "dropout": 0.0})),
    ));
    all.push(family("graph_molecules", json!({"target": "amide", "readout": "mean", "rounds": 1, "batch_size": 9})));
    all.push(family(
        "graph_molecules",
        json!({"target": "score", "readout": "max", "activation": ["tanh", "silu"], "atoms": 9, "width": 7}),
    ));
    all.push(family("image_mlp", json!({"loss": "mse", "image_size": 4, "batch_size": 20})));
    all.push(family("image_ae", json!({"loss": "log_mse", "centred": true, "hidden": [12, 5, 12], "image_size": 5})));
    all.push(family("image_ae", json!({"squashed": false, "hidden": [], "image_size": 4, "batch_size": 9})));
    all.push(family("image_vae", json!({"encoder": [], "latent": 3, "decoder": [9, 7], "image_size": 4})));
    for cell in ["vanilla", "irnn", "gru"] {
        let sizes = json!({"cell": cell, "hidden": 9, "embed": 5, "sequence": 6, "batch_size": 7});
        all.push(family("text_rnn", sizes));
    }
    let sizes = json!({"layers": 2, "dropout": 0.3, "activation": ["relu", "silu"], "sequence": 5, "vocab": 12});
    all.push(family("text_transformer", sizes));
    all.extend(complex_variants());
    all
}

/// A registered family with its defaults. Of a family that draws, a small typical member stands for all.
fn by_default(info: &FamilyInfo) -> Arc<dyn Family> {
    let mut settings = info.settings.clone();
    if settings.get("max_flop").is_some() {
        settings["max_flop"] = json!(2e7);
    }
    family(info.name, settings)
}

/// Each activation, input, network and edge of the complex families once.
fn complex_variants() -> Vec<Arc<dyn Family>> {
    let images = [
        json!({}),
        json!({"activation": "zrelu"}),
        json!({"activation": "modrelu", "init": "normal_glorot"}),
        json!({"activation": "cardioid", "init": "torch_uniform", "input": "noise", "noise": 0.1}),
        json!({"activation": "split_tanh", "input": "imaginary", "perturb": "both"}),
        json!({"activation": "split_sigmoid", "input": "rotation", "perturb": "both"}),
        json!({"activation": "holomorphic_tanh", "input": "random_rotation", "init": "polar_glorot"}),
        json!({"activation": "holomorphic_sigmoid", "input": "fft", "init": "normal_he"}),
        json!({"activation": "polar_tanh"}),
        json!({"activation": "siglog"}),
        json!({"net": "real", "init": "torch_uniform"}),
        json!({"net": "real", "input": "fft", "activation": "split_tanh"}),
        json!({"net": "real_matched", "activation": "split_sigmoid", "input": "rotation"}),
    ];
    let small = json!({"image_size": 8, "kernel": 2, "channels": [2, 3], "hidden": 6, "batch_size": 3});
    let mut all: Vec<_> = images.iter().map(|variant| family("image_complex", merged(&small, variant))).collect();
    let sounds = [
        ("audio_real", json!({"net": "real_matched"})),
        ("audio_complex", json!({})),
        ("audio_complex", json!({"features": "workflow1"})),
        ("audio_complex", json!({"features": "workflow2", "activation": "cardioid"})),
        (
            "audio_complex",
            json!({"features": "stft", "n_fft": 32, "hop": 32, "frames": 12, "data": "procedural_phase"}),
        ),
        ("audio_real", json!({"features": "workflow2"})),
        ("audio_graph", json!({"edges": "per_sample"})),
        ("audio_graph", json!({"edges": "ones"})),
        ("audio_graph", json!({"edges": "random", "net": "real"})),
        ("audio_graph", json!({"edges": "magnitude_difference"})),
    ];
    let small = json!({"segment": 1024, "frames": 7, "channels": [2, 3], "hidden": 6, "batch_size": 3});
    all.extend(sounds.iter().map(|(name, variant)| family(name, merged(&small, variant))));
    all.push(family("complex_delay", json!({"activation": "modrelu", "times": 9, "channels": 3, "batch_size": 8})));
    all.push(family("complex_phase_sum", json!({"hidden": [5, 4], "inputs": 3, "activation": "siglog"})));
    all
}

/// The settings of both; the second wins.
fn merged(base: &Value, over: &Value) -> Value {
    let both = [base, over].into_iter().filter_map(Value::as_object).flatten();
    Value::Object(both.map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn seeds(values: &[u64]) -> Vec<Seed> {
    values.iter().copied().map(Seed::new).collect()
}

/// Bits, so that NaN equals itself and −0 differs from 0.
fn bits(params: &Params, lane: usize) -> Vec<u32> {
    (0..params.layout().len()).flat_map(|index| params.lane(index, lane)).map(|value| value.to_bits()).collect()
}

#[test]
fn families_are_listed_under_their_names_with_usable_defaults() {
    for info in paceline_tasks::families() {
        let family = family(info.name, info.settings.clone());
        assert_eq!(family.name(), info.name);
        assert!(!info.summary.is_empty());
        assert!(info.settings.as_object().is_some_and(|settings| !settings.is_empty()));
        let described = format!("{family:?}");
        assert!(described.contains(info.name) && described.contains("data procedural"), "{described}");
    }
}

#[test]
fn shapes_are_those_of_the_layout_and_scores_are_finite() {
    for family in every_family() {
        let mut lanes = family.bind(&seeds(&[1, 2, 3])).unwrap();
        let params = lanes.init_params().unwrap();
        assert_eq!((params.layout(), params.lanes()), (family.layout(), 3));
        assert!(params.layout().size() > 0);
        let (losses, grads) = lanes.loss_and_grads(&params, 0).unwrap();
        params.check_like(&grads, "gradients").unwrap();
        assert_eq!(losses.len(), 3);
        assert!(losses.iter().all(|loss| loss.is_finite()), "{family:?}: {losses:?}");
        for split in SPLITS {
            let scores = lanes.evaluate(&params, split, 1).unwrap();
            assert_eq!(scores.len(), 3);
            for score in scores {
                assert!(score.loss.is_finite(), "{family:?}: {score:?}");
                assert!(score.accuracy.is_none_or(|accuracy| (0.0..=1.0).contains(&accuracy)), "{family:?}");
            }
        }
    }
}

#[test]
fn a_classifier_that_knows_nothing_is_near_chance() {
    for family in every_family() {
        let (name, described) = (family.name(), format!("{family:?}"));
        let other_loss = name == "image_ae" || name == "image_vae" || described.contains("mean squared error");
        if !name.starts_with("image_") || !described.contains("10 classes") || other_loss {
            continue;
        }
        let mut lanes = family.bind(&seeds(&[1, 2, 3])).unwrap();
        let params = lanes.init_params().unwrap();
        let (losses, _) = lanes.loss_and_grads(&params, 0).unwrap();
        // ln 10 = 2.3 for a network that knows nothing.
        assert!(losses.iter().all(|loss| (1.2..5.0).contains(loss)), "{family:?}: {losses:?}");
    }
}

#[test]
fn a_seed_is_a_task_to_the_bit() {
    for family in every_family() {
        let run = |seed: u64| {
            let mut lanes = family.bind(&seeds(&[seed])).unwrap();
            let params = lanes.init_params().unwrap();
            let (losses, grads) = lanes.loss_and_grads(&params, 3).unwrap();
            let scores = SPLITS.map(|split| lanes.evaluate(&params, split, 2).unwrap()[0].loss.to_bits());
            (bits(&params, 0), losses[0].to_bits(), bits(&grads, 0), scores)
        };
        let (one, other) = (run(1), run(2));
        assert!(one == run(1), "{family:?}: the same seed gave another task");
        assert_ne!(one.0, other.0, "{family:?}: initial weights ignore the seed");
        assert_ne!(one.2, other.2, "{family:?}: gradients ignore the seed");
    }
}

#[test]
fn batches_and_splits_differ() {
    for family in every_family() {
        let mut lanes = family.bind(&seeds(&[1])).unwrap();
        let params = lanes.init_params().unwrap();
        let mut losses: Vec<u32> =
            (0..4).map(|batch| lanes.loss_and_grads(&params, batch).unwrap().0[0].to_bits()).collect();
        losses.extend(SPLITS[1..].iter().map(|&split| lanes.evaluate(&params, split, 0).unwrap()[0].loss.to_bits()));
        losses.sort_unstable();
        losses.dedup();
        // Two small batches of a nearly dead network may score alike.
        assert!(losses.len() >= 6, "{family:?}: batches are the same");
    }
}

#[test]
fn training_batches_score_the_same_with_and_without_gradients() {
    for family in every_family() {
        let mut lanes = family.bind(&seeds(&[4, 5])).unwrap();
        let params = lanes.init_params().unwrap();
        let (losses, _) = lanes.loss_and_grads(&params, 9).unwrap();
        let scores = lanes.evaluate(&params, Split::Train, 9).unwrap();
        assert_eq!(losses, scores.iter().map(|score| score.loss).collect::<Vec<_>>());
    }
}

#[test]
fn a_lane_does_not_notice_its_neighbours() {
    for family in every_family() {
        // Equal seeds share a batch, different ones do not: both ways must give what a lane gets alone.
        for lane_seeds in [[6, 6, 6], [6, 7, 8], [6, 7, 6]] {
            let mut together = family.bind(&seeds(&lane_seeds)).unwrap();
            let mut params = together.init_params().unwrap();
            // The middle lane has diverged.
            for index in 0..params.layout().len() {
                params.lane_mut(index, 1).fill(f32::NAN);
            }
            // The last one stands elsewhere than where it began.
            for index in 0..params.layout().len() {
                params.lane_mut(index, 2).iter_mut().for_each(|value| *value = *value * 1.5 + 0.01);
            }
            let (losses, grads) = together.loss_and_grads(&params, 2).unwrap();
            let scores = together.evaluate(&params, Split::OuterValid, 2).unwrap();
            assert!(losses[1].is_nan(), "{family:?}: {losses:?}");
            assert!(scores[1].accuracy.is_none_or(|accuracy| accuracy == 0.0), "{family:?}");
            for lane in [0, 2] {
                let mut alone = family.bind(&seeds(&lane_seeds[lane..=lane])).unwrap();
                let own = params.select(&[lane]);
                let (own_losses, own_grads) = alone.loss_and_grads(&own, 2).unwrap();
                assert_eq!(own_losses[0].to_bits(), losses[lane].to_bits(), "{family:?} lane {lane}");
                assert!(bits(&own_grads, 0) == bits(&grads, lane), "{family:?} lane {lane}");
                assert_eq!(alone.evaluate(&own, Split::OuterValid, 2).unwrap()[0], scores[lane]);
            }
        }
    }
}

#[test]
fn gradients_are_those_of_differences() {
    for family in every_family() {
        // A pool by modulus jumps where two numbers are equally long. Among thousands of windows some do so within any
        // step, and no difference is the gradient; the members with few windows stand for the others.
        let pools_by_modulus = family.name() == "image_complex" || family.name().starts_with("audio_");
        if pools_by_modulus && !format!("{family:?}").contains("batch 3,") {
            continue;
        }
        // In f32 a kink may lie within every step that rounding allows; a wrong gradient is wrong for every task.
        let mut worst = [11, 12, 13].into_iter().map(|seed| worst_gradient(&*family, seed));
        assert!(worst.clone().any(|(_, error)| error < 0.02), "{family:?}: off by {:?}", worst.next());
    }
}

/// The tensor whose gradient is farthest from that of differences, for the task of a seed, and how far, relative to it.
fn worst_gradient(family: &dyn Family, seed: u64) -> (String, f64) {
    let mut lanes = family.bind(&seeds(&[seed])).expect("a task binds");
    let mut params = lanes.init_params().expect("a task begins");
    // Away from zero biases: behind a dead layer they put units exactly onto the kink of relu.
    for index in 0..params.layout().len() {
        params.tensor_mut(index).iter_mut().for_each(|value| *value += 0.03);
    }
    let (_, grads) = lanes.loss_and_grads(&params, 0).expect("a task trains");
    let mut worst = (String::new(), 0.0);
    for index in 0..params.layout().len() {
        // Along the gradient of one tensor the loss must change by its squared length. In f32 single entries drown
        // in rounding; the layers are checked entry by entry in f64.
        let length = grads.lane(index, 0).iter().map(|&grad| f64::from(grad).powi(2)).sum::<f64>();
        let name = params.layout().tensors()[index].name();
        assert!(length > 0.0, "{family:?}: {name} has no gradient at all");
        let mut step = 0.02 / length.sqrt();
        let mut error = f64::INFINITY;
        // relu has kinks: a shorter step must do better in the end.
        for _ in 0..9 {
            let mut loss_at = |factor: f64| {
                let mut moved = params.clone();
                let entries = moved.lane_mut(index, 0).iter_mut().zip(grads.lane(index, 0));
                entries.for_each(|(value, &grad)| *value = (f64::from(*value) + factor * f64::from(grad)) as f32);
                f64::from(lanes.evaluate(&moved, Split::Train, 0).expect("a task is scored")[0].loss)
            };
            let slope = (loss_at(step) - loss_at(-step)) / (2.0 * step);
            error = error.min((slope / length - 1.0).abs());
            if error < 0.02 {
                break;
            }
            step /= 2.0;
        }
        if error > worst.1 {
            worst = (name.to_owned(), error);
        }
    }
    worst
}

#[test]
fn gradient_descent_lowers_the_loss() {
    for family in every_family() {
        // Always the same batch, so that any right gradient must succeed, at a rate small enough for the family.
        let descend = |rate: f32| {
            let mut lanes = family.bind(&seeds(&[21, 22])).unwrap();
            let mut params = lanes.init_params().unwrap();
            let (before, _) = lanes.loss_and_grads(&params, 0).unwrap();
            for _ in 0..10 {
                let (_, grads) = lanes.loss_and_grads(&params, 0).unwrap();
                for index in 0..params.layout().len() {
                    let values = params.tensor_mut(index).iter_mut();
                    values.zip(grads.tensor(index)).for_each(|(value, grad)| *value -= rate * grad);
                }
            }
            let (after, _) = lanes.loss_and_grads(&params, 0).unwrap();
            (before.iter().zip(&after).all(|(before, after)| after < before), before, after)
        };
        let mut runs = [0.05, 0.005, 0.0005, 0.5, 5.0, 50.0].into_iter().map(descend);
        assert!(runs.clone().any(|run| run.0), "{family:?}: {:?}", runs.next());
    }
}

#[test]
fn losses_are_normalised_into_a_finite_range_in_order() {
    for family in every_family() {
        let losses = [f64::NEG_INFINITY, -10.0, 0.0, 0.1, 0.5, 1.0, 2.0, 2.3, 3.0, 5.0, 10.0, 1e3, 1e30, f64::MAX];
        let normalised = losses.map(|loss| family.normalise(loss));
        assert!(normalised.iter().all(|value| value.is_finite()), "{family:?}: {normalised:?}");
        let in_order = normalised[1..].windows(2).all(|pair| pair[0] <= pair[1]);
        assert!(in_order && normalised[1] < normalised[13], "{family:?}: {normalised:?}");
        for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(family.normalise(loss), family.normalise(f64::MAX), "{family:?}: {loss} is the ceiling");
        }
    }
}

/// Memory is estimated from shapes; this is what the allocator saw.
#[test]
fn memory_per_lane_is_as_estimated() {
    for family in every_family() {
        let peak = |lane_seeds: &[u64]| {
            let mut lanes = family.bind(&seeds(lane_seeds)).unwrap();
            let params = lanes.init_params().unwrap();
            // The second time, when threads have their scratch buffers.
            lanes.loss_and_grads(&params, 0).unwrap();
            peak(|| lanes.loss_and_grads(&params, 1).unwrap()).1 as f64
        };
        let parameters = (4 * family.layout().size()) as f64;
        // The inner trainings of a learned optimizer run one after another: a lane needs what one needs.
        let one_by_one = family.name().ends_with("learned_optimizer");
        let of_a_lane = if one_by_one { peak(&[1]) } else { (peak(&[1, 2, 3]) - peak(&[1])) / 2.0 };
        let (measured, estimated) = (parameters + of_a_lane, family.cost().bytes);
        // What a few vectors and boxes take beside the numbers in them shows only where there are next to no numbers.
        let (off, allowed) = ((estimated - measured).abs(), (0.2 * measured).max(512.0));
        assert!(off <= allowed, "{family:?}: estimated {estimated}, measured {measured}");
        let (flop, quick) = (family.cost().flop, family.flop());
        assert!((flop / quick - 1.0).abs() < 1e-6, "{family:?}: {flop} operations, or {quick}");
        assert!(family.cost().flop >= family.layout().size() as f64, "{family:?}: {:?}", family.cost());
    }
}

#[test]
fn every_family_shows_its_data() {
    for info in paceline_tasks::families() {
        let family = paceline_tasks::build(info.name, &crate::settings(info.settings), None).unwrap();
        assert!(!family.panels(Seed::new(1)).is_empty(), "{}", info.name);
        assert_eq!(family.panels(Seed::new(1)), family.panels(Seed::new(1)), "{}", info.name);
    }
}

#[test]
fn parameters_of_another_problem_are_refused() {
    let (small, large) = (family("image_mlp", json!({"hidden": [4]})), family("image_mlp", json!({"hidden": [5]})));
    let mut lanes = small.bind(&seeds(&[1, 2])).unwrap();
    let other = large.bind(&seeds(&[1, 2])).unwrap().init_params().unwrap();
    assert!(lanes.loss_and_grads(&other, 0).unwrap_err().to_string().contains("layout"));
    let one_lane = small.bind(&seeds(&[1])).unwrap().init_params().unwrap();
    assert!(lanes.evaluate(&one_lane, Split::Test, 0).unwrap_err().to_string().contains("expected 2 lanes, got 1"));
    assert!(small.bind(&[]).is_err());
}

#[test]
fn threads_share_a_family_and_get_the_same_bits() {
    let family = family("image_conv", json!({"channels": [3, 4], "image_size": 6, "batch_size": 20}));
    let run = || {
        let mut lanes = family.bind(&seeds(&[1, 1])).unwrap();
        let params = lanes.init_params().unwrap();
        bits(&lanes.loss_and_grads(&params, 0).unwrap().1, 1)
    };
    let here = run();
    let there: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(there.iter().all(|bits| *bits == here));
}
