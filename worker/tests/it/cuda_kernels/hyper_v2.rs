//! HyperV2's kernels: every size and setting they know, against the CPU's optimizer.

use paceline_optimizer_core::learned::{HyperV2Config, LearnedOptimizerConfig};

use super::update::{LANES, STEPS, follows_the_cpu};

fn follows(test: &str, config: HyperV2Config, lanes: usize, steps: usize) {
    follows_the_cpu(test, LearnedOptimizerConfig::HyperV2(config), lanes, steps);
}

/// Of these sizes, with steps a hundred times the usual ones: what is wrong in them shows. The factor of the bank is such
/// that networks have weights of the usual size.
fn striding(lstm_hidden_size: usize, param_inits: usize) -> HyperV2Config {
    let ff_mult = 5.0 * (param_inits as f32).sqrt();
    HyperV2Config { lstm_hidden_size, param_inits, ff_mult, step_mult: 0.1, exp_mult: 0.01, ..HyperV2Config::velo() }
}

#[test]
fn hyper_v2_follows_the_cpu() {
    follows("cuda_hyper_v2", HyperV2Config::default(), LANES, STEPS);
}

#[test]
fn velo_follows_the_cpu() {
    follows("cuda_velo", HyperV2Config::velo(), 1, 3);
}

#[test]
fn hyper_v2_of_other_sizes_follows_the_cpu() {
    for (units, banks) in [(1, 1), (7, 3), (40, 300), (300, 2)] {
        follows("cuda_hyper_v2_sizes", striding(units, banks), 2, STEPS);
    }
}

#[test]
fn every_setting_of_hyper_v2_is_the_cpus() {
    let small = striding(12, 5);
    for config in [
        HyperV2Config { mix_layers: false, ..small.clone() },
        HyperV2Config { with_validation_feature_dim: true, validation_mode: true, ..small.clone() },
        HyperV2Config { clip_param_scale_amount: Some(0.003), ..small.clone() },
        HyperV2Config { param_scale_mult: false, rnn_state_decay: 0.25, ff_mult: 3.0, ..small.clone() },
        HyperV2Config { precondition_output: true, step_mult: 1e-4, ..small.clone() },
        HyperV2Config { use_bugged_next_lstm_state: true, rnn_state_decay: 0.5, ..small.clone() },
        HyperV2Config { constant_loss: true, ..small.clone() },
        HyperV2Config { initial_momentum_decays: [0.5, 0.8, 0.95], initial_rms_decays: [0.9], ..small },
    ] {
        follows("cuda_hyper_v2_settings", config, 2, 4);
    }
}
