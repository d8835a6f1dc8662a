//! Settings of learned optimizers whose effect no stored trajectory of the reference shows, against the formulas in f64.

use std::sync::Arc;

use paceline_optimizer_core::learned::{
    AdafacMlpConfig, LearnedOptimizerConfig, MlpNominalConfig, NnAdamConfig, NominalGradient, RnnMlpConfig,
};
use paceline_optimizer_core::optimizer::{OptState, Optimizer};
use paceline_optimizer_core::{Layout, Params, Seed, TensorSpec, Theta, noise};

/// One vector, longer than a block.
const SIZE: usize = 19;

fn layout() -> Arc<Layout> {
    Layout::new(vec![TensorSpec::new("v", [SIZE])]).unwrap()
}

fn random(seed: u64) -> Params {
    let mut params = Params::zeros(&layout(), 1);
    noise::normals(Seed::new(seed), 0, params.tensor_mut(0));
    params
}

/// Sets a tensor of theta.
fn set(theta: &mut Theta, name: &str, values: &[f32]) {
    let index = theta.layout().index_of(name).unwrap();
    theta.tensor_mut(0, index).copy_from_slice(values);
}

fn slot<'a>(state: &'a OptState, name: &str) -> &'a [f32] {
    state.slots.iter().find(|slot| slot.name == name).unwrap_or_else(|| panic!("no slot {name}")).lane(0)
}

/// Outputs of the last layer where its weights are 0.
const OUTPUTS: [f32; 4] = [0.7, -0.4, 0.3, 0.5];

/// How much magnitude and nominal magnitude grow with `relu` of the normalised parameter.
const SLOPES: [f32; 2] = [0.9, -0.6];

/// Decays so far from 1 that `1 − d` loses nothing to the rounding of `d`.
const DECAYS: [f32; 3] = [0.5, 0.75, 0.875];

/// That of the second moment.
const RMS_DECAY: f32 = 0.75;

/// MLPNomLOpt whose outputs are [`OUTPUTS`], magnitude and nominal magnitude moved by the parameter as [`SLOPES`] say.
fn nominal(config: &MlpNominalConfig) -> Box<dyn Optimizer> {
    let learned = LearnedOptimizerConfig::MlpNominal(config.clone()).build().unwrap();
    let mut theta = Theta::zeros(learned.layout(), 1);
    let mut first = [0.0; 39 * 4];
    first[4] = 1.0; // from the parameter, the second input, to the first unit
    set(&mut theta, "nn/~/w0", &first);
    let mut second = [0.0; 16];
    second[0] = 1.0;
    set(&mut theta, "nn/~/w1", &second);
    let mut last = [0.0; 16];
    last[1..3].copy_from_slice(&SLOPES);
    set(&mut theta, "nn/~/w2", &last);
    set(&mut theta, "nn/~/b2", &OUTPUTS);
    learned.bind(theta).unwrap()
}

/// The published formulas, in f64, for parameters `p` and some gradients.
fn nominal_by_formula(config: &MlpNominalConfig, mut p: Vec<f64>, grads: &[Vec<f64>]) -> Vec<f64> {
    let [decays, [rms_decay, ..]] = [DECAYS, [RMS_DECAY; 3]].map(|decays| decays.map(f64::from));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mut m, mut rms) = ([vec![0.0; SIZE], vec![0.0; SIZE], vec![0.0; SIZE]], vec![0.0; SIZE]);
    let [e0, e1, e2] = config.exp_mult.map(f64::from);
    let outputs = OUTPUTS.map(f64::from);
    for g in grads {
        for (m, decay) in m.iter_mut().zip(decays) {
            m.iter_mut().zip(g).for_each(|(m, g)| *m = decay * *m + (1.0 - decay) * g);
        }
        rms.iter_mut().zip(g).for_each(|(rms, g)| *rms = rms_decay * *rms + (1.0 - rms_decay) * g * g);
        let normaliser = 1.0 / (1e-5 + mean(&p.iter().map(|p| p * p).collect::<Vec<_>>())).sqrt();
        let output = |unit: usize, aggregate: bool| {
            let moved = |p: &f64| outputs[unit] + f64::from(SLOPES[unit - 1]) * (p * normaliser).max(0.0);
            let values: Vec<f64> = p.iter().map(moved).collect();
            if aggregate { vec![mean(&values); SIZE] } else { values }
        };
        let magnitude = output(1, config.aggregate_magnitude);
        let nominal = match config.nominal_controller {
            true => output(2, config.aggregate_nom_magnitude),
            false => vec![1.0; SIZE],
        };
        let regularisation = if config.regularization_controller { outputs[3] } else { 0.0 };
        let keep = 1.0 - f64::from(config.weight_decay) * (regularisation * e2).exp();
        for i in 0..SIZE {
            let q = 1.0 / (rms[i] + 1e-6).sqrt();
            let mut step = outputs[0] * (magnitude[i] * e0).exp() * f64::from(config.step_mult);
            if config.normalize_blackbox {
                step *= q;
            }
            if config.selfnormalize_blackbox {
                step *= mean(g);
            }
            let followed = match config.nominal_grad_estimator {
                NominalGradient::Sgd => g[i],
                NominalGradient::Sgdm => m[2][i],
                NominalGradient::AggMo => (m[0][i] + m[1][i] + m[2][i]) / 3.0,
                NominalGradient::Adam => m[2][i] * q,
                NominalGradient::AdamAggMo => (m[0][i] + m[1][i] + m[2][i]) * q / 3.0,
            };
            p[i] = keep * p[i] - step - f64::from(config.nominal_stepsize) * (nominal[i] * e1).exp() * followed;
        }
    }
    p
}

