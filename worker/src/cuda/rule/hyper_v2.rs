//! HyperV2 for the kernels: its settings, and where its layers and its bank stand within theta.
//!
//! ```text
//!  place   H, K, F, mixed │ (w, b) of linear_1, linear_2, rnn/linear, rnn_to_controls, step_size │ (first, stride) ×159
//!          `Hypernetwork` of hypernetwork.cuh                                                      `Banked`, a weight each
//!          │ long axes of each tensor of a lane, once its layout is known
//! ```

use paceline_optimizer_core::Layout;
use paceline_optimizer_core::learned::HyperV2Config;

use super::{DeviceRule, Kept, refuse};
use crate::cuda::NotOnDevice;
use crate::cuda::layout::THREADS;

/// Floats of the loss buffer: `LOSS_SLOTS` of `kernels/loss_buffer.cuh`.
const LOSS_SLOTS: usize = 32;

/// Floats that a tensor is told: its network, its rate and its scale.
const ADVICE: usize = 161;

/// Floats of totals and of the course of training.
const SHARED: usize = 48;

/// Sums a tensor's statistics take, of each thread.
const SUMS: usize = 8;

/// Features of a tensor, without the flag of validation.
const FEATURES: usize = 30;

/// The sizes that decide how much a lane keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HyperSizes {
    /// Units of the LSTM, H.
    hidden: usize,
    /// Networks of the bank, K.
    banks: usize,
    /// Features of a tensor, F.
    features: usize,
    /// Whether tensors are mixed before the LSTM.
    mixes: bool,
}

impl HyperSizes {
    /// For a lane of this many tensors.
    pub(super) fn kept(self, tensors: usize) -> Kept {
        let Self { hidden, banks, features, mixes } = self;
        // Mixed features if there are any, the next hidden state, the controls; the sums of statistics are taken before.
        let rows = tensors * (usize::from(mixes) * hidden + hidden + banks);
        Kept {
            slots: LOSS_SLOTS + 2 * tensors * hidden,
            advice: ADVICE * tensors,
            scratch: SHARED + tensors * features + rows.max(SUMS * THREADS as usize),
        }
    }
}

/// The rule of these settings for theta of this layout.
///
/// # Errors
/// [`NotOnDevice::Optimizer`] for per-parameter networks the kernel does not know.
pub(super) fn rule(config: &HyperV2Config, layout: &Layout) -> Result<DeviceRule, NotOnDevice> {
    if (config.ff_hidden_size, config.ff_hidden_layers) != (4, 2) {
        return refuse("the kernel of hyper_v2 has per-parameter networks of two hidden layers of 4 units");
    }
    if !all_inputs(config) {
        return refuse("the kernel of hyper_v2 has all inputs of the per-parameter networks");
    }
    let sizes = HyperSizes {
        hidden: config.lstm_hidden_size,
        banks: config.param_inits,
        features: FEATURES + usize::from(config.with_validation_feature_dim),
        mixes: config.mix_layers,
    };
    let rule = DeviceRule::sized("hyper_v2", [30, 4, 3, 18], settings(config));
    Ok(DeviceRule { place: places(sizes, layout), hyper: Some(sizes), ..rule })
}

/// Whether no input is ablated.
fn all_inputs(config: &HyperV2Config) -> bool {
    let flags = [
        config.with_g,
        config.with_grad_clip_feat,
        config.with_p,
        config.with_m,
        config.with_m_feat,
        config.with_rms,
        config.with_rms_feat,
        config.with_rms_norm_g,
        config.with_rsqrt_rms,
        config.with_rms_only_norm_g,
        config.with_fac_norm_g,
        config.with_fac_rms,
        config.with_fac_rsqrt,
        config.with_fac_mom_mult,
        config.adafactor_accumulator,
    ];
    flags.into_iter().all(|flag| flag)
}

/// `Settings` of `kernels/hyper_v2.cuh`.
fn settings(config: &HyperV2Config) -> Vec<f32> {
    let flag = |flag: bool| if flag { 1.0 } else { 0.0 };
    let momenta = config.initial_momentum_decays.into_iter();
    let decays = momenta.chain(config.initial_rms_decays).chain(config.initial_adafactor_decays);
    let rest = [
        config.exp_mult,
        config.step_mult,
        config.ff_mult / config.param_inits as f32,
        1.0 - config.rnn_state_decay,
        flag(config.validation_mode),
        // Positive where it is set.
        config.clip_param_scale_amount.unwrap_or(0.0),
        flag(config.param_scale_mult),
        flag(config.precondition_output),
        flag(config.use_bugged_next_lstm_state),
        flag(config.constant_loss),
    ];
    decays.chain(rest).collect()
}

