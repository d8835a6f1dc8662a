//! What each augmentation promises, on families that are known.

use std::sync::Arc;

use paceline_optimizer_core::task::{Split, TaskFamily};
use paceline_optimizer_core::{Params, Seed};
use serde_json::{Value, json};

use super::{family, settings};

fn seeds(values: &[u64]) -> Vec<Seed> {
    values.iter().copied().map(Seed::new).collect()
}

fn bits(params: &Params, lane: usize) -> Vec<u32> {
    (0..params.layout().len()).flat_map(|index| params.lane(index, lane)).map(|value| value.to_bits()).collect()
}

/// A bowl without noise, and the same under augmentations.
fn bowl(augment: Value) -> Arc<dyn TaskFamily> {
    family("quadratic", json!({"dim": 6, "noise": 0.0, "augment": augment}))
}

fn mlp(augment: Value) -> Arc<dyn TaskFamily> {
    family("image_mlp", json!({"image_size": 4, "hidden": [5], "batch_size": 12, "augment": augment}))
}

/// Every kind, alone, with settings that change something.
fn every_kind() -> Vec<Value> {
    vec![
        json!([{"kind": "reparam", "level": "global", "range": [0.1, 10.0]}]),
        json!([{"kind": "reparam", "level": "tensor", "range": [0.1, 10.0]}]),
        json!([{"kind": "reparam", "level": "parameter", "range": [0.1, 10.0]}]),
        json!([{"kind": "reduced_batch", "fraction": 0.5}]),
        json!([{"kind": "es", "sigma": 0.01, "pairs": 2}]),
        json!([{"kind": "half_precision"}]),
        json!([{"kind": "normalise_gradient"}]),
        json!([{"kind": "gradient_noise", "deviation": 0.3}]),
        json!([{"kind": "directions", "count": 3}]),
        json!([{"kind": "directions", "count": 3, "sign": true}]),
        json!([{"kind": "delay", "steps": 2}]),
    ]
}

/// All of them, one around the other.
fn whole_stack() -> Value {
    json!([
        {"kind": "reparam", "level": "parameter", "range": [0.1, 10.0]},
        {"kind": "es", "sigma": 0.01, "pairs": 2},
        {"kind": "reduced_batch", "fraction": 0.3},
        {"kind": "half_precision"},
        {"kind": "normalise_gradient"},
        {"kind": "directions", "count": 3},
        {"kind": "gradient_noise", "deviation": 0.3},
        {"kind": "delay", "steps": 3},
        {"kind": "reparam", "level": "tensor", "range": [0.1, 10.0]},
        {"kind": "delay", "steps": 1},
    ])
}

fn moved(mut params: Params, by: f32) -> Params {
    for index in 0..params.layout().len() {
        params.tensor_mut(index).iter_mut().enumerate().for_each(|(i, value)| *value += by * (1.0 + (i % 3) as f32));
    }
    params
}

/// `params − rate · grads`.
fn descended(params: &Params, grads: &Params, rate: f64) -> Params {
    let mut next = params.clone();
    for index in 0..params.layout().len() {
        let values = next.tensor_mut(index).iter_mut().zip(grads.tensor(index));
        values.for_each(|(value, &grad)| *value = (f64::from(*value) - rate * f64::from(grad)) as f32);
    }
    next
}

