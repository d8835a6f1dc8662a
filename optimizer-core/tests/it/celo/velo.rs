//! VeLO for a run of a known length.

use paceline_optimizer_core::learned::{HyperV2, HyperV2Config};
use paceline_optimizer_core::optimizer::OptState;
use paceline_optimizer_core::{Error, Params};

use super::{build, layout, random, run, theta};

#[test]
fn velo_is_hyper_v2_with_the_published_settings_and_wrappers() {
    let layout = layout(&[("b", &[4]), ("w", &[6, 4])]);
    let hyper = build(HyperV2Config::velo());
    assert_eq!(hyper.layout().size(), 2_320_385);
    let theta = theta(hyper.as_ref());
    let params = |state: &[OptState]| state.iter().map(|state| state.params.clone()).collect::<Vec<_>>();
    let start = random(&layout, 1, 0.5);
    let bare = run(hyper.bind(theta.clone()).unwrap().as_ref(), start.clone(), 40, 5);
    let velo = HyperV2::velo(40).theta(theta.clone()).unwrap();
    assert_eq!(params(&run(velo.as_ref(), start.clone(), 40, 5)), params(&bare));
    for horizon in [39, 41] {
        let error = velo.init(start.clone(), &[horizon]).unwrap_err();
        assert!(matches!(&error, Error::Setting { field, .. } if field == "horizon"), "{error}");
    }

    // 40 steps of at most 15: three calls an update, which the inner optimizer takes for 13 steps.
    let accumulated = HyperV2::velo(40).max_training_steps(15).theta(theta.clone()).unwrap();
    let states = run(accumulated.as_ref(), start.clone(), 40, 6);
    assert_eq!((states[6].horizon[0], states[6].step[0]), (13, 2));
    assert_eq!(states[2].params, states[0].params);
    assert_ne!(states[3].params, states[2].params);
    let long = HyperV2::velo(150_001).theta(theta.clone()).unwrap();
    assert_eq!(long.init(start.clone(), &[150_001]).unwrap().horizon, [75_000]);

    // The penalty stands outside: each call's gradient gains w p.
    let decayed = HyperV2::velo(40).weight_decay(0.25).theta(theta.clone()).unwrap();
    let state = decayed.init(start.clone(), &[40]).unwrap();
    let penalty = (0..2).flat_map(|i| start.tensor(i)).map(|&p| 0.25 * f64::from(p) * f64::from(p)).sum::<f64>() as f32;
    let after = decayed.update(state, &Params::zeros(&layout, 1), &[1.0]).unwrap();
    let mut pulled = start.clone();
    (0..2).for_each(|index| pulled.tensor_mut(index).iter_mut().for_each(|p| *p *= 0.25));
    let bound = hyper.bind(theta.clone()).unwrap();
    let expected = bound.update(bound.init(start, &[40]).unwrap(), &pulled, &[1.0 + penalty]).unwrap();
    assert_eq!(after.params, expected.params);

    for refused in [HyperV2::velo(0), HyperV2::velo(1).max_training_steps(0), HyperV2::velo(1).weight_decay(-1.0)] {
        assert!(matches!(refused.theta(theta.clone()), Err(Error::Setting { .. })));
    }
}
