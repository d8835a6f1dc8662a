//! Training curves on held-out tasks.

use std::sync::atomic::AtomicBool;

use paceline_optimizer_core::evaluation::{Curve, CurveSettings, curves};
use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::{Error, Result, Seed};

use crate::toy::{Descent, Quadratic};

const SETTINGS: CurveSettings = CurveSettings { steps: 25, every: 10, batches: 3 };

fn run(log_lr: f32, seeds: &[Seed], settings: CurveSettings, cancelled: bool) -> Result<Vec<Curve>> {
    let descent = Descent::new();
    let optimizer = descent.bind(descent.theta(log_lr))?;
    curves(&Quadratic::new(), &*optimizer, seeds, &settings, &AtomicBool::new(cancelled))
}

#[test]
fn a_curve_has_a_test_point_every_so_often_and_at_the_end() {
    let seeds = [Seed::new(1), Seed::new(2)];
    let got = run(-2.0, &seeds, SETTINGS, false).unwrap();
    assert_eq!(got.len(), 2);
    for curve in &got {
        assert_eq!(curve.steps, [0, 10, 20, 25]);
        assert_eq!((curve.test_loss.len(), curve.test_accuracy.len(), curve.train_loss.len()), (4, 4, 25));
        assert!(curve.test_loss[3] < 0.2 * curve.test_loss[0], "it learned: {:?}", curve.test_loss);
        assert!(curve.train_loss[24] < 0.2 * curve.train_loss[0]);
        assert_eq!(curve.test_accuracy, [None; 4], "no classifier");
    }
    assert_ne!(got[0], got[1]);
    assert_eq!(run(-2.0, &seeds[1..], SETTINGS, false).unwrap(), got[1..], "seeds do not disturb each other");
    let even = CurveSettings { steps: 20, ..SETTINGS };
    assert_eq!(run(-2.0, &seeds, even, false).unwrap()[0].steps, [0, 10, 20]);
}

#[test]
fn divergence_scores_the_ceiling_from_then_on() {
    let curve = run(12.0, &[Seed::new(1)], SETTINGS, false).unwrap().remove(0);
    let ceiling = Quadratic::new().normalise(f64::NAN);
    assert!(curve.test_loss[0] < ceiling && curve.train_loss[0] < ceiling);
    assert_eq!(curve.test_loss[1..], [ceiling; 3]);
    assert!(curve.train_loss[10..].iter().all(|loss| *loss == ceiling));
}

#[test]
fn cancelling_and_empty_settings_end_in_errors() {
    assert!(matches!(run(-2.0, &[Seed::new(1)], SETTINGS, true), Err(Error::Cancelled)));
    for settings in [
        CurveSettings { steps: 0, ..SETTINGS },
        CurveSettings { every: 0, ..SETTINGS },
        CurveSettings { batches: 0, ..SETTINGS },
    ] {
        assert!(matches!(run(-2.0, &[Seed::new(1)], settings, false), Err(Error::Setting { .. })), "{settings:?}");
    }
}
