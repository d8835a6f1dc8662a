//! Small run specs.

use paceline_optimizer_core::Seed;
use paceline_proto::model::RunSpec;

/// Persistent evolution strategies over short trajectories: 4 slots, a checkpoint every 2 steps, 2 kept.
pub(crate) fn pes(steps: u64) -> RunSpec {
    serde_json::from_value(serde_json::json!({
        "name": "pes",
        "seed": Seed::new(11),
        "optimizer": { "kind": "learnable_adam" },
        "estimator": {
            "kind": "pes",
            "window": 5,
            "sigma": 0.1,
            "horizon": { "kind": "log_uniform", "min": 8, "max": 40 }
        },
        "outer": {
            "steps": steps,
            "slots": 4,
            "pairs_per_slot": 2,
            "optimizer": { "learning_rate": 0.01 },
            "report": "seed_coded"
        },
        "tasks": [{ "family": "quadratic" }, { "family": "rosenbrock" }],
        "checkpoint": { "every": 2, "keep": 2 }
    }))
    .unwrap()
}