#[test]
fn every_augmentation_changes_something_and_equal_seeds_meet_the_same() {
    let plain = mlp(json!([]));
    for augment in every_kind().into_iter().chain([whole_stack()]) {
        let run = |family: &dyn TaskFamily, lane_seeds: &[u64]| {
            let mut lanes = family.bind(&seeds(lane_seeds)).unwrap();
            let mut params = lanes.init_params().unwrap();
            let mut seen = vec![vec![]; lane_seeds.len()];
            for batch in 0..4 {
                let (losses, grads) = lanes.loss_and_grads(&params, batch).unwrap();
                for (lane, seen) in seen.iter_mut().enumerate() {
                    seen.push(losses[lane].to_bits());
                    seen.extend(bits(&grads, lane));
                    seen.push(lanes.evaluate(&params, Split::Test, batch).unwrap()[lane].loss.to_bits());
                }
                params = descended(&params, &grads, 0.1);
            }
            seen
        };
        let augmented = mlp(augment.clone());
        let together = run(&*augmented, &[5, 6, 5]);
        assert_eq!(together[0], together[2], "{augment}: common random numbers");
        assert_ne!(together[0], together[1], "{augment}");
        assert_eq!(run(&*augmented, &[5, 6, 5]), together, "{augment}: the same seed, other bits");
        for (lane, seed) in [5, 6].into_iter().enumerate() {
            assert_eq!(run(&*augmented, &[seed])[0], together[lane], "{augment}: lane {lane} notices its neighbours");
        }
        assert_ne!(run(&*plain, &[5])[0], together[0], "{augment} changes nothing");
    }
}

#[test]
fn a_diverged_lane_stays_alone() {
    for augment in every_kind().into_iter().chain([whole_stack()]) {
        let family = mlp(augment.clone());
        let mut together = family.bind(&seeds(&[1, 1, 2])).unwrap();
        let initial = together.init_params().unwrap();
        let mut params = initial.clone();
        let mut alone = family.bind(&seeds(&[2])).unwrap();
        for batch in 0..6 {
            let (losses, grads) = together.loss_and_grads(&params, batch).unwrap();
            let (own_losses, own_grads) = alone.loss_and_grads(&params.select(&[2]), batch).unwrap();
            assert_eq!(losses[2].to_bits(), own_losses[0].to_bits(), "{augment} batch {batch}");
            assert_eq!(bits(&grads, 2), bits(&own_grads, 0), "{augment} batch {batch}");
            if batch == 5 {
                assert!(losses[1].is_nan() && losses[0].is_finite(), "{augment}: {losses:?}");
            }
            params = descended(&params, &grads, 0.1);
            (0..params.layout().len()).for_each(|index| params.lane_mut(index, 1).fill(f32::NAN));
        }
    }
}

#[test]
fn a_reparametrised_task_is_the_same_function_on_other_scales() {
    for level in ["global", "tensor", "parameter"] {
        let (plain, scaled) =
            (mlp(json!([])), mlp(json!([{"kind": "reparam", "level": level, "range": [0.01, 100.0]}])));
        let (mut plain, mut scaled) = (plain.bind(&seeds(&[3])).unwrap(), scaled.bind(&seeds(&[3])).unwrap());
        let (w, inner) = (plain.init_params().unwrap(), scaled.init_params().unwrap());
        let (losses, grads) = plain.loss_and_grads(&w, 0).unwrap();
        let (scaled_losses, scaled_grads) = scaled.loss_and_grads(&inner, 0).unwrap();
        assert!((losses[0] - scaled_losses[0]).abs() < 1e-6, "{level}: the function is the same");
        let mut scales = vec![];
        for index in 0..w.layout().len() {
            for i in 0..w.tensor(index).len() {
                let (g, scaled_g) = (f64::from(grads.tensor(index)[i]), f64::from(scaled_grads.tensor(index)[i]));
                let (w, scaled_w) = (f64::from(w.tensor(index)[i]), f64::from(inner.tensor(index)[i]));
                // Where the weight begins at 0 its scale cannot be read off; the gradient's can.
                if w != 0.0 && g.abs() > 1e-4 {
                    let scale = w / scaled_w;
                    assert!((0.0099..=101.0).contains(&scale), "{level}: {scale}");
                    assert!((scaled_g / g / scale - 1.0).abs() < 1e-3, "{level}: {scaled_g} is not {scale} · {g}");
                    scales.push((index, scale));
                }
            }
        }
        let mut all: Vec<i64> = scales.iter().map(|(_, scale)| (scale * 1e4) as i64).collect();
        all.sort_unstable();
        let (first, last) = (all[0], all[all.len() - 1]);
        all.dedup();
        match level {
            "global" => assert!(last - first <= 1 + first / 1000, "{level}: {first} {last}"),
            "tensor" => assert!(last > 2 * first && all.len() < scales.len() / 4),
            _ => assert!(last > 10 * first && all.len() > scales.len() / 2),
        }
    }
}

