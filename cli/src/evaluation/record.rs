//! A comparison as a coordinator keeps it: the contenders that matter, few numbers a curve.
//!
//! ```text
//!  training losses of each task ─► mean over each span ─► quartiles over tasks
//!  spans: ends evenly spread by logarithm, so that the first steps, in which most happens, are not one point
//! ```

use paceline_optimizer_core::evaluation::Curve;
use paceline_proto::model::{ContenderCurve, FamilyCurves, Quartiles};

use super::report::FamilyReport;

/// Spans of a curve, about: fewer where two would end at the same step.
const SPANS: u32 = 40;

/// Inner steps at which the spans of a training of `steps` steps end.
pub(crate) fn ends(steps: u32) -> Vec<u32> {
    let end = |nth: u32| f64::from(steps).powf(f64::from(nth) / f64::from(SPANS - 1)).round() as u32;
    let mut ends: Vec<u32> = (0..SPANS).map(end).collect();
    ends.dedup();
    ends
}

/// The learned optimizer, its initialisation and Adam at its best rates on one family; curves as in the report.
pub(crate) fn family_curves(report: &FamilyReport, curves: &[Vec<Curve>], ends: &[u32]) -> FamilyCurves {
    let (by_mean, by_final) = (report.best_adam_by_mean, report.best_adam_by_final);
    let mut shown = vec![(0, ""), (1, "")];
    match by_mean == by_final {
        true => shown.push((by_mean, ", best by mean and final loss")),
        false => shown.extend([(by_mean, ", best by mean loss"), (by_final, ", best by final loss")]),
    }
    let contenders = shown.into_iter().map(|(index, praise)| ContenderCurve {
        name: report.contenders[index].name.clone() + praise,
        losses: losses(&curves[index], ends),
    });
    FamilyCurves { family: report.family.clone(), contenders: contenders.collect() }
}

fn losses(curves: &[Curve], ends: &[u32]) -> Vec<Quartiles> {
    let begins = std::iter::once(0).chain(ends.iter().copied());
    let span = |(begin, end): (u32, &u32)| {
        let of = |curve: &Curve| {
            let losses = &curve.train_loss[begin as usize..*end as usize];
            losses.iter().sum::<f64>() / losses.len() as f64
        };
        quartiles(curves.iter().map(of).collect())
    };
    begins.zip(ends).map(span).collect()
}

/// Quartiles with linear interpolation between neighbours (type 7 of Hyndman and Fan, as in most programs).
fn quartiles(mut values: Vec<f64>) -> Quartiles {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (values.len() - 1) as f64;
        let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
        let value = below + (above - below) * place.fract();
        // A loss that only f64 can hold is drawn at the edge of what f32 can.
        value.clamp(f32::MIN.into(), f32::MAX.into()) as f32
    };
    Quartiles { lower: at(0.25), median: at(0.5), upper: at(0.75) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::report::tests::example;

    fn curve(train_loss: Vec<f64>) -> Curve {
        Curve { steps: vec![], test_loss: vec![], test_accuracy: vec![], train_loss }
    }

    #[test]
    fn spans_grow_from_one_step_to_the_whole() {
        assert_eq!(ends(1), [1]);
        assert_eq!(ends(3), [1, 2, 3]);
        for steps in [2, 30, 500, 10_000, 10_000_000] {
            let ends = ends(steps);
            assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "{ends:?}");
            assert_eq!((ends[0], *ends.last().unwrap()), (1, steps));
            assert!(ends.len() <= paceline_proto::convert::MAX_SPANS);
        }
    }

    #[test]
    fn quartiles_are_those_of_other_programs() {
        // numpy.quantile([1, 2, 3, 4, 10], [.25, .5, .75]) and of [1, 2, 3, 4].
        assert_eq!(quartiles(vec![10.0, 1.0, 3.0, 2.0, 4.0]), Quartiles { lower: 2.0, median: 3.0, upper: 4.0 });
        assert_eq!(quartiles(vec![4.0, 3.0, 2.0, 1.0]), Quartiles { lower: 1.75, median: 2.5, upper: 3.25 });
        assert_eq!(quartiles(vec![7.0]), Quartiles { lower: 7.0, median: 7.0, upper: 7.0 });
        assert!(quartiles(vec![1e300, 1e300]).median.is_finite());
    }

    #[test]
    fn a_span_is_a_mean_and_only_the_best_adams_are_kept() {
        let report = &example().families[0];
        let of = |scale: f64| vec![curve([8.0, 4.0, 2.0].map(|loss| scale * loss).to_vec())];
        let curves: Vec<_> = (1..=5).map(|nth| of(f64::from(nth))).collect();
        let kept = family_curves(report, &curves, &[1, 3]);
        let names: Vec<&str> = kept.contenders.iter().map(|contender| contender.name.as_str()).collect();
        let adams = ["adam 1e-2, best by mean loss", "adam 1e-1, best by final loss"];
        assert_eq!(names, ["learned", "learned, untrained", adams[0], adams[1]]);
        let medians = |nth: usize| kept.contenders[nth].losses.iter().map(|loss| loss.median).collect::<Vec<_>>();
        assert_eq!((medians(0), medians(3)), (vec![8.0, 3.0], vec![32.0, 12.0]));
        let mut same = report.clone();
        same.best_adam_by_mean = 3;
        let kept = family_curves(&same, &curves, &[1, 3]);
        assert_eq!(kept.contenders[2].name, "adam 1e-1, best by mean and final loss");
        assert_eq!(kept.contenders.len(), 3);
    }
}
