//! The `[mixture]` table of a recipe: entries that cost too much are left out, once, where a run is submitted.
//!
//! ```text
//!  [mixture] max_flop ─┬─► an entry whose family draws within limits: its settings take the limit, unless they have one
//!                      └─► any other entry: left out if its cost is above, and named
//! ```

use paceline_optimizer_core::task::TaskFamily;
use paceline_proto::model::{MixtureLimits, TaskSpec};
use serde_json::{Number, Value};

/// A limit: its name in a recipe, its value, and what an entry has of it.
struct Limit {
    name: &'static str,
    most: Option<f64>,
    cost: fn(&dyn TaskFamily) -> f64,
    unit: &'static str,
}

fn limits(limits: MixtureLimits) -> [Limit; 2] {
    let MixtureLimits { max_flop, max_bytes } = limits;
    [
        Limit { name: "max_flop", most: max_flop, cost: |family| family.cost().flop, unit: "FLOP an inner step" },
        Limit { name: "max_bytes", most: max_bytes, cost: |family| family.cost().bytes, unit: "bytes a lane" },
    ]
}

/// Whether the family itself knows the limit as a setting.
fn draws_within(family: &str, limit: &str) -> bool {
    let known = paceline_tasks::families().into_iter().find(|known| known.name == family);
    known.is_some_and(|known| known.settings.get(limit).is_some())
}

/// Writes the mixture's limits into the settings of entries whose families draw within them.
pub(super) fn pass_on(mixture: MixtureLimits, tasks: &mut [TaskSpec]) {
    pass_on_where(draws_within, mixture, tasks);
}

fn pass_on_where(draws_within: fn(&str, &str) -> bool, mixture: MixtureLimits, tasks: &mut [TaskSpec]) {
    for Limit { name, most, .. } in limits(mixture) {
        let Some(most) = most.and_then(number) else { continue };
        for task in tasks.iter_mut().filter(|task| draws_within(&task.family, name)) {
            let own = task.settings.get(name).is_some_and(|own| !own.is_null());
            if !own {
                task.settings.insert(name.to_owned(), Value::Number(most.clone()));
            }
        }
    }
}

/// A number as JSON, whole where it is: some settings count.
fn number(value: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2⁵³
    match value.fract() == 0.0 && (0.0..EXACT).contains(&value) {
        true => Some(Number::from(value as u64)),
        false => Number::from_f64(value),
    }
}

/// Why an entry is left out, in words; `None` if it stays.
pub(super) fn above(mixture: MixtureLimits, task: &TaskSpec, family: &dyn TaskFamily) -> Option<String> {
    limits(mixture).into_iter().find_map(|Limit { name, most, cost, unit }| {
        let (most, cost) = (most?, cost(family));
        // A cost that is no number cannot be within a limit.
        let within = cost <= most || draws_within(&task.family, name);
        (!within).then(|| format!("{cost:.3e} {unit}, above mixture.{name} = {most:.3e}"))
    })
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::Seed;

    use super::*;

    #[test]
    fn whole_numbers_stay_whole() {
        let text = |value| number(value).map(|number| number.to_string());
        assert_eq!(text(3e6).as_deref(), Some("3000000"));
        assert_eq!(text(0.5).as_deref(), Some("0.5"));
        assert_eq!(text(1e300).as_deref(), Some("1e+300"));
        assert_eq!(text(f64::NAN), None);
    }

    #[test]
    fn a_family_that_does_not_draw_gets_no_limit_in_its_settings() {
        let settings = serde_json::json!({"image_size": 4}).as_object().cloned().unwrap_or_default();
        let task = TaskSpec { family: "image_mlp".into(), weight: 1.0.into(), settings };
        let mut tasks = [task.clone()];
        pass_on(MixtureLimits { max_flop: Some(1.0), max_bytes: Some(1.0) }, &mut tasks);
        assert_eq!(tasks, [task]);
    }

    #[test]
    fn a_family_that_draws_takes_the_limit_unless_it_has_its_own() {
        let task = |settings: serde_json::Value| TaskSpec {
            family: "sampled_mlp".into(),
            weight: 1.0.into(),
            settings: settings.as_object().cloned().unwrap_or_default(),
        };
        let mut tasks = [
            task(serde_json::json!({})),
            task(serde_json::json!({"max_flop": 7})),
            task(serde_json::json!({"max_flop": null})),
            TaskSpec { family: "image_mlp".into(), ..task(serde_json::json!({})) },
        ];
        let knows = |family: &str, limit: &str| family.starts_with("sampled_") && limit == "max_flop";
        pass_on_where(knows, MixtureLimits { max_flop: Some(1e6), max_bytes: Some(5.0) }, &mut tasks);
        let settings = tasks.map(|task| serde_json::Value::Object(task.settings).to_string());
        assert_eq!(settings, [r#"{"max_flop":1000000}"#, r#"{"max_flop":7}"#, r#"{"max_flop":1000000}"#, "{}"]);
    }

    #[test]
    fn registered_families_that_draw_are_known_by_their_settings() {
        for limit in ["max_flop", "max_bytes"] {
            assert!(draws_within("sampled_image_mlp", limit) && !draws_within("image_mlp", limit));
        }
        let settings = serde_json::Map::new();
        let mut tasks = [TaskSpec { family: "sampled_image_mlp".into(), weight: 1.0.into(), settings }];
        let mixture = MixtureLimits { max_flop: Some(3e7), max_bytes: Some(2e7) };
        pass_on(mixture, &mut tasks);
        let family = paceline_tasks::build("sampled_image_mlp", &tasks[0].settings, None).expect("it takes the limits");
        for seed in 0..5 {
            let member = family.draw(Seed::new(seed)).expect("a member").expect("it draws");
            assert!(member.cost().flop <= 3e7 && member.cost().bytes <= 2e7, "{:?}", member.cost());
        }
        assert_eq!(above(MixtureLimits { max_flop: Some(1.0), max_bytes: None }, &tasks[0], &*family), None);
    }

    #[test]
    fn the_limit_that_is_broken_is_named() {
        let settings = serde_json::json!({"image_size": 4, "hidden": [3], "data": "procedural"});
        let settings = settings.as_object().cloned().unwrap_or_default();
        let family = paceline_tasks::build("image_mlp", &settings, None).expect("a small family");
        let task = TaskSpec { family: "image_mlp".into(), weight: 1.0.into(), settings };
        let cost = family.cost();
        let said = |max_flop, max_bytes| above(MixtureLimits { max_flop, max_bytes }, &task, &*family);
        assert_eq!(said(None, None), None);
        assert_eq!(said(Some(cost.flop), Some(cost.bytes)), None, "a limit is not above itself");
        assert!(said(Some(cost.flop / 2.0), None).is_some_and(|said| said.contains("mixture.max_flop")));
        assert!(said(Some(cost.flop), Some(cost.bytes - 1.0)).is_some_and(|said| said.contains("mixture.max_bytes")));
    }
}