#[test]
fn descent_on_a_scaled_bowl_is_descent_at_the_square_of_the_scale() {
    let (plain, scaled) = (bowl(json!([])), bowl(json!([{"kind": "reparam", "level": "global", "range": [0.2, 5.0]}])));
    let (mut plain, mut scaled) = (plain.bind(&seeds(&[9])).unwrap(), scaled.bind(&seeds(&[9])).unwrap());
    let (mut w, mut inner) = (plain.init_params().unwrap(), scaled.init_params().unwrap());
    let scale = f64::from(w.tensor(0)[0]) / f64::from(inner.tensor(0)[0]);
    assert!((scale - 1.0).abs() > 0.05, "a scale of about 1 would show nothing");
    for batch in 0..50 {
        let (losses, grads) = plain.loss_and_grads(&w, batch).unwrap();
        let (scaled_losses, scaled_grads) = scaled.loss_and_grads(&inner, batch).unwrap();
        assert!((losses[0] / scaled_losses[0] - 1.0).abs() < 1e-3, "{losses:?} {scaled_losses:?}");
        // w = s w', so w' ← w' − lr s g moves w by lr s² g.
        inner = descended(&inner, &scaled_grads, 0.3 / (scale * scale));
        w = descended(&w, &grads, 0.3);
    }
}

#[test]
fn late_gradients_are_those_of_so_many_steps_ago_and_survive_a_pause() {
    const STEPS: usize = 3;
    let (plain, late) = (mlp(json!([])), mlp(json!([{"kind": "delay", "steps": STEPS}])));
    let mut direct = plain.bind(&seeds(&[4, 8])).unwrap();
    let mut lanes = late.bind(&seeds(&[4, 8])).unwrap();
    let mut history = vec![lanes.init_params().unwrap()];
    for batch in 0..10 {
        let now = history[history.len() - 1].clone();
        let then = &history[history.len().saturating_sub(1 + STEPS)];
        let expected = direct.loss_and_grads(then, batch).unwrap();
        let (losses, grads) = lanes.loss_and_grads(&now, batch).unwrap();
        assert_eq!((&losses, &grads), (&expected.0, &expected.1), "batch {batch}");
        let scores = lanes.evaluate(&now, Split::Test, batch).unwrap();
        assert_eq!(scores, direct.evaluate(&now, Split::Test, batch).unwrap(), "evaluations are not late");
        history.push(moved(now, 0.01));
        if batch == 4 {
            let state = lanes.state().unwrap().clone();
            lanes = late.bind(&seeds(&[4, 8])).unwrap();
            lanes.restore(state).unwrap();
        }
    }
    let mut wrong = lanes.state().unwrap().clone();
    wrong.tensor_mut(0)[1] = 3.0;
    assert!(lanes.restore(wrong.clone()).unwrap_err().to_string().contains("delay/next"));
    assert!(lanes.restore(wrong.select(&[0])).unwrap_err().to_string().contains("lanes"));
    assert!(lanes.loss_and_grads(&history[0].select(&[0]), 0).is_err());
}

