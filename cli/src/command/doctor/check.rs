//! What a check found.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// In order.
    Ok,
    /// Works, but not as well or not for long.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) outcome: Outcome,
    pub(super) found: String,
    pub(super) cure: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, found: found.into(), cure: None }
    }

    pub(super) fn warn(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warn, found: found.into(), cure: Some(cure.into()) }
    }

    pub(super) fn fail(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Fail, found: found.into(), cure: Some(cure.into()) }
    }

    /// The line for people, and one with the cure.
    pub(super) fn lines(&self) -> Vec<String> {
        let mark = match self.outcome {
            Outcome::Ok => "ok  ",
            Outcome::Warn => "warn",
            Outcome::Fail => "FAIL",
        };
        let first = format!("{mark}  {:<12} {}", self.name, self.found);
        std::iter::once(first).chain(self.cure.iter().map(|cure| format!("{:19}{cure}", ""))).collect()
    }
}
