//! The experiments as data: `deploy/experiments/real.toml`, inside this binary.
//!
//! ```text
//!  [[group]]  data, family, settings, optimizer, steps, seeds          what its entries share
//!    [[group.entry]]  name, settings (over the group's), against       what one entry has for itself
//! ```

use std::collections::BTreeSet;
use std::fmt;

use paceline_optimizer_core::optimizer::OptimizerConfig;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::failure::{Exit, Failure};

/// All experiments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suite {
    #[serde(rename = "group")]
    pub(super) groups: Vec<Group>,
}

/// Experiments on the same data, trained alike.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// How it is asked for.
    pub(super) name: String,
    /// A heading.
    pub(super) title: String,
    /// What one must know to read the figures.
    pub(super) about: String,
    /// Folder of its data in the data folder; none for procedural data.
    pub(super) data: Option<String>,
    /// Task family of entries that name no other.
    pub(super) family: String,
    /// Settings that all entries share.
    #[serde(default)]
    pub(super) settings: Map<String, Value>,
    /// What trains.
    pub(super) optimizer: OptimizerConfig,
    /// Training steps.
    pub(super) steps: u32,
    /// Trainings of each entry, of the seeds 0, 1, ….
    pub(super) seeds: u16,
    #[serde(rename = "entry")]
    pub(super) entries: Vec<Entry>,
}

/// One experiment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Its name in the group.
    pub(super) name: String,
    /// What it is, in a few words.
    pub(super) says: String,
    /// Its task family, if not the group's.
    pub(super) family: Option<String>,
    /// Settings of its own, over the group's.
    #[serde(default)]
    pub(super) settings: Map<String, Value>,
    /// The entry of the group it is compared with.
    pub(super) against: Option<String>,
    /// What others report.
    pub(super) published: Option<Published>,
}

/// A figure that others report.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Published {
    /// Test accuracy, %.
    pub(super) accuracy: f64,
    /// Where, and under which conditions that are not ours.
    pub(super) source: String,
}

impl Group {
    /// The family of an entry.
    pub(super) fn family<'a>(&'a self, entry: &'a Entry) -> &'a str {
        entry.family.as_ref().unwrap_or(&self.family)
    }

