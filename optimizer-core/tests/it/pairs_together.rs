//! Pairs of a slot run together: the bits of each pair alone, whatever the others do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, LossFrom, MetaLoss};
use paceline_optimizer_core::learned::{
    Celo, CeloConfig, HyperV2, HyperV2Config, LearnedOptimizer, LearnedOptimizerConfig,
};
use paceline_optimizer_core::optimizer::Optimizer;
use paceline_optimizer_core::params::Layout;
use paceline_optimizer_core::perturbation::{Noise, Perturbation};
use paceline_optimizer_core::schedule::{HorizonSchedule, SlotSequence};
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{
    Pairs, Particle, UnrollContext, earlier_windows, full_es_pairs, replay_pairs, window_pairs,
};
use paceline_optimizer_core::{Result, Seed, Theta};

use crate::toy::{Descent, Quadratic};

const RUN: Seed = Seed::new(77);
const PAIRS: u32 = 5;
const LOW_RANK: Noise = Noise::LowRank { rank: 2 };

struct Setup {
    optimizer: Arc<dyn LearnedOptimizer>,
    theta: Theta,
    estimator: EstimatorConfig,
    families: [Arc<dyn TaskFamily>; 1],
    cancelled: AtomicBool,
    progress: AtomicU64,
}

impl Setup {
    fn new(optimizer: Arc<dyn LearnedOptimizer>, theta: Theta, estimator: EstimatorConfig) -> Self {
        let families: [Arc<dyn TaskFamily>; 1] = [Arc::new(Quadratic::new())];
        Self { optimizer, theta, estimator, families, cancelled: AtomicBool::new(false), progress: AtomicU64::new(0) }
    }

    fn context(&self) -> UnrollContext<'_> {
        UnrollContext {
            run: RUN,
            optimizer: &*self.optimizer,
            estimator: &self.estimator,
            families: &self.families,
            trainer: None,
            cancelled: &self.cancelled,
            progress: &self.progress,
        }
    }

    /// What a slot's pairs give in some outer steps, in groups of so many: everything, and the particles in the end.
    fn trained(&self, group: u32, outer_steps: u64) -> (Vec<String>, Vec<Particle>) {
        let mut sequence = SlotSequence::new(RUN, 3, &self.estimator, 100, &[1.0]).unwrap();
        let (mut outcomes, mut particles) = (Vec::new(), vec![None; PAIRS as usize]);
        for outer_step in 0..outer_steps {
            let window = sequence.window();
            for first in (0..PAIRS).step_by(group as usize) {
                let pairs = Pairs { outer_step, slot: 3, pairs: first..(first + group).min(PAIRS) };
                let places = first as usize..pairs.pairs.end as usize;
                if let EstimatorKind::FullEs { .. } = self.estimator.kind {
                    let got = full_es_pairs(&self.context(), &self.theta, &pairs, &window).unwrap();
                    outcomes.extend(got.iter().map(|outcome| format!("{outcome:?}")));
                    continue;
                }
                let before = particles[places.clone()].iter_mut().filter_map(Option::take).collect();
                let got = window_pairs(&self.context(), &self.theta, &pairs, &window, before).unwrap();
                for (place, (outcome, particle)) in places.zip(got) {
                    outcomes.push(format!("{outcome:?}"));
                    particles[place] = Some(particle);
                }
            }
            sequence.advance();
        }
        (outcomes, particles.into_iter().flatten().collect())
    }

    fn assert_groups_do_not_show(&self, outer_steps: u64) {
        let alone = self.trained(1, outer_steps);
        for group in [2, PAIRS] {
            let together = self.trained(group, outer_steps);
            assert_eq!(together.0, alone.0, "groups of {group}");
            assert!(same_bits(&together.1, &alone.1), "groups of {group}: the particles differ");
        }
    }
}

/// NaN equals itself.
fn same_bits(a: &[Particle], b: &[Particle]) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

fn estimator(kind: EstimatorKind, noise: Noise) -> EstimatorConfig {
    EstimatorConfig { noise, ..EstimatorConfig::new(kind, 0.03, HorizonSchedule::Constant { steps: 7 }) }
}

/// Full ES and everything that runs windows.
const KINDS: [EstimatorKind; 4] = [
    EstimatorKind::FullEs { loss: MetaLoss::LastRecompute { batches: 2 } },
    EstimatorKind::Pes { window: 3 },
    EstimatorKind::Gpes { window: 3, period: 6 },
    EstimatorKind::TruncatedEs { window: 3 },
];

fn hyper_v2(hidden: usize) -> Arc<dyn LearnedOptimizer> {
    let config = HyperV2Config { lstm_hidden_size: hidden, param_inits: 6, ..HyperV2Config::default() };
    Arc::new(HyperV2::new(config).unwrap())
}

fn celo() -> Arc<dyn LearnedOptimizer> {
    Arc::new(Celo::new(CeloConfig { lstm_hidden_size: 20, param_inits: 3, ..CeloConfig::default() }).unwrap())
}

