//! A spec is judged whole: every fault is named, and only faults are.

use paceline_optimizer_core::outer::Report;
use paceline_optimizer_core::perturbation::Noise;
use paceline_proto::model::RunSpec;

const VALID: &str = r#"{
    "name": "tiny",
    "seed": 7,
    "optimizer": {"kind": "learnable_adam"},
    "estimator": {"kind": "pes", "window": 10, "sigma": 0.01, "horizon": {"kind": "log_uniform", "min": 20, "max": 200}},
    "outer": {"steps": 10, "slots": 2, "pairs_per_slot": 4, "optimizer": {"learning_rate": 0.001}},
    "tasks": [{"family": "image_mlp"}, {"family": "quadratic", "weight": 0.5}],
    "mixture": {},
    "evaluation": {}
}"#;

fn spec(path: &str, value: serde_json::Value) -> RunSpec {
    let mut json: serde_json::Value = serde_json::from_str(VALID).expect("valid JSON");
    *json.pointer_mut(path).unwrap_or_else(|| panic!("{path} is in the valid spec")) = value;
    serde_json::from_value(json).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn fields(spec: &RunSpec) -> Vec<String> {
    spec.validate().err().unwrap_or_default().into_iter().map(|fault| fault.field).collect()
}

#[test]
fn a_valid_spec_has_no_faults() {
    let spec: RunSpec = serde_json::from_str(VALID).unwrap();
    assert_eq!(spec.validate(), Ok(()));
}

#[test]
fn a_dense_result_fits_a_message() {
    let large = serde_json::json!({"kind": "hyper_v2", "lstm_hidden_size": 1024, "param_inits": 256});
    let mut spec = spec("/optimizer", large);
    assert_eq!(spec.validate(), Ok(()), "seeds travel whatever theta's size");
    spec.outer.report = Report::Dense;
    assert_eq!(fields(&spec), ["outer.report"]);
}

#[test]
fn each_fault_is_named() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    for (path, value, field) in [
        ("/name", json(r#""""#), "name"),
        ("/name", json(r#""Velo""#), "name"),
        ("/name", json(&format!("{:?}", "n".repeat(41))), "name"),
        ("/name", json(r#""-a""#), "name"),
        ("/outer/slots", json("4097"), "outer.slots"),
        (
            "/outer",
            json(r#"{"steps": 2, "slots": 1, "pairs_per_slot": 1, "accumulation": 3, "optimizer": {}}"#),
            "outer.accumulation",
        ),
        ("/mixture", json(r#"{"max_flop": 0}"#), "mixture.max_flop"),
        ("/mixture", json(r#"{"max_bytes": -1}"#), "mixture.max_bytes"),
        ("/evaluation", json(r#"{"steps": 10000001}"#), "evaluation.steps"),
        ("/evaluation", json(r#"{"seeds": 10001}"#), "evaluation.seeds"),
        ("/estimator/sigma", json("0"), "estimator.sigma"),
        ("/estimator/sigma", json("-0.1"), "estimator.sigma"),
        ("/estimator/sigma", json("1e300"), "estimator.sigma"),
        ("/estimator/window", json("0"), "estimator.window"),
        ("/estimator/window", json("20"), "estimator.window"),
        ("/estimator/horizon/max", json("19"), "estimator.horizon.max"),
        ("/outer/steps", json("0"), "outer.steps"),
        ("/outer/slots", json("0"), "outer.slots"),
        ("/outer/pairs_per_slot", json("4097"), "outer.pairs_per_slot"),
        ("/outer/optimizer/learning_rate", json("0"), "outer.optimizer.learning_rate"),
        ("/outer/optimizer", json(r#"{"beta1": 1.0}"#), "outer.optimizer.beta1"),
        ("/outer/optimizer", json(r#"{"weight_decay": -1.0}"#), "outer.optimizer.weight_decay"),
        ("/tasks", json("[]"), "tasks"),
        ("/tasks/0/family", json(r#""Image MLP""#), "tasks[0].family"),
        ("/tasks/1/weight", json("-1"), "tasks[1].weight"),
        (
            "/tasks/1/weight",
            json(r#"{"kind": "linear", "init_value": 1, "end_value": -1, "steps": 9}"#),
            "tasks[1].weight",
        ),
        (
            "/tasks/1/weight",
            json(r#"{"kind": "linear", "init_value": 1, "end_value": 2, "steps": 0}"#),
            "tasks[1].weight.steps",
        ),
        (
            "/tasks",
            json(
                r#"[{"family": "a", "weight": 0},
                {"family": "b", "weight": {"kind": "linear", "init_value": 1, "end_value": 0, "steps": 5}}]"#,
            ),
            "tasks[1].weight",
        ),
        ("/estimator/window", json("1"), "estimator.window"),
        ("/outer/optimizer", json(r#"{"eps": 0.0, "eps_root": 0.0}"#), "outer.optimizer.eps"),
        ("/tasks", json(r#"[{"family": "a", "weight": 0}]"#), "tasks"),
    ] {
        assert_eq!(fields(&spec(path, value.clone())), [field], "{path} = {value}");
    }
}

#[test]
fn a_curriculum_is_refused_at_the_step_where_it_cannot_be_drawn_from() {
    let linear = serde_json::json!({"kind": "linear", "init_value": 1, "end_value": -1, "steps": 8});
    let faults = spec("/tasks/1/weight", linear).validate().unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].reason.contains("at step 5 it is not, got -0.25"), "{faults:?}");
    let ends = serde_json::json!({"kind": "linear", "init_value": 1, "end_value": 0, "steps": 8});
    assert_eq!(spec("/tasks/1/weight", ends).validate(), Ok(()), "the other family goes on");
}

#[test]
fn noise_is_checked_against_itself_and_theta() {
    let mut spec: RunSpec = serde_json::from_str(VALID).unwrap();
    spec.estimator.noise = Noise::LowRank { rank: 65 };
    assert_eq!(fields(&spec), ["estimator.noise.rank"]);
    // Adam's theta has four values, so four pairs can be orthogonal.
    spec.estimator.noise = Noise::Orthogonal;
    assert_eq!(spec.validate(), Ok(()));
    spec.outer.pairs_per_slot = 5;
    assert_eq!(fields(&spec), ["outer.pairs_per_slot"]);
}

#[test]
fn all_faults_are_told_at_once() {
    let mut spec: RunSpec = serde_json::from_str(VALID).unwrap();
    spec.name.clear();
    spec.outer.accumulation = 0;
    spec.outer.clip = Some(0.0);
    spec.checkpoint.keep = 0;
    spec.evaluation.seeds = 0;
    spec.tasks[1].weight = f64::NAN.into();
    let named = fields(&spec);
    assert_eq!(
        named,
        ["name", "outer.accumulation", "outer.clip", "tasks[1].weight", "checkpoint.keep", "evaluation.seeds"]
    );
}
