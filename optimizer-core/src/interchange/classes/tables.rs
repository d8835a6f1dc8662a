//! The tables. Sources: google/learned_optimization @ 32186aa4, file and class as named; the signature of `__init__`.

use super::super::flax::Form;
use super::{Class, fixed, setting, unused};

/// All classes that can be imported and exported.
pub(super) const ALL: [Class; 3] = [LEARNABLE_ADAM, ADAFAC_MLP, HYPER_V2];

const LEARNABLE_ADAM: Class = Class {
    gin: "LearnableAdam",
    module: "learned_optimization.learned_optimizers.base",
    kind: "learnable_adam",
    haiku: &[],
    form: Form::Checkpoint,
    parameters: &[
        unused("initial_lr", "0.001"),
        unused("initial_beta1", "0.9"),
        unused("initial_beta2", "0.999"),
        unused("initial_epsilon", "1e-8"),
        unused("use_summary", "True"),
    ],
};

const ADAFAC_MLP: Class = Class {
    gin: "AdafacMLPLOpt",
    module: "learned_optimization.learned_optimizers.adafac_mlp_lopt",
    kind: "adafac_mlp",
    haiku: &["nn"],
    form: Form::Checkpoint,
    parameters: &[
        setting("exp_mult", "0.001"),
        setting("step_mult", "0.001"),
        setting("hidden_size", "4"),
        setting("hidden_layers", "2"),
        fixed("initial_momentum_decays", "(0.9, 0.99, 0.999)"),
        fixed("initial_rms_decays", "(0.999,)"),
        fixed("initial_adafactor_decays", "(0.9, 0.99, 0.999)"),
        fixed("concat_weights", "True"),
        fixed("make_separate_weights", "False"),
        unused("split_weights", "False"),
    ],
};

/// `learned_optimization/research/general_lopt/hyper_v2.py`.
const HYPER_V2: Class = Class {
    gin: "HyperV2",
    module: "learned_optimization.research.general_lopt.hyper_v2",
    kind: "hyper_v2",
    haiku: &["rnn_params", "ff_mod_stack"],
    form: Form::Checkpoint,
    parameters: &[
        setting("lstm_hidden_size", "128"),
        setting("ff_hidden_size", "4"),
        setting("ff_hidden_layers", "2"),
        fixed("initial_momentum_decays", "(0.9, 0.99, 0.999)"),
        fixed("initial_rms_decays", "(0.999,)"),
        fixed("initial_adafactor_decays", "(0.9, 0.99, 0.999)"),
        setting("param_inits", "64"),
        setting("mix_layers", "True"),
        setting("exp_mult", "0.001"),
        setting("step_mult", "0.001"),
        setting("validation_mode", "False"),
        setting("with_validation_feature_dim", "False"),
        fixed("with_g", "True"),
        fixed("with_m", "True"),
        fixed("with_m_feat", "True"),
        fixed("with_rms", "True"),
        fixed("with_rms_feat", "True"),
        fixed("with_rms_norm_g", "True"),
        fixed("with_rsqrt_rms", "True"),
        fixed("with_p", "True"),
        fixed("with_fac_norm_g", "True"),
        fixed("with_fac_rms", "True"),
        fixed("with_fac_rsqrt", "True"),
        fixed("with_grad_clip_feat", "True"),
        fixed("with_fac_mom_mult", "True"),
        fixed("with_rms_only_norm_g", "True"),
        fixed("adafactor_accumulator", "True"),
        setting("param_scale_mult", "True"),
        setting("use_bugged_next_lstm_state", "False"),
        setting("use_bugged_loss_features", "True"),
        setting("precondition_output", "False"),
        // Only read where learned offsets of the decays are given, and none are.
        unused("reparam_decay", "10."),
        setting("rnn_state_decay", "0.0"),
        unused("summarize_each_layer", "False"),
        unused("summarize_all_control", "False"),
        setting("constant_loss", "False"),
        setting("clip_param_scale_amount", "None"),
    ],
};
