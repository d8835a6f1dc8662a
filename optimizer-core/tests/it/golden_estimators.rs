//! Meta-gradients of the JAX reference (`tests/golden/estimators`), where the corrected and the reference's reset rule
//! agree. The reference folds sigma into its perturbations; here they are unit normals, so they are divided by it.

use paceline_optimizer_core::estimator::full_es::Precision;
use paceline_optimizer_core::estimator::windowed::WindowLosses;
use paceline_optimizer_core::estimator::{
    Estimate, EstimatorConfig, EstimatorKind, MetaLoss, PairReport, full_es, windowed,
};
use paceline_optimizer_core::schedule::HorizonSchedule;
use safetensors::SafeTensors;
use serde_json::Value;

/// Largest difference allowed, relative to the largest value of the tensor.
const TOLERANCE: f64 = 1e-6;

/// Names of theta's tensors: what stands behind `prefix/` in the file, in order.
fn tensors(file: &SafeTensors<'_>, prefix: &str) -> Vec<String> {
    let start = format!("{prefix}/");
    let mut names: Vec<String> =
        file.names().into_iter().filter(|name| name.starts_with(&start)).map(String::from).collect();
    names.sort_unstable();
    names
}

fn values(file: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let view = file.tensor(name).unwrap();
    view.data().as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
}

/// Column `task` of a `[steps, tasks]` tensor.
fn column(values: &[f64], tasks: usize, task: usize) -> Vec<f64> {
    values.iter().skip(task).step_by(tasks).copied().collect()
}

fn config(case: &Value, kind: EstimatorKind) -> EstimatorConfig {
    let sigma = case["std"].as_f64().unwrap() as f32;
    EstimatorConfig {
        clip_delta: case.get("clip_loss_diff").and_then(Value::as_f64),
        sign_delta: case["sign_delta_loss_scalar"].as_f64(),
        ..EstimatorConfig::new(kind, sigma, HorizonSchedule::Constant { steps: 1000 })
    }
}

/// Both tensors of one task, one after another.
fn rows(file: &SafeTensors<'_>, prefix: &str, tasks: usize) -> Vec<Vec<f64>> {
    let tensors: Vec<Vec<f64>> = tensors(file, prefix).iter().map(|tensor| values(file, tensor)).collect();
    let row = |values: &Vec<f64>, task: usize| values.chunks(values.len() / tasks).nth(task).unwrap().to_vec();
    (0..tasks).map(|task| tensors.iter().flat_map(|values| row(values, task)).collect()).collect()
}

/// What the cases compared so far.
#[derive(Default)]
struct Tally {
    compared: usize,
    worst: f64,
    worst_name: String,
}

impl Tally {
    /// Differences are relative to the largest value of the tensor.
    fn compare(&mut self, name: String, got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len(), "{name}");
        let scale = expected.iter().fold(1e-30_f64, |scale, value| scale.max(value.abs()));
        for (got, expected) in got.iter().zip(expected) {
            let difference = (got - expected).abs() / scale;
            assert!(difference <= TOLERANCE, "{name}: {got} is not {expected}, {difference:.1e} of the largest");
            if difference > self.worst {
                (self.worst, self.worst_name) = (difference, name.clone());
            }
        }
        self.compared += 1;
    }
}

/// Mean over tasks of `[carried (A + ε) + fresh ε] / (2 sigma)`, and the accumulators after the window.
fn mean_gradient(estimates: &[Estimate], sigma: f32, accumulators: &[Vec<f64>], epsilons: &[Vec<f64>]) -> Vec<f64> {
    // The files' perturbations are sigma ε, so a pair's part is divided by sigma once more.
    let scale = 0.5 / (f64::from(sigma) * f64::from(sigma) * estimates.len() as f64);
    let mut sum = vec![0.0; epsilons[0].len()];
    for ((estimate, accumulator), epsilon) in estimates.iter().zip(accumulators).zip(epsilons) {
        let PairReport { carried, fresh, .. } = estimate.report;
        for ((sum, &earlier), &epsilon) in sum.iter_mut().zip(accumulator).zip(epsilon) {
            *sum += scale * (carried * (earlier + epsilon) + fresh * epsilon);
        }
    }
    sum
}

fn expected_gradient(file: &SafeTensors<'_>, prefix: &str) -> Vec<f64> {
    tensors(file, prefix).iter().flat_map(|tensor| values(file, tensor)).collect()
}

fn mean_loss(estimates: &[Estimate]) -> f64 {
    let losses: f64 = estimates.iter().map(|estimate| estimate.report.loss_plus + estimate.report.loss_minus).sum();
    losses / (2 * estimates.len()) as f64
}

/// What Paceline itself computes, in f64, lies within what rounding every step's sum to f32 can do.
fn assert_within_rounding(
    name: &str,
    got: &[f64],
    expected: &[f64],
    steps: usize,
    losses: &[f64],
    epsilons: &[Vec<f64>],
    sigma: f32,
) {
    let largest = |values: &[f64]| values.iter().filter(|v| v.is_finite()).fold(0.0_f64, |a, v| a.max(v.abs()));
    let rounding = 2.0_f64.powi(-24) * (steps + 2) as f64 * 2.0 * largest(losses);
    let sigma = f64::from(sigma);
    let bound = rounding * largest(&epsilons.concat()) / (2.0 * sigma * sigma) + TOLERANCE * largest(expected);
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= bound, "{name}: {got} in f64 is not {expected} within {bound:.1e}");
    }
}