#[test]
fn a_stack_with_two_delays_survives_a_pause() {
    let family = mlp(whole_stack());
    let run = |pause: Option<u64>| {
        let mut lanes = family.bind(&seeds(&[4, 8])).unwrap();
        let mut params = lanes.init_params().unwrap();
        for batch in 0..9 {
            let (_, grads) = lanes.loss_and_grads(&params, batch).unwrap();
            params = descended(&params, &grads, 0.1);
            if pause == Some(batch) {
                let state = lanes.state().unwrap().clone();
                lanes = family.bind(&seeds(&[4, 8])).unwrap();
                lanes.restore(state).unwrap();
            }
        }
        params
    };
    let whole = run(None);
    for pause in 0..8 {
        assert_eq!(run(Some(pause)), whole, "after batch {pause}");
    }
}

#[test]
fn evolution_strategies_expect_the_gradient() {
    // Antithetic differences of a quadratic are exact along their direction, so that the mean over directions is the
    // gradient at any sigma.
    let (plain, es) = (bowl(json!([])), bowl(json!([{"kind": "es", "sigma": 0.3, "pairs": 16}])));
    let (mut plain, mut es) = (plain.bind(&seeds(&[7])).unwrap(), es.bind(&seeds(&[7])).unwrap());
    let params = plain.init_params().unwrap();
    assert_eq!(bits(&params, 0), bits(&es.init_params().unwrap(), 0));
    let (losses, exact) = plain.loss_and_grads(&params, 0).unwrap();
    let batches = 600;
    let mut samples = vec![vec![]; 6];
    for batch in 0..batches {
        let (es_losses, grads) = es.loss_and_grads(&params, batch).unwrap();
        assert_eq!(es_losses, losses, "the loss reported is the unperturbed one");
        samples.iter_mut().zip(grads.tensor(0)).for_each(|(samples, &grad)| samples.push(f64::from(grad)));
    }
    let length = exact.tensor(0).iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    for (samples, &exact) in samples.iter().zip(exact.tensor(0)) {
        let count = batches as f64;
        let mean = samples.iter().sum::<f64>() / count;
        let error = (samples.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / count / (count - 1.0)).sqrt();
        assert!((mean - f64::from(exact)).abs() < 4.0 * error, "{mean} ± {error} is not {exact}");
        assert!(error < 0.05 * length, "too noisy to tell: {error} of {length}");
    }
}

#[test]
fn normalised_gradients_have_length_1_and_the_noise_its_deviation() {
    let grads = |augment: Value, batch| {
        let family = mlp(augment);
        let mut lanes = family.bind(&seeds(&[3])).unwrap();
        let params = lanes.init_params().unwrap();
        let grads = lanes.loss_and_grads(&params, batch).unwrap().1;
        (0..grads.layout().len()).flat_map(|index| grads.tensor(index)).map(|&g| f64::from(g)).collect::<Vec<_>>()
    };
    let square = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    let plain = grads(json!([]), 0);
    let unit = grads(json!([{"kind": "normalise_gradient"}]), 0);
    assert!((square(&unit) - 1.0).abs() < 1e-6);
    let cosine = plain.iter().zip(&unit).map(|(a, b)| a * b).sum::<f64>() / square(&plain).sqrt();
    assert!((cosine - 1.0).abs() < 1e-6);
    let noisy = grads(json!([{"kind": "gradient_noise", "deviation": 0.5}]), 0);
    let noise: Vec<f64> = noisy.iter().zip(&plain).map(|(a, b)| a - b).collect();
    // The deviation of a sample deviation of n normals is 1/√(2n), here 5 %.
    let ratio = (square(&noise) / square(&plain)).sqrt();
    assert!((ratio - 0.5).abs() < 0.1, "{ratio}");
    assert_ne!(grads(json!([{"kind": "gradient_noise", "deviation": 0.5}]), 1), noisy);

    // At the bottom of a bowl there is no gradient, and none is made up.
    let flat = family(
        "quadratic",
        json!({"dim": 4, "noise": 0.0, "start": 0.0, "centre": 0.0, "augment": [
            {"kind": "normalise_gradient"}, {"kind": "gradient_noise", "deviation": 1.0}, {"kind": "directions", "count": 2}
        ]}),
    );
    let mut lanes = flat.bind(&seeds(&[3])).unwrap();
    let params = lanes.init_params().unwrap();
    assert!(lanes.loss_and_grads(&params, 0).unwrap().1.tensor(0).iter().all(|g| *g == 0.0));
}