#[test]
fn mlp_nominal_follows_its_formula_at_every_switch() {
    let estimators = [
        NominalGradient::Sgd,
        NominalGradient::Sgdm,
        NominalGradient::AggMo,
        NominalGradient::Adam,
        NominalGradient::AdamAggMo,
    ];
    let grads: Vec<Params> = (0..3).map(|step| random(10 + step)).collect();
    let to_f64 = |params: &Params| params.tensor(0).iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let mut seen: Vec<Vec<f32>> = Vec::new();
    for nominal_grad_estimator in estimators {
        for switches in 0..64_u32 {
            let on = |switch: u32| switches & (1 << switch) != 0;
            let config = MlpNominalConfig {
                exp_mult: [0.5, 0.8, 0.6],
                step_mult: 0.05,
                nominal_stepsize: 0.03,
                weight_decay: 0.02,
                nominal_grad_estimator,
                nominal_controller: on(0),
                regularization_controller: on(1),
                aggregate_magnitude: on(2),
                aggregate_nom_magnitude: on(3),
                normalize_blackbox: on(4),
                selfnormalize_blackbox: on(5),
                initial_momentum_decays: DECAYS,
                initial_rms_decays: [RMS_DECAY],
                ..MlpNominalConfig::default()
            };
            let optimizer = nominal(&config);
            let mut state = optimizer.init(random(1), &[100]).unwrap();
            for grads in &grads {
                state = optimizer.update(state, grads, &[1.0]).unwrap();
            }
            let before = to_f64(&random(1));
            let expected = nominal_by_formula(&config, before, &grads.iter().map(to_f64).collect::<Vec<_>>());
            for (got, expected) in state.params.tensor(0).iter().zip(expected) {
                let error = (f64::from(*got) - expected).abs();
                assert!(error <= 4e-7 * expected.abs().max(1.0), "{config:?}: {got} instead of {expected}");
            }
            // The aggregate of a magnitude that nobody controls is the only switch without effect.
            if !on(3) || on(0) {
                assert!(!seen.iter().any(|other| other == state.params.tensor(0)), "{config:?} changes nothing");
                seen.push(state.params.tensor(0).to_vec());
            }
        }
    }
}

#[test]
fn nn_adam_s_settings_go_where_the_lstm_says_and_back() {
    for decay_strength in [0.0, 0.25, 1.0] {
        let config = NnAdamConfig { decay_strength, ..NnAdamConfig::default() };
        let learned = LearnedOptimizerConfig::NnAdam(config).build().unwrap();
        let mut theta = learned.init_theta(Seed::new(1));
        let deltas = [2.0, -3.0, 4.0, 5.0];
        set(&mut theta, "rnn_to_controls_params/rnn_to_controls/b", &deltas);
        let optimizer = learned.bind(theta).unwrap();
        let mut state = optimizer.init(random(1), &[100]).unwrap();
        let mut expected = [-0.921_034, -0.230_258_5, -0.690_776_8, -1.842_068_1];
        let initial = expected;
        for step in 0..3 {
            state = optimizer.update(state, &random(20 + step), &[1.0]).unwrap();
            for ((x, initial), delta) in expected.iter_mut().zip(initial).zip(deltas) {
                *x += 0.01 * f64::from(delta);
                *x -= f64::from(decay_strength) * (*x - initial);
            }
            for (name, expected) in ["lr", "beta1", "beta2", "epsilon"].into_iter().zip(expected) {
                let got = f64::from(slot(&state, &format!("per_layer_{name}/v"))[0]);
                assert!((got - expected).abs() < 5e-6, "{name} at strength {decay_strength}: {got}, not {expected}");
            }
        }
    }
}

