//! Tables of google/learned_optimization @ 32186aa4, module and class as named: the signature of `__init__`.

use super::super::flax::Form;
use super::celo_tables::{CELO, CELO2_BASE, CELO2_META, CELO2_SHIPPED};
use super::{Class, Constructor, Fork, Joint, Parameter, Role, flag, setting, unused, word};

/// All classes that can be imported and exported.
pub(super) const ALL: [Class; 13] = [
    LEARNABLE_SGD,
    LEARNABLE_SGDM,
    LEARNABLE_ADAM,
    NN_ADAM,
    MLP,
    RNN_MLP,
    ADAFAC_MLP,
    MLP_NOMINAL,
    HYPER_V2,
    CELO,
    CELO2_BASE,
    CELO2_META,
    CELO2_SHIPPED,
];

const LEARNABLE_SGD: Class = Class {
    tags: &[("kind", "learnable_sgd")],
    haiku: &[],
    form: Form::Checkpoint,
    constructor: Some(Constructor {
        name: "LearnableSGD",
        module: "learned_optimization.learned_optimizers.base",
        parameters: &[unused("initial_lr", "0.01")],
        joint: None,
    }),
};

const LEARNABLE_SGDM: Class = Class {
    tags: &[("kind", "learnable_sgdm")],
    haiku: &[],
    form: Form::Checkpoint,
    constructor: Some(Constructor {
        name: "LearnableSGDM",
        module: "learned_optimization.learned_optimizers.base",
        parameters: &[unused("initial_lr", "0.01"), unused("initial_momentum", "0.9")],
        joint: None,
    }),
};

const LEARNABLE_ADAM: Class = Class {
    tags: &[("kind", "learnable_adam")],
    haiku: &[],
    form: Form::Checkpoint,
    constructor: Some(Constructor {
        name: "LearnableAdam",
        module: "learned_optimization.learned_optimizers.base",
        parameters: &[
            unused("initial_lr", "0.001"),
            unused("initial_beta1", "0.9"),
            unused("initial_beta2", "0.999"),
            unused("initial_epsilon", "1e-8"),
            unused("use_summary", "True"),
        ],
        joint: None,
    }),
};

const NN_ADAM: Class = Class {
    tags: &[("kind", "nn_adam")],
    haiku: &["rnn_params", "rnn_to_controls_params"],
    form: Form::Checkpoint,
    constructor: Some(Constructor {
        name: "NNAdam",
        module: "learned_optimization.learned_optimizers.nn_adam",
        parameters: &[
            setting("output_scale", "0.01"),
            setting("initial_learning_rate", "1e-4"),
            setting("initial_beta1", "0.9"),
            setting("initial_beta2", "0.999"),
            setting("initial_epsilon", "1e-8"),
            setting("decay_strength", "0.0"),
            setting("lstm_hidden_size", "32"),
        ],
        joint: None,
    }),
};

const MLP: Class = Class {
    tags: &[("kind", "mlp")],
    haiku: &[""],
    form: Form::Checkpoint,
    constructor: Some(Constructor {
        name: "MLPLOpt",
        module: "learned_optimization.learned_optimizers.mlp_lopt",
        parameters: &[
            setting("exp_mult", "0.001"),
            setting("step_mult", "0.001"),
            setting("hidden_size", "32"),
            setting("hidden_layers", "2"),
            unused("compute_summary", "True"),
        ],
        joint: None,
    }),
};

const RNN_MLP: Class = Class {
    tags: &[("kind", "rnn_mlp")],
    haiku: &["rnn_params", "rnn_to_ff_params", "rnn_to_in_params", "ffmod_params"],
    form: Form::Checkpoint,
    constructor: Some(Constructor {
        name: "RNNMLPLOpt",
        module: "learned_optimization.learned_optimizers.rnn_mlp_lopt",
        parameters: &[
            setting("step_multiplier", "0.001"),
            setting("magnitude_rate", "0.001"),
            setting("hidden_size", "32"),
            setting("hidden_layer", "2"),
            setting("from_mlp_size", "16"),
            setting("from_lstm_size", "18"),
            setting("lstm_to_ff", "17"),
            setting("lstm_hidden_size", "64"),
            setting("decays", "(0.5, 0.9, 0.99, 0.999, 0.9999)"),
        ],
        joint: None,
    }),
};

/// One matrix a layer, or a scalar a weight.
const WEIGHTS: Joint = Joint {
    setting: "weights",
    word: |flags| {
        if !flags["concat_weights"] && flags["make_separate_weights"] { "scalars" } else { "matrices" }
    },
    flags: |word| match word {
        "scalars" => &[("concat_weights", false), ("make_separate_weights", true)],
        _ => &[("concat_weights", true), ("make_separate_weights", false)],
    },
};