#[test]
fn half_precision_has_eight_bits() {
    let family = mlp(json!([{"kind": "half_precision"}]));
    let mut lanes = family.bind(&seeds(&[3])).unwrap();
    let params = lanes.init_params().unwrap();
    let coarse = |params: &Params| bits(params, 0).iter().all(|bits| bits & 0xFFFF == 0);
    let (losses, grads) = lanes.loss_and_grads(&params, 0).unwrap();
    assert!(coarse(&params) && coarse(&grads));
    // Less than half a unit in the last of eight bits is not seen.
    let mut near = params.clone();
    for index in 0..near.layout().len() {
        near.tensor_mut(index).iter_mut().for_each(|value| *value *= 1.0 + 2_f32.powi(-10));
    }
    assert_eq!(lanes.loss_and_grads(&near, 0).unwrap(), (losses, grads));
}

#[test]
fn the_first_entry_is_innermost() {
    let scales = |augment: Value| {
        let family = bowl(augment);
        let mut lanes = family.bind(&seeds(&[3])).unwrap();
        let params = lanes.init_params().unwrap();
        let grads = lanes.loss_and_grads(&params, 0).unwrap().1;
        grads.tensor(0).iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt()
    };
    let (unit, scale) =
        (json!({"kind": "normalise_gradient"}), json!({"kind": "reparam", "level": "global", "range": [4.0, 4.0]}));
    assert!((scales(json!([scale, unit])) - 1.0).abs() < 1e-6, "normalised after it was scaled");
    assert!((scales(json!([unit, scale])) - 4.0).abs() < 1e-5, "scaled after it was normalised");
}

#[test]
fn a_reduced_batch_is_the_family_with_a_smaller_batch() {
    for (fraction, batch) in [(0.5, 6), (0.49, 5), (0.001, 1), (1.0, 12)] {
        let reduced = mlp(json!([{"kind": "reduced_batch", "fraction": fraction}]));
        let small = family("image_mlp", json!({"image_size": 4, "hidden": [5], "batch_size": batch}));
        let run = |family: &dyn TaskFamily| {
            let mut lanes = family.bind(&seeds(&[3])).unwrap();
            let params = lanes.init_params().unwrap();
            lanes.loss_and_grads(&params, 0).unwrap()
        };
        assert_eq!(run(&*reduced), run(&*small), "{fraction}");
        assert_eq!(reduced.cost(), small.cost());
    }
}

#[test]
fn members_draw_what_lanes_share() {
    let drawn = mlp(json!([
        {"kind": "reparam", "level": {"one_of": ["none", "global"]}, "range": [0.1, 0.1]},
        {"kind": "reduced_batch", "fraction": {"uniform": [0.1, 0.9]}, "probability": 0.5},
        {"kind": "directions", "count": {"log_uniform": [1, 100]}, "probability": 0.3},
    ]));
    let described = |seed| format!("{:?}", drawn.draw(Seed::new(seed)).unwrap().expect("members differ"));
    let all: Vec<String> = (0..400).map(described).collect();
    assert_eq!(all[7], described(7));
    let share = |what: &str| all.iter().filter(|text| text.contains(what)).count() as f64 / 400.0;
    // Three deviations of a share of 400 are at most 0.075.
    assert!((share("all weights together") - 0.5).abs() < 0.075);
    assert!((share("random directions") - 0.3).abs() < 0.075);
    assert!((share("batch 12,") - 0.5).abs() < 0.1, "a reduced batch never rounds to the whole one");
    let member = drawn.draw(Seed::new(7)).unwrap().unwrap();
    assert!(member.draw(Seed::new(1)).unwrap().is_none(), "a member is of static shapes");
    assert_eq!((member.name(), member.layout()), (drawn.name(), drawn.layout()));
    assert!(mlp(whole_stack()).draw(Seed::new(7)).unwrap().is_none(), "nothing to draw");
    let never = mlp(json!([{"kind": "delay", "steps": 2, "probability": 0.0}]));
    assert!(never.draw(Seed::new(7)).unwrap().is_none() && never.bind(&seeds(&[1])).unwrap().state().is_none());
}