/// Where the layers and the bank stand.
fn places(sizes: HyperSizes, layout: &Layout) -> Vec<u32> {
    let index = |name: &str| layout.index_of(name).expect("the layout was made from these settings");
    let first = |name: &str| layout.offset(index(name)) as u32;
    let HyperSizes { hidden, banks, features, mixes } = sizes;
    let mut places = vec![hidden as u32, banks as u32, features as u32, u32::from(mixes)];
    for layer in ["linear_1", "linear_2", "rnn/linear", "rnn_to_controls", "step_size"] {
        let there = mixes || !layer.starts_with("linear");
        let place = |part: &str| if there { first(&format!("rnn_params/{layer}/{part}")) } else { 0 };
        places.extend([place("w"), place("b")]);
    }
    let inputs = (0..14).map(|group| format!("w0__{group}"));
    for name in inputs.chain(["b0", "w1", "b1", "w2", "b2"].map(str::to_owned)) {
        let name = format!("ff_mod_stack/~/{name}");
        let stride = (layout.tensors()[index(&name)].size() / banks) as u32;
        places.extend((0..stride).flat_map(|weight| [first(&name) + weight, stride]));
    }
    places
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::TensorSpec;
    use paceline_optimizer_core::learned::{HyperV2, LearnedOptimizer};

    use super::*;

    fn of(config: HyperV2Config) -> Result<DeviceRule, NotOnDevice> {
        let optimizer = HyperV2::new(config.clone()).unwrap();
        rule(&config, optimizer.layout())
    }

    /// The places of a layer's weights and bias.
    fn layer(places: &[u32], number: usize, [inputs, outputs]: [usize; 2]) -> impl Iterator<Item = u32> {
        let [w, b] = [places[4 + 2 * number], places[5 + 2 * number]];
        (w..w + (inputs * outputs) as u32).chain(b..b + outputs as u32)
    }

    #[test]
    fn every_number_of_theta_is_read_once_but_the_dead_layer_and_the_initial_state() {
        for (hidden, banks, mix_layers, flag) in [(128, 64, true, false), (512, 256, true, true), (5, 3, false, false)]
        {
            let config = HyperV2Config {
                lstm_hidden_size: hidden,
                param_inits: banks,
                mix_layers,
                with_validation_feature_dim: flag,
                ..HyperV2Config::default()
            };
            let rule = of(config.clone()).unwrap();
            let (places, features) = (&rule.place[..], FEATURES + usize::from(flag));
            let inputs = if mix_layers { hidden } else { features };
            let mut read: Vec<u32> = Vec::new();
            if mix_layers {
                read.extend(layer(places, 0, [features, hidden]).chain(layer(places, 1, [features, hidden])));
            }
            read.extend(layer(places, 2, [inputs + hidden, 4 * hidden]));
            read.extend(layer(places, 3, [hidden, banks]).chain(layer(places, 4, [hidden, 1])));
            for banked in places[14..][..2 * 159].as_chunks::<2>().0 {
                read.extend((0..banks as u32).map(|bank| banked[0] + bank * banked[1]));
            }
            read.sort_unstable();
            let optimizer = HyperV2::new(config).unwrap();
            let layout = optimizer.layout();
            let unread =
                ["lstm_init_state/hidden", "lstm_init_state/cell", "rnn_params/linear/w", "rnn_params/linear/b"];
            let expected: Vec<u32> = (0..layout.len())
                .filter(|&index| !unread.contains(&layout.tensors()[index].name()))
                .flat_map(|index| {
                    let first = layout.offset(index) as u32;
                    first..first + layout.tensors()[index].size() as u32
                })
                .collect();
            assert_eq!(read, expected, "{hidden}/{banks}");
        }
    }

    #[test]
    fn a_lane_keeps_its_lstm_and_what_its_tensors_are_told() {
        let config = HyperV2Config { lstm_hidden_size: 512, param_inits: 256, ..HyperV2Config::default() };
        let kept = of(config).unwrap().kept(4);
        assert_eq!(
            kept,
            Kept { slots: 32 + 2 * 4 * 512, advice: 4 * 161, scratch: 48 + 4 * 30 + 4 * (512 + 512 + 256) }
        );
        let small = HyperV2Config { lstm_hidden_size: 8, mix_layers: false, ..HyperV2Config::default() };
        assert_eq!(of(small).unwrap().kept(4).scratch, 48 + 4 * 30 + 8 * 256);
    }

    #[test]
    fn a_tensor_is_known_by_its_axes_longer_than_one() {
        let shapes: [&[usize]; 6] = [&[], &[1], &[3], &[1, 3], &[4, 2], &[3, 3, 1, 16]];
        let tensors = shapes.iter().enumerate().map(|(index, shape)| TensorSpec::new(format!("t{index}"), *shape));
        let rule = of(HyperV2Config::default()).unwrap();
        let theta = rule.place.len();
        assert_eq!(rule.for_lanes(&Layout::new(tensors.collect()).unwrap()).place[theta..], [0, 0, 1, 1, 2, 3]);
    }

    #[test]
    fn other_networks_are_refused() {
        for (config, why) in [
            (HyperV2Config { ff_hidden_size: 8, ..HyperV2Config::default() }, "4 units"),
            (HyperV2Config { ff_hidden_layers: 1, ..HyperV2Config::default() }, "two hidden layers"),
            (HyperV2Config { with_p: false, ..HyperV2Config::default() }, "all inputs"),
            (HyperV2Config { adafactor_accumulator: false, ..HyperV2Config::default() }, "all inputs"),
        ] {
            let refused = of(config).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