const ADAFAC_MLP: Class = Class {
    tags: &[("kind", "adafac_mlp")],
    haiku: &["nn"],
    form: Form::Checkpoint,
    constructor: Some(Constructor {
        name: "AdafacMLPLOpt",
        module: "learned_optimization.learned_optimizers.adafac_mlp_lopt",
        parameters: &[
            setting("exp_mult", "0.001"),
            setting("step_mult", "0.001"),
            setting("hidden_size", "4"),
            setting("hidden_layers", "2"),
            setting("initial_momentum_decays", "(0.9, 0.99, 0.999)"),
            setting("initial_rms_decays", "(0.999,)"),
            setting("initial_adafactor_decays", "(0.9, 0.99, 0.999)"),
            flag("concat_weights", "True"),
            flag("make_separate_weights", "False"),
            // Reached only where `make_separate_weights` was tested and true.
            unused("split_weights", "False"),
        ],
        joint: Some(WEIGHTS),
    }),
};

const MLP_NOMINAL: Class = Class {
    tags: &[("kind", "mlp_nominal")],
    haiku: &["nn"],
    form: Form::Checkpoint,
    constructor: Some(Constructor {
        name: "MLPNomLOpt",
        module: "learned_optimization.learned_optimizers.adafac_nominal",
        parameters: &[
            setting("exp_mult", "(0.001, 0.001, 0.001)"),
            setting("step_mult", "0.001"),
            setting("hidden_size", "4"),
            setting("hidden_layers", "2"),
            setting("initial_momentum_decays", "(0.9, 0.99, 0.999)"),
            setting("initial_rms_decays", "(0.999,)"),
            setting("initial_adafactor_decays", "(0.9, 0.99, 0.999)"),
            setting("nominal_stepsize", "0."),
            setting("weight_decay", "0."),
            flag("concat_weights", "True"),
            flag("make_separate_weights", "False"),
            unused("split_weights", "False"),
            setting("nominal_controller", "False"),
            setting("regularization_controller", "False"),
            word(
                "nominal_grad_estimator",
                "'AdamAggMo'",
                &[
                    ("SGD", "sgd"),
                    ("SGDM", "sgdm"),
                    ("AggMo", "agg_mo"),
                    ("Adam", "adam"),
                    ("AdamAggMo", "adam_agg_mo"),
                ],
            ),
            setting("aggregate_magnitude", "False"),
            setting("aggregate_nom_magnitude", "False"),
            setting("aggregate_reg_magnitude", "False"),
            setting("normalize_blackbox", "False"),
            setting("selfnormalize_blackbox", "False"),
        ],
        joint: Some(WEIGHTS),
    }),
};

const HYPER_V2: Class = Class {
    tags: &[("kind", "hyper_v2")],
    haiku: &["rnn_params", "ff_mod_stack"],
    form: Form::Checkpoint,
    constructor: Some(Constructor {
        name: "HyperV2",
        module: "learned_optimization.research.general_lopt.hyper_v2",
        parameters: &[
            setting("lstm_hidden_size", "128"),
            setting("ff_hidden_size", "4"),
            setting("ff_hidden_layers", "2"),
            setting("initial_momentum_decays", "(0.9, 0.99, 0.999)"),
            setting("initial_rms_decays", "(0.999,)"),
            setting("initial_adafactor_decays", "(0.9, 0.99, 0.999)"),
            setting("param_inits", "64"),
            setting("mix_layers", "True"),
            setting("exp_mult", "0.001"),
            setting("step_mult", "0.001"),
            setting("validation_mode", "False"),
            setting("with_validation_feature_dim", "False"),
            setting("with_g", "True"),
            setting("with_m", "True"),
            setting("with_m_feat", "True"),
            setting("with_rms", "True"),
            setting("with_rms_feat", "True"),
            setting("with_rms_norm_g", "True"),
            setting("with_rsqrt_rms", "True"),
            setting("with_p", "True"),
            setting("with_fac_norm_g", "True"),
            setting("with_fac_rms", "True"),
            setting("with_fac_rsqrt", "True"),
            setting("with_grad_clip_feat", "True"),
            setting("with_fac_mom_mult", "True"),
            setting("with_rms_only_norm_g", "True"),
            setting("adafactor_accumulator", "True"),
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
            Parameter {
                name: "ff_mult",
                default: "100.0",
                role: Role::Fork(Fork { module: "celo.optimizers.velo", default: "1.0" }),
            },
        ],
        joint: None,
    }),
};