fn full_es_case(name: &str, case: &Value, file: &SafeTensors<'_>, tally: &mut Tally) {
    let loss = match case["loss_type"].as_str().unwrap() {
        "avg" => MetaLoss::Average,
        "min" => MetaLoss::Min,
        "last" => MetaLoss::Last,
        other => panic!("{name}: loss {other} is not known"),
    };
    let tasks = case["tasks"].as_u64().unwrap() as usize;
    let config = config(case, EstimatorKind::FullEs { loss });
    let (plus, minus) = (values(file, "pos_loss"), values(file, "neg_loss"));
    let estimates_in = |precision| -> Vec<Estimate> {
        let one = |task| {
            full_es::estimate_in(precision, &config, loss, &column(&plus, tasks, task), &column(&minus, tasks, task))
        };
        (0..tasks).map(one).collect()
    };
    let epsilons = rows(file, "perturbation", tasks);
    let none = vec![vec![0.0; epsilons[0].len()]; tasks];
    let expected = expected_gradient(file, "grad");
    let estimates = estimates_in(Precision::Single);
    let gradient = mean_gradient(&estimates, config.sigma, &none, &epsilons);
    tally.compare(format!("{name}: grad"), &gradient, &expected);
    let double = mean_gradient(&estimates_in(Precision::Double), config.sigma, &none, &epsilons);
    assert_within_rounding(
        name,
        &double,
        &expected,
        plus.len() / tasks,
        &[plus, minus].concat(),
        &epsilons,
        config.sigma,
    );
    let expected = values(file, "mean_loss");
    if expected[0].is_finite() {
        tally.compare(format!("{name}: mean_loss"), &[mean_loss(&estimates)], &expected);
    } else {
        let bad: u32 = estimates.iter().map(|estimate| estimate.non_finite).sum();
        assert_eq!(bad, 2, "{name}: one NaN and one infinity");
    }
}

fn windowed_case(name: &str, case: &Value, file: &SafeTensors<'_>, tally: &mut Tally) {
    let count = |key: &str| case[key].as_u64().unwrap() as usize;
    let (tasks, steps) = (count("tasks"), count("steps"));
    let [pes, truncated] =
        [EstimatorKind::Pes { window: steps as u32 }, EstimatorKind::TruncatedEs { window: steps as u32 }]
            .map(|kind| config(case, kind));
    let mut accumulators: Vec<Vec<f64>> = vec![];
    for window in 0..count("truncations") {
        let key = |key: &str| format!("trunc{window}/{key}");
        let (plus, minus) = (values(file, &key("pos_loss")), values(file, &key("neg_loss")));
        let (live, done) = (values(file, &key("mask")), file.tensor(&key("is_done")).unwrap().data());
        let epsilons = rows(file, &key("perturbation"), tasks);
        accumulators.resize(tasks, vec![0.0; epsilons[0].len()]);
        let (mut estimates, mut forgetful, mut double) = (vec![], vec![], vec![]);
        let mut ended = vec![];
        for task in 0..tasks {
            let live: Vec<bool> = column(&live, tasks, task).into_iter().map(|mask| mask == 1.0).collect();
            let done: Vec<bool> = done.iter().skip(task).step_by(tasks).map(|flag| *flag == 1).collect();
            let (plus, minus) = (column(&plus, tasks, task), column(&minus, tasks, task));
            ended.push(done.contains(&true));
            let losses = WindowLosses { plus: &plus, minus: &minus, live: &live, done: &done };
            estimates.push(windowed::estimate(&pes, &losses));
            // The reference forms each sign's mean in f32.
            forgetful.push(windowed::truncated_in(Precision::Single, &truncated, &losses));
            double.push(windowed::estimate(&truncated, &losses));
        }
        let gradient = mean_gradient(&forgetful, pes.sigma, &accumulators, &epsilons);
        let expected = expected_gradient(file, &key("truncated_es_grad"));
        tally.compare(format!("{name}: {}", key("truncated_es_grad")), &gradient, &expected);
        let gradient = mean_gradient(&double, pes.sigma, &accumulators, &epsilons);
        let losses = [plus.clone(), minus.clone()].concat();
        assert_within_rounding(name, &gradient, &expected, steps, &losses, &epsilons, pes.sigma);
        let gradient = mean_gradient(&estimates, pes.sigma, &accumulators, &epsilons);
        tally.compare(format!("{name}: {}", key("pes_grad")), &gradient, &expected_gradient(file, &key("pes_grad")));
        let expected = values(file, &key("mean_loss"));
        tally.compare(format!("{name}: {}", key("mean_loss")), &[mean_loss(&estimates)], &expected);
        // A is the sum since the trajectory began: of this window's perturbation alone after a reset inside it.
        for ((accumulator, epsilon), ended) in accumulators.iter_mut().zip(&epsilons).zip(ended) {
            for (sum, value) in accumulator.iter_mut().zip(epsilon) {
                *sum = if ended { *value } else { *sum + value };
            }
        }
        let expected = rows(file, &key("pes_accumulator"), tasks).concat();
        tally.compare(format!("{name}: {}", key("pes_accumulator")), &accumulators.concat(), &expected);
    }
}

#[test]
fn golden_estimators_agree_with_the_reference() {
    let folder = crate::golden_folder("estimators");
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&manifest).unwrap();
    let mut tally = Tally::default();
    for case in &cases {
        let name = case["file"].as_str().unwrap();
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        if case.get("loss_type").is_some() {
            full_es_case(name, case, &file, &mut tally);
        } else {
            windowed_case(name, case, &file, &mut tally);
        }
    }
    assert!(!cases.is_empty() && tally.compared > cases.len(), "every case compares at least two tensors");
    crate::announce(&format!(
        "golden estimators: {} cases ran, {} tensors compared, worst relative difference {:.1e} in {}",
        cases.len(),
        tally.compared,
        tally.worst,
        tally.worst_name
    ));
}