#[test]
fn velo_s_set_draws_every_kind() {
    let drawn = mlp(json!("velo"));
    let all: Vec<String> =
        (0..600).map(|seed| format!("{:?}", drawn.draw(Seed::new(seed)).unwrap().unwrap())).collect();
    let share = |what: &str| all.iter().filter(|text| text.contains(what)).count() as f64 / 600.0;
    for (what, expected) in [
        ("weights as they are", 2.0 / 7.0),
        ("all weights together", 2.0 / 7.0),
        ("each tensor", 2.0 / 7.0),
        ("each weight", 1.0 / 7.0),
        ("evolution strategies", 0.08),
        ("half precision", 0.2),
        ("gradients of length 1", 0.05),
        ("random directions", 0.08),
        ("steps late", 0.05),
    ] {
        assert!((share(what) - expected).abs() < 0.055 && share(what) > 0.0, "{what}: {}", share(what));
    }
    assert!((share("batch 12,") - 0.8).abs() < 0.08, "a reduced batch seldom rounds to the whole one");
    for member in (0..20).map(|seed| drawn.draw(Seed::new(seed)).unwrap().unwrap()) {
        let mut lanes = member.bind(&seeds(&[1, 1])).unwrap();
        let params = lanes.init_params().unwrap();
        assert!(lanes.loss_and_grads(&params, 0).unwrap().0[0].is_finite());
    }
}

#[test]
fn augmentations_cost_what_they_compute() {
    let plain = mlp(json!([])).cost();
    let es = mlp(json!([{"kind": "es", "pairs": 4}])).cost();
    assert!(es.flop > 2.9 * plain.flop && es.flop < 6.0 * plain.flop, "{} {}", es.flop, plain.flop);
    for augment in every_kind() {
        let cost = mlp(augment.clone()).cost();
        let reduced = augment[0]["kind"] == "reduced_batch";
        assert!((cost.flop < plain.flop) == reduced && (cost.bytes < plain.bytes) == reduced, "{augment}: {cost:?}");
    }
}

#[test]
fn what_is_resolved_is_written_out_and_stays() {
    for augment in [json!("velo"), whole_stack()] {
        let given = settings(json!({"augment": augment, "image_size": 4}));
        let resolved = paceline_tasks::resolve("image_mlp", &given, None).unwrap();
        assert!(resolved["augment"].as_array().unwrap().iter().all(|entry| entry["probability"].is_number()));
        assert_eq!(paceline_tasks::resolve("image_mlp", &resolved, None).unwrap(), resolved);
        let built = |settings| format!("{:?}", paceline_tasks::build("image_mlp", settings, None).unwrap());
        assert_eq!(built(&resolved), built(&given));
    }
    // A family without a batch has none to reduce.
    let resolved = paceline_tasks::resolve("quadratic", &settings(json!({"augment": "velo"})), None).unwrap();
    assert_eq!(resolved["augment"].as_array().unwrap().len(), 6);
}