#[test]
fn a_new_setting_of_nn_adam_acts_one_step_later() {
    let learned = LearnedOptimizerConfig::NnAdam(NnAdamConfig::default()).build().unwrap();
    let mut theta = learned.init_theta(Seed::new(1));
    let plain = learned.bind(theta.clone()).unwrap();
    set(&mut theta, "rnn_to_controls_params/rnn_to_controls/b", &[50.0, 0.0, 0.0, 0.0]);
    let moved = learned.bind(theta).unwrap();
    let [plain, moved] = [plain, moved].map(|optimizer| {
        let first = optimizer.update(optimizer.init(random(1), &[9]).unwrap(), &random(2), &[1.0]).unwrap();
        let second = optimizer.update(first.clone(), &random(3), &[1.0]).unwrap();
        [first.params, second.params]
    });
    assert_eq!(plain[0], moved[0]);
    // The learning rate is e⁵ times larger: 0.01 · 50 in units of a tenth of a logarithm.
    for i in 0..SIZE {
        let [slow, fast] = [&plain, &moved].map(|run| f64::from(run[1].tensor(0)[i]) - f64::from(run[0].tensor(0)[i]));
        assert!((fast / slow / 5_f64.exp() - 1.0).abs() < 2e-3, "{fast} and {slow}");
    }
}

#[test]
fn a_validation_loss_reaches_rnn_mlp_and_moves_nothing() {
    let learned = LearnedOptimizerConfig::RnnMlp(RnnMlpConfig::default()).build().unwrap();
    let optimizer = learned.bind(learned.init_theta(Seed::new(3))).unwrap();
    let state = optimizer.init(random(1), &[100]).unwrap();
    let state = optimizer.update(state, &random(2), &[2.0]).unwrap();
    let observed = optimizer.observe_validation(state.clone(), &[4.0]).unwrap();
    assert_eq!(observed.params, state.params);
    assert_eq!(observed.step, [2]);
    for (before, after) in state.slots.iter().zip(&observed.slots) {
        assert_eq!(before == after, !before.name.starts_with("valid_loss/"), "{}", before.name);
    }
    // δ = 0.95, around the new mean.
    let expected = [0.05 * 4.0, 0.05 * (0.2_f64 - 4.0).powi(2), 1.0];
    for (name, expected) in ["mean", "var", "updates"].into_iter().zip(expected) {
        let got = f64::from(slot(&observed, &format!("valid_loss/{name}"))[0]);
        assert!((got - expected).abs() < 1e-6, "{name}: {got} instead of {expected}");
    }
    let [without, with] = [state, observed].map(|mut state| {
        state.step = vec![1];
        optimizer.update(state, &random(4), &[1.9]).unwrap()
    });
    assert_ne!(without.params, with.params, "the validation loss is a feature");
    assert_eq!(slot(&without, "train_loss/mean"), slot(&with, "train_loss/mean"));
}

#[test]
fn others_do_not_listen_to_validation_losses() {
    let learned = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()).build().unwrap();
    let optimizer = learned.bind(learned.init_theta(Seed::new(3))).unwrap();
    let state = optimizer.update(optimizer.init(random(1), &[9]).unwrap(), &random(2), &[1.0]).unwrap();
    assert_eq!(optimizer.observe_validation(state.clone(), &[4.0]).unwrap(), state);
}

#[test]
fn initial_decays_are_those_of_a_theta_of_zeros() {
    let config = AdafacMlpConfig {
        initial_momentum_decays: [0.25, 0.5, 0.75],
        initial_rms_decays: [0.5],
        initial_adafactor_decays: [0.75, 0.5, 0.25],
        ..AdafacMlpConfig::default()
    };
    let learned = LearnedOptimizerConfig::AdafacMlp(config).build().unwrap();
    let optimizer = learned.bind(Theta::zeros(learned.layout(), 1)).unwrap();
    let grads = random(2);
    let state = optimizer.update(optimizer.init(random(1), &[9]).unwrap(), &grads, &[1.0]).unwrap();
    for (i, &g) in grads.tensor(0).iter().enumerate() {
        for (a, (momentum, second)) in [(0.75, 0.25), (0.5, 0.5), (0.25, 0.75)].into_iter().enumerate() {
            let [m, v] = ["m/v", "v_diag/v"].map(|name| slot(&state, name)[a * SIZE + i]);
            assert!((m - momentum * g).abs() <= 1e-6 * g.abs(), "{m} of {g}");
            assert!((v - second * g * g).abs() <= 1e-6 * g * g, "{v} of {g}");
        }
        let rms = slot(&state, "rms/v")[i];
        assert!((rms - 0.5 * g * g).abs() <= 1e-6 * g * g, "{rms} of {g}");
    }
}
