//! Networks that lack inputs.

use paceline_optimizer_core::learned::{
    Celo2Rule, CeloConfig, HyperV2Config, LearnedOptimizer, LearnedOptimizerConfig,
};
use paceline_optimizer_core::{Error, Seed, Theta};

use super::{Config, SHAPES, build, layout, random, run, theta};

/// Settings that lack one group of inputs, with the groups that the full network has in its place.
type Ablation<C> = (fn(&mut C), &'static [usize]);

/// HyperV2 and Celo call their flags the same, in settings of two types.
macro_rules! hypernetwork_ablations {
    () => {
        [
            (|config| config.with_g = false, &[0]),
            (|config| config.with_grad_clip_feat = false, &[1]),
            (|config| config.with_p = false, &[2]),
            (|config| config.with_m = false, &[3]),
            (|config| config.with_m_feat = false, &[3]),
            (|config| config.with_rms = false, &[4]),
            (|config| config.with_rms_feat = false, &[4]),
            (|config| config.with_rms_norm_g = false, &[5]),
            (|config| config.with_rsqrt_rms = false, &[6]),
            (|config| config.with_fac_norm_g = false, &[7]),
            (|config| config.with_rms_only_norm_g = false, &[8]),
            (|config| config.with_fac_rms = false, &[9, 10]),
            (|config| config.with_fac_rsqrt = false, &[11, 12]),
            (|config| config.with_fac_mom_mult = false, &[13]),
            (|config| config.adafactor_accumulator = false, &[9, 10, 11, 12, 13]),
        ]
    };
}

const HYPER_V2_ABLATIONS: [Ablation<HyperV2Config>; 15] = hypernetwork_ablations!();

const CELO_ABLATIONS: [Ablation<CeloConfig>; 15] = hypernetwork_ablations!();

const CELO2_ABLATIONS: [Ablation<Celo2Rule>; 12] = [
    (|rule| rule.with_g = false, &[0]),
    (|rule| rule.with_grad_clip_feat = false, &[1]),
    (|rule| rule.with_p = false, &[2]),
    (|rule| rule.with_m = false, &[3]),
    (|rule| rule.with_rms = false, &[4]),
    (|rule| rule.with_rms_norm_g = false, &[5]),
    (|rule| rule.with_rsqrt_rms = false, &[6]),
    (|rule| rule.with_fac_norm_g = false, &[7]),
    (|rule| rule.with_rms_only_norm_g = false, &[8]),
    (|rule| rule.with_fac_rms = false, &[9, 10]),
    (|rule| rule.with_fac_rsqrt = false, &[11, 12]),
    (|rule| rule.with_fac_mom_mult = false, &[13]),
];

/// Checks that a network without some groups of inputs moves parameters as the full one does whose weights of these
/// groups are 0, to the bit, and that these groups matter.
fn assert_ablations<C: Clone + Into<Config>>(full: &C, ablations: &[Ablation<C>]) {
    let layout = layout(&SHAPES);
    let bits = |optimizer: &dyn LearnedOptimizer, theta: Theta| {
        let states = run(optimizer.bind(theta).unwrap().as_ref(), random(&layout, 1, 0.1), 9, 4);
        let params = &states[4].params;
        (0..layout.len()).flat_map(|index| params.tensor(index)).map(|p| p.to_bits()).collect::<Vec<_>>()
    };
    let optimizer = build(full.clone());
    let complete = theta(optimizer.as_ref());
    let unchanged = bits(optimizer.as_ref(), complete.clone());
    for (drop, dropped) in ablations {
        let mut config = full.clone();
        drop(&mut config);
        let ablated = build(config);
        let mut smaller = Theta::zeros(ablated.layout(), 1);
        let mut silenced = complete.clone();
        let mut next = 0;
        for group in 0..14 {
            let index = optimizer.layout().index_of(&format!("ff_mod_stack/~/w0__{group}")).unwrap();
            if dropped.contains(&group) {
                silenced.tensor_mut(0, index).fill(0.0);
                continue;
            }
            let place = ablated.layout().index_of(&format!("ff_mod_stack/~/w0__{next}")).unwrap();
            smaller.tensor_mut(0, place).copy_from_slice(complete.tensor(0, index));
            next += 1;
        }
        assert_eq!(ablated.layout().len() + dropped.len(), optimizer.layout().len());
        for (index, tensor) in ablated.layout().tensors().iter().enumerate() {
            if !tensor.name().contains("/w0__") {
                let other = optimizer.layout().index_of(tensor.name()).unwrap();
                smaller.tensor_mut(0, index).copy_from_slice(complete.tensor(0, other));
            }
        }
        let without = bits(ablated.as_ref(), smaller);
        assert_eq!(without, bits(optimizer.as_ref(), silenced), "groups {dropped:?}");
        assert_ne!(without, unchanged, "groups {dropped:?} have no effect");
    }
}

#[test]
fn a_group_that_is_left_out_is_a_group_whose_weights_are_zero() {
    let small = HyperV2Config { lstm_hidden_size: 9, param_inits: 5, ..HyperV2Config::default() };
    assert_ablations(&small, &HYPER_V2_ABLATIONS);
    let small = CeloConfig { lstm_hidden_size: 9, param_inits: 2, ..CeloConfig::default() };
    assert_ablations(&small, &CELO_ABLATIONS);
    assert_ablations(&Celo2Rule::default(), &CELO2_ABLATIONS);
}

#[test]
fn a_network_without_inputs_is_refused_and_fan_in_counts_what_is_left() {
    let mut config = HyperV2Config::default();
    HYPER_V2_ABLATIONS.iter().for_each(|(drop, _)| drop(&mut config));
    let error = LearnedOptimizerConfig::HyperV2(config.clone()).build().unwrap_err();
    assert!(matches!(error, Error::Setting { .. }), "{error}");
    config.with_p = true;
    let optimizer = build(config);
    let index = optimizer.layout().index_of("ff_mod_stack/~/w0__0").unwrap();
    assert_eq!(optimizer.layout().tensors()[index].shape(), [64, 1, 4]);
    // With one input left the weights are cut at ±2, not at ±2/√30.
    let largest = optimizer.init_theta(Seed::new(1)).tensor(0, index).iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    assert!((1.0..=2.0).contains(&largest), "{largest}");
}