#[test]
fn wrong_augmentations_are_refused_by_place() {
    let reparam = |key: &str, value: Value| {
        let mut entry = settings(json!({"kind": "reparam", "level": "global", "range": [0.1, 10.0]}));
        entry.insert(key.into(), value);
        json!([{"kind": "half_precision"}, entry])
    };
    let one = |entry: Value| json!([entry]);
    let cases = [
        (json!(3), "augment must be a list of tables or \"velo\""),
        (json!("vello"), "augment must be"),
        (json!([3]), "augment[0] must be a table"),
        (json!(vec![json!({"kind": "half_precision"}); 33]), "up to 32"),
        (one(json!({})), "augment[0].kind is missing: one of reparam, reduced_batch"),
        (one(json!({"kind": "dropout"})), "augment[0].kind must be one of reparam"),
        (one(json!({"kind": "half_precision", "bits": 8})), "augment[0].bits is not a setting of this kind"),
        (one(json!({"kind": "half_precision", "probability": 1.5})), "augment[0].probability must be"),
        (one(json!({"kind": "half_precision", "probability": "x"})), "augment[0].probability must be"),
        (reparam("level", json!("layer")), "augment[1].level must be none, global, tensor or parameter"),
        (reparam("level", json!({"one_of": []})), "augment[1].level has nothing"),
        (reparam("range", json!([0.0, 1.0])), "augment[1].range must be [a, b]"),
        (reparam("range", json!([2.0, 1.0])), "augment[1].range must be [a, b]"),
        (reparam("range", json!([1.0])), "augment[1].range must be two numbers"),
        (one(json!({"kind": "es", "sigma": 0.0})), "augment[0].sigma must be a number from"),
        (one(json!({"kind": "es", "sigma": {"uniform": [0.1]}})), "augment[0].sigma must be a number, { uniform"),
        (one(json!({"kind": "es", "sigma": {"uniform": [0.2, 0.1]}})), "augment[0].sigma must name its lower"),
        (one(json!({"kind": "es", "sigma": {"normal": [0.1, 1]}})), "augment[0].sigma must be a number, { uniform"),
        (one(json!({"kind": "es", "pairs": 1.5})), "augment[0].pairs must be a whole number"),
        (one(json!({"kind": "es", "pairs": {"one_of": []}})), "augment[0].pairs has nothing"),
        (one(json!({"kind": "es", "pairs": 100_000})), "augment[0].pairs must be a whole number from 1 to 1024"),
        (one(json!({"kind": "directions"})), "augment[0].count is missing"),
        (one(json!({"kind": "directions", "count": 0})), "augment[0].count"),
        (one(json!({"kind": "directions", "count": 2, "sign": 1})), "augment[0].sign must be true or false"),
        (one(json!({"kind": "delay", "steps": 1e9})), "augment[0].steps"),
        (one(json!({"kind": "gradient_noise", "deviation": -1})), "augment[0].deviation"),
        (one(json!({"kind": "gradient_noise", "deviation": {"log_uniform": [0, 1]}})), "augment[0].deviation"),
        (one(json!({"kind": "reduced_batch", "fraction": 0})), "augment[0].fraction"),
        (json!([{"kind": "delay", "steps": 1}, {"kind": "es"}]), "what augment[0] does"),
    ];
    for (augment, expected) in cases {
        let given = settings(json!({"augment": augment}));
        for error in [
            paceline_tasks::build("image_mlp", &given, None).map(|_| ()).unwrap_err(),
            paceline_tasks::resolve("image_mlp", &given, None).map(|_| ()).unwrap_err(),
        ] {
            assert!(matches!(&error, paceline_tasks::Error::Setting { .. }), "{augment}: {error:?}");
            assert!(error.to_string().contains(expected), "{augment}: {error}");
        }
    }
    let batchless = settings(json!({"augment": [{"kind": "reduced_batch", "fraction": 0.5}]}));
    let error = paceline_tasks::build("quadratic", &batchless, None).unwrap_err().to_string();
    assert!(error.contains("augment[0].kind") && error.contains("batch_size"), "{error}");
}

#[test]
fn every_augmentation_that_is_listed_can_be_used() {
    for info in paceline_tasks::augmentations() {
        let mut entry = settings(info.settings);
        entry.insert("kind".into(), info.kind.into());
        mlp(json!([entry]));
        assert!(!info.summary.is_empty());
    }
}
