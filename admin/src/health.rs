//! How a program is, as checks with a name and an age. Pure: whoever makes a check looks at the clock.

use std::time::Duration;

use serde_json::{Value, json};

/// One thing a probe looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is called, for example `event_loop`.
    pub name: &'static str,
    /// Whether it passes.
    pub passes: bool,
    /// How long it has been so, or how old the sign of life it looks at is.
    pub age: Duration,
    /// What was found, in words.
    pub found: String,
}

impl Check {
    /// A check that passes.
    pub fn passing(name: &'static str, age: Duration, found: impl Into<String>) -> Self {
        Self { name, passes: true, age, found: found.into() }
    }

    /// A check that fails.
    pub fn failing(name: &'static str, age: Duration, found: impl Into<String>) -> Self {
        Self { name, passes: false, age, found: found.into() }
    }

    /// Passes while a sign of life is younger than `most`.
    pub fn recent(name: &'static str, age: Duration, most: Duration, sign: &str) -> Self {
        let found = format!("{sign} {:.1} s ago, at most {:.0} s are allowed", age.as_secs_f64(), most.as_secs_f64());
        Self { name, passes: age < most, age, found }
    }
}

/// The answer to one probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All that was looked at.
    pub checks: Vec<Check>,
}

impl Report {
    /// Of these checks.
    pub fn of(checks: impl IntoIterator<Item = Check>) -> Self {
        Self { checks: checks.into_iter().collect() }
    }

    /// Whether every check passes.
    pub fn passes(&self) -> bool {
        self.checks.iter().all(|check| check.passes)
    }

    /// Names of the checks that fail.
    pub fn failing(&self) -> impl Iterator<Item = &'static str> {
        self.checks.iter().filter(|check| !check.passes).map(|check| check.name)
    }

    /// For people and programs: the first failing check by name, then all of them.
    pub fn to_json(&self) -> Value {
        let failing = self.failing().next();
        let object = |check: &Check| {
            json!({
                "check": check.name,
                "passes": check.passes,
                "age_seconds": (check.age.as_secs_f64() * 1000.0).round() / 1000.0,
                "found": check.found,
            })
        };
        json!({
            "status": if failing.is_none() { "ok" } else { "failing" },
            "failing": failing,
            "checks": self.checks.iter().map(object).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_sign_of_life_grows_too_old() {
        assert!(Check::recent("loop", 9 * SECOND, 10 * SECOND, "ticked").passes);
        let old = Check::recent("loop", 12 * SECOND, 10 * SECOND, "ticked");
        assert!(!old.passes);
        assert_eq!(old.found, "ticked 12.0 s ago, at most 10 s are allowed");
    }

    #[test]
    fn the_body_names_what_fails_and_for_how_long() {
        let good = Check::passing("recovered", SECOND, "3 runs");
        let bad = Check::failing("journal", Duration::from_millis(2500), "no space left");
        let body = Report::of([good.clone(), bad]).to_json();
        assert_eq!((&body["status"], &body["failing"]), (&json!("failing"), &json!("journal")));
        assert_eq!(body["checks"][1]["age_seconds"], 2.5);
        assert_eq!(body["checks"][1]["found"], "no space left");
        assert_eq!(Report::of([good]).to_json()["failing"], Value::Null);
        assert!(Report::default().passes());
    }
}
