//! Tables of amoudgl/celo @ 66d9761, module and class as named: the signature of `__init__`.

use super::super::flax::Form;
use super::{Class, Constructor, Parameter, Role, rule, setting, unused};

pub(super) const CELO: Class = Class {
    tags: &[("kind", "celo")],
    haiku: &["rnn_params", "ff_mod_stack"],
    form: Form::Theta,
    constructor: Some(Constructor {
        name: "Celo",
        module: "celo.optimizers.celo",
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
            setting("train_phase", "1"),
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
            setting("precondition_output", "False"),
            unused("reparam_decay", "10.0"),
            setting("rnn_state_decay", "0.0"),
            unused("summarize_each_layer", "False"),
            unused("summarize_all_control", "False"),
            setting("constant_loss", "False"),
            setting("clip_param_scale_amount", "None"),
        ],
        joint: None,
    }),
};

/// The class of one form of Celo2: both constructors begin with the parameters of its rule, in this order, and go on with
/// their own.
macro_rules! celo2 {
    ($form:literal, $constructor:literal, [$($own:expr),+ $(,)?]) => {
        Class {
            tags: &[("kind", "celo2"), ("form", $form)],
            haiku: &["ff_mod_stack"],
            form: Form::Theta,
            constructor: Some(Constructor {
                name: $constructor,
                module: "celo.optimizers.celo2",
                parameters: &[
                    rule("ff_hidden_size", "8"),
                    rule("ff_hidden_layers", "2"),
                    rule("initial_momentum_decays", "(0.9, 0.99, 0.999)"),
                    rule("initial_rms_decays", "(0.95,)"),
                    rule("initial_adafactor_decays", "(0.9, 0.99, 0.999)"),
                    rule("exp_mult", "0.0"),
                    rule("rmsmult", "1.0"),
                    rule("with_g", "True"),
                    rule("with_grad_clip_feat", "True"),
                    rule("with_p", "True"),
                    rule("with_m", "True"),
                    rule("with_rms", "True"),
                    rule("with_rms_norm_g", "True"),
                    rule("with_rsqrt_rms", "True"),
                    rule("with_rms_only_norm_g", "True"),
                    rule("with_fac_norm_g", "True"),
                    rule("with_fac_rms", "True"),
                    rule("with_fac_rsqrt", "True"),
                    rule("with_fac_mom_mult", "True"),
                    rule("param_scale_mult", "False"),
                    rule("precondition_output", "False"),
                    rule("normalize_input", "True"),
                    rule("normalize_output", "True"),
                    rule("aggregate_mag", "False"),
                    rule("bias_correction", "False"),
                    rule("ns_coeffs", "(3.4445, -4.7750, 2.0315)"),
                    rule("ns_iters", "5"),
                    rule("ns_eps", "1e-8"),
                    Parameter { name: "mlp_activation", default: "'relu'", role: Role::Rule },
                    $($own),+
                ],
                joint: None,
            }),
        }
    };
}

pub(super) const CELO2_BASE: Class = celo2!(
    "base",
    "Celo2Base",
    [setting("step_mult", "0.001"), setting("weight_decay", "0.0"), setting("orthogonalize", "False"),]
);

pub(super) const CELO2_META: Class = celo2!(
    "meta",
    "Celo2",
    [
        setting("regex_1d", "'.*bias.*|.*embed.*'"),
        setting("step_mult", "0.001"),
        setting("weight_decay", "0.0"),
        setting("adam_b1", "0.9"),
        setting("adam_b2", "0.999"),
        setting("adam_epsilon", "1e-8"),
        setting("adam_bias_correction", "False"),
        setting("orthogonalize", "True"),
        setting("mult_1d", "20.0"),
    ]
);

/// `scale_by_celo2` in a chain of optax that its user writes: there is no class whose settings gin could bind.
pub(super) const CELO2_SHIPPED: Class = Class {
    tags: &[("kind", "celo2"), ("form", "shipped")],
    haiku: &["ff_mod_stack"],
    form: Form::Theta,
    constructor: None,
};