    /// The settings of an entry: the group's, and its own over them.
    pub(super) fn settings(&self, entry: &Entry) -> Map<String, Value> {
        self.settings.iter().chain(&entry.settings).map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

impl Suite {
    /// Those inside this binary.
    pub(super) fn built_in() -> Result<Self, Failure> {
        let text = include_str!("../../../../../deploy/experiments/real.toml");
        Self::parse(text).map_err(|reason| Failure::bug(format!("the experiments inside cannot be read: {reason}")))
    }

    /// Reads experiments; a refusal is a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let suite: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut groups = BTreeSet::new();
        for group in &suite.groups {
            if !groups.insert(&group.name) {
                return Err(format!("there are two groups {}", group.name));
            }
            if group.steps == 0 || group.seeds == 0 {
                return Err(format!("{}: steps and seeds must be at least 1", group.name));
            }
            let mut entries = BTreeSet::new();
            for Entry { name, against, .. } in &group.entries {
                // Names of earlier entries only: what is compared with has its row above.
                if let Some(other) = against.as_ref().filter(|other| !entries.contains(other)) {
                    return Err(format!("{}/{name} is compared with {other}, which is no earlier entry", group.name));
                }
                if !entries.insert(name) {
                    return Err(format!("there are two entries {}/{name}", group.name));
                }
            }
        }
        Ok(suite)
    }

    /// Only what `names` ask for: groups, or entries as `group/entry`. Everything if they ask for nothing.
    pub(super) fn select(mut self, names: &[String]) -> Result<Self, Failure> {
        if names.is_empty() {
            return Ok(self);
        }
        let mut asked: BTreeSet<&String> = names.iter().collect();
        let mut known = Vec::new();
        for group in &mut self.groups {
            known.push(group.name.clone());
            let whole = asked.remove(&group.name);
            group.entries.retain(|entry| {
                let name = format!("{}/{}", group.name, entry.name);
                let one = asked.remove(&name);
                known.push(name);
                whole || one
            });
        }
        if let Some(unknown) = asked.first() {
            let message = format!("there is no experiment {unknown}");
            let help = format!("experiments are {}", known.join(", "));
            return Err(Failure::new(Exit::BadInput, "EXPERIMENT_UNKNOWN", message).help(help));
        }
        self.groups.retain(|group| !group.entries.is_empty());
        Ok(self)
    }

    /// The same with other numbers of seeds and steps.
    pub(super) fn with(mut self, seeds: Option<u16>, steps: impl Fn(u32) -> u32) -> Self {
        for group in &mut self.groups {
            group.seeds = seeds.unwrap_or(group.seeds);
            group.steps = steps(group.steps);
        }
        self
    }
}

impl fmt::Display for Suite {
    /// Names of groups, each with its entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            writeln!(f, "{} ({})", group.name, group.title)?;
            for entry in &group.entries {
                writeln!(f, "  {}/{}: {}", group.name, entry.name, entry.says)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two nets on procedural images, and one group whose data nobody has.
    pub(in super::super) const TINY: &str = r#"
        [[group]]
        name = "images"
        title = "procedural images"
        about = "Nothing real."
        family = "image_mlp"
        settings = { data = "procedural", image_size = 4, hidden = [8], batch_size = 96 }
        optimizer = { kind = "adam", learning_rate = 0.01 }
        steps = 40
        seeds = 3
        [[group.entry]]
        name = "wide"
        says = "eight hidden"
        [[group.entry]]
        name = "narrow"
        says = "one hidden"
        settings = { hidden = [1] }
        against = "wide"
        published = { accuracy = 50.0, source = "nobody" }

        [[group]]
        name = "lost"
        title = "data that nobody has"
        about = "Nothing."
        data = "atlantis"
        family = "image_mlp"
        optimizer = { kind = "adam" }
        steps = 1
        seeds = 1
        [[group.entry]]
        name = "only"
        says = "never trained"
    "#;

    pub(in super::super) fn tiny() -> Suite {
        Suite::parse(TINY).expect("well written")
    }

    fn names(suite: &Suite) -> Vec<String> {
        let of = |group: &Group| group.entries.iter().map(|entry| format!("{}/{}", group.name, entry.name)).collect();
        suite.groups.iter().flat_map(|group: &Group| -> Vec<String> { of(group) }).collect()
    }

    #[test]
    fn the_experiments_inside_are_of_known_families_and_settings() {
        let suite = Suite::built_in().expect("well written");
        assert!(names(&suite).len() > 15, "{suite}");
        for group in &suite.groups {
            group.optimizer.build().unwrap_or_else(|error| panic!("{}: {error}", group.name));
            for entry in &group.entries {
                let settings = group.settings(entry);
                let resolved = paceline_tasks::resolve(group.family(entry), &settings, None);
                resolved.unwrap_or_else(|error| panic!("{}/{}: {error}", group.name, entry.name));
                assert_ne!(settings.get("data"), None, "{}/{} does not say its data", group.name, entry.name);
            }
        }
    }

    #[test]
    fn an_entrys_settings_lie_over_the_groups() {
        let suite = tiny();
        let settings = suite.groups[0].settings(&suite.groups[0].entries[1]);
        assert_eq!(settings["hidden"], serde_json::json!([1]));
        assert_eq!(settings["batch_size"], 96);
    }

    #[test]
    fn groups_and_entries_can_be_asked_for() {
        let select = |asked: &[&str]| tiny().select(&asked.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(names(&select(&[]).expect("all")), ["images/wide", "images/narrow", "lost/only"]);
        assert_eq!(names(&select(&["images"]).expect("a group")), ["images/wide", "images/narrow"]);
        assert_eq!(names(&select(&["lost", "images/narrow"]).expect("both")), ["images/narrow", "lost/only"]);
        let failure = select(&["images/wide", "imagse"]).expect_err("no such group");
        assert_eq!((failure.exit, failure.reason.as_str()), (Exit::BadInput, "EXPERIMENT_UNKNOWN"));
        assert!(failure.message.contains("imagse"), "{failure:?}");
        assert!(failure.help.as_ref().is_some_and(|help| help.contains("images/narrow, lost")), "{failure:?}");
    }

    #[test]
    fn mistakes_are_told() {
        let fault = |from: &str, to: &str| Suite::parse(&TINY.replace(from, to)).expect_err("a mistake");
        assert!(fault("against = \"wide\"", "against = \"tall\"").contains("no earlier entry"));
        assert!(fault("name = \"narrow\"", "name = \"wide\"\n#").contains("two entries images/wide"));
        assert!(fault("name = \"lost\"", "name = \"images\"").contains("two groups"));
        assert!(fault("seeds = 3", "seeds = 0").contains("at least 1"));
        assert!(fault("says = \"one hidden\"", "say = \"one hidden\"").contains("say"));
    }
}