#[test]
fn pairs_together_report_what_each_reports_alone() {
    for optimizer in [hyper_v2(18), celo()] {
        let theta = optimizer.init_theta(Seed::new(4));
        for noise in [LOW_RANK, Noise::Dense] {
            for kind in KINDS {
                Setup::new(Arc::clone(&optimizer), theta.clone(), estimator(kind, noise)).assert_groups_do_not_show(4);
            }
        }
    }
}

/// An optimizer that cuts the lanes of another one in other places.
#[derive(Debug)]
struct Cut {
    inner: Descent,
    together: bool,
}

impl LearnedOptimizer for Cut {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        None
    }

    fn layout(&self) -> &Arc<Layout> {
        self.inner.layout()
    }

    fn init_theta(&self, seed: Seed) -> Theta {
        self.inner.init_theta(seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        self.inner.bind(theta)
    }

    fn bind_pairs(&self, theta: &Theta, pairs: &[Perturbation], sigma: f32) -> Result<Vec<Box<dyn Optimizer>>> {
        let mut lanes = Vec::new();
        for epsilon in pairs {
            lanes.extend_from_slice(theta.antithetic(sigma, &epsilon.whole())?.values());
        }
        let part = if self.together { lanes.len() } else { theta.layout().size() };
        let bind = |lanes: &[f32]| self.bind(Theta::new(theta.layout(), part / theta.layout().size(), lanes.to_vec())?);
        lanes.chunks(part).map(bind).collect()
    }
}

/// The same rate for all lanes makes some overflow and others not, as the tasks differ.
#[test]
fn a_lane_that_diverges_does_not_disturb_other_pairs() {
    for kind in [EstimatorKind::FullEs { loss: MetaLoss::Last }, EstimatorKind::Pes { window: 30 }] {
        let horizon = HorizonSchedule::Constant { steps: 75 };
        let estimator = EstimatorConfig { loss_from: LossFrom::OuterValid, ..EstimatorConfig::new(kind, 3.0, horizon) };
        let run = |together, group| {
            let optimizer = Cut { inner: Descent::new(), together };
            let theta = optimizer.inner.theta(0.0);
            Setup::new(Arc::new(optimizer), theta, estimator.clone()).trained(group, 4)
        };
        let alone = run(true, 1);
        let diverged =
            |count: u32| alone.0.iter().filter(|text| text.contains(&format!("diverged_lanes: {count}"))).count();
        assert!(diverged(1) + diverged(2) > 2, "the case is exercised: {:?}", alone.0);
        for (together, group) in [(true, 2), (true, PAIRS), (false, 1), (false, PAIRS)] {
            let got = run(together, group);
            assert_eq!(got.0, alone.0, "groups of {group}");
            assert!(same_bits(&got.1, &alone.1), "groups of {group}");
        }
    }
}

#[test]
fn pairs_replayed_together_stand_where_each_stands_alone() {
    let optimizer = hyper_v2(18);
    let theta = optimizer.init_theta(Seed::new(4));
    let setup = Setup::new(optimizer, theta, estimator(EstimatorKind::Pes { window: 3 }, LOW_RANK));
    let mut sequence = SlotSequence::new(RUN, 3, &setup.estimator, 100, &[1.0]).unwrap();
    sequence.advance_to(2);
    let current = sequence.window().current;
    assert!(current.inner_step > 3, "two windows are behind it");
    let mut particles = Vec::new();
    for earlier in earlier_windows(&setup.estimator, &current, 2).unwrap() {
        let pairs = Pairs { outer_step: earlier.outer_step, slot: 3, pairs: 0..PAIRS };
        particles = replay_pairs(&setup.context(), &setup.theta, &pairs, &earlier, particles).unwrap();
    }
    assert!(same_bits(&particles, &setup.trained(1, 2).1));
    let fewer = particles[1..].to_vec();
    let pairs = Pairs { outer_step: 2, slot: 3, pairs: 0..PAIRS };
    assert!(window_pairs(&setup.context(), &setup.theta, &pairs, &sequence.window(), fewer).is_err());
}

#[test]
fn inner_steps_of_all_lanes_are_counted_and_groups_follow_the_optimizer() {
    let optimizer = hyper_v2(18);
    let theta = optimizer.init_theta(Seed::new(4));
    let setup = Setup::new(optimizer, theta, estimator(KINDS[0], LOW_RANK));
    setup.trained(PAIRS, 1);
    assert_eq!(setup.progress.load(Ordering::Relaxed), u64::from(2 * PAIRS * 7));
    let window = SlotSequence::new(RUN, 3, &setup.estimator, 100, &[1.0]).unwrap().window();
    let small = setup.context().groups(3, &window, 16, 2).unwrap();
    assert_eq!(small.len(), 16, "weights that stay in a cache are not worth sharing");
    let large = hyper_v2(512);
    let of_large = |noise| {
        let estimator = estimator(KINDS[0], noise);
        UnrollContext { optimizer: &*large, estimator: &estimator, ..setup.context() }
            .groups(3, &window, 16, 2)
            .unwrap()
    };
    assert_eq!(of_large(LOW_RANK), [0..8, 8..16]);
    assert_eq!(of_large(Noise::Dense).len(), 16);
}
