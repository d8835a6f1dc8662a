//! Recipes: a run's TOML, read, checked and built before anything starts.
//!
//! ```text
//!  file or built-in name ─read─► text ─parse─► RunSpec ─check─► every range, the optimizer, every task family
//!                                  (line, key, nearest known key)        (data included)
//! ```
//!
//! Whatever can be known to fail is found here, with exit code 64, rather than by a worker an hour later.

use std::path::Path;
use std::sync::Arc;

use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::task::TaskFamily;
use paceline_proto::model::{RunSpec, TaskCost};

use crate::failure::{Exit, Failure};

mod cost;
mod explain;
mod limits;
mod locate;

/// The recipes inside this binary, by name.
pub(crate) const BUILT_IN: [(&str, &str); 6] = [
    ("quickstart", include_str!("../../../deploy/recipes/quickstart.toml")),
    ("full-es", include_str!("../../../deploy/recipes/full-es.toml")),
    ("nres", include_str!("../../../deploy/recipes/nres.toml")),
    ("conv", include_str!("../../../deploy/recipes/conv.toml")),
    ("hyper-v2", include_str!("../../../deploy/recipes/hyper-v2.toml")),
    ("ten-families", include_str!("../../../deploy/recipes/ten-families.toml")),
];

/// A recipe that parsed.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// The file, or the built-in name.
    pub(crate) name: String,
    /// The run it describes.
    pub(crate) spec: RunSpec,
    text: String,
}

/// What a checked recipe is made of, ready to compute.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// The learned optimizer.
    pub(crate) optimizer: Arc<dyn LearnedOptimizer>,
    /// The mixture's families, in order.
    pub(crate) families: Vec<Arc<dyn TaskFamily>>,
}

impl Built {
    /// Each family in words: its model, and the data it really uses.
    pub(crate) fn descriptions(&self) -> Vec<String> {
        self.families.iter().map(|family| format!("{family:?}")).collect()
    }

    /// What one lane of each family costs, timed here: takes a few hundredths of a second a family.
    pub(crate) fn costs(&self) -> Vec<TaskCost> {
        self.families.iter().map(|family| cost::of(&**family)).collect()
    }
}

impl Recipe {
    /// Reads a recipe: a file if there is one of that name, else a built-in recipe. `None` is the quick start.
    pub(crate) fn load(name: Option<&Path>) -> Result<Self, Failure> {
        let name = name.unwrap_or(Path::new("quickstart"));
        let shown = name.display().to_string();
        match std::fs::read_to_string(name) {
            Ok(text) => Self::parse(shown, text),
            Err(error) => match BUILT_IN.iter().find(|(built_in, _)| *built_in == shown) {
                Some((_, text)) => Self::parse(format!("built-in {shown}"), (*text).to_owned()),
                None => Err(Failure::cannot_read(name, &error).help(format!(
                    "give a TOML file or a built-in recipe: {}",
                    BUILT_IN.map(|(name, _)| name).join(", ")
                ))),
            },
        }
    }

    /// Reads a recipe from its text.
    pub(crate) fn parse(name: String, text: String) -> Result<Self, Failure> {
        match toml::from_str(&text) {
            Ok(spec) => Ok(Self { name, spec, text }),
            Err(error) => Err(explain::explain(&name, &text, &error)),
        }
    }

    /// A recipe from the run recorded in a checkpoint.
    pub(crate) fn recorded(name: String, recipe: &serde_json::Value) -> Result<Self, Failure> {
        let spec = serde_json::from_value(recipe.clone()).map_err(|error| {
            Failure::new(Exit::Config, "RECIPE_INVALID", format!("{name}: the recipe inside cannot be read"))
                .cause(error)
                .help("give a recipe with --recipe")
        })?;
        Ok(Self { name, spec, text: String::new() })
    }

    /// Checks every range and builds the optimizer and every family, reading data from `data_dir`.
    pub(crate) fn build(&self, data_dir: Option<&Path>) -> Result<Built, Failure> {
        self.check_ranges()?;
        let optimizer = self.spec.optimizer.build().map_err(|error| self.at("optimizer", &Failure::from(error)))?;
        let families = self.spec.tasks.iter().enumerate().map(|(index, task)| {
            let family = paceline_tasks::build(&task.family, &task.settings, data_dir);
            family.map(|family| family as Arc<dyn TaskFamily>).map_err(|error| self.wrong_task(index, error))
        });
        Ok(Built { optimizer, families: families.collect::<Result<_, _>>()? })
    }

    /// Checks the recipe and makes it what is submitted: choices made, and entries above the mixture's limits left out.
    /// Answers what was built of the others, and each entry left out, in words.
    pub(crate) fn prepare(&mut self, data_dir: Option<&Path>) -> Result<(Built, Vec<String>), Failure> {
        limits::pass_on(self.spec.mixture, &mut self.spec.tasks);
        let mut built = self.build(data_dir)?;
        self.resolve(data_dir)?;
        let mixture = self.spec.mixture;
        let entries = self.spec.tasks.iter().zip(&built.families).enumerate();
        let above: Vec<Option<String>> = entries
            .map(|(index, (task, family))| {
                let why = limits::above(mixture, task, &**family)?;
                Some(format!("left out: tasks[{index}] {}: {why}", task.family))
            })
            .collect();
        let left_out: Vec<String> = above.iter().flatten().cloned().collect();
        if left_out.is_empty() {
            return Ok((built, left_out));
        }
        if left_out.len() == above.len() {
            let none = Failure::new(Exit::BadInput, "RECIPE_INVALID", "mixture: no entry is within its limits");
            let none = left_out.iter().fold(none, Failure::cause);
            return Err(self.at("mixture", &none.help("raise the limits, or remove the table")));
        }
        let mut stays = above.iter().map(Option::is_none);
        self.spec.tasks.retain(|_| stays.next().unwrap_or(true));
        let mut stays = above.iter().map(Option::is_none);
        built.families.retain(|_| stays.next().unwrap_or(true));
        // The entries left may have weights that cannot be drawn from without the others.
        if let Err(faults) = self.spec.validate() {
            let what = "mixture: the entries within its limits make no mixture by themselves";
            let failure = Failure::new(Exit::BadInput, "RECIPE_INVALID", what);
            let failure = left_out.iter().fold(failure, Failure::cause);
            let said = faults.iter().map(|fault| format!("of those that stay: {} {}", fault.field, fault.reason));
            return Err(self.at("mixture", &said.fold(failure, Failure::cause)));
        }
        Ok((built, left_out))
    }

    /// Makes the choices that the tasks leave to the machine (`data = "auto"`), here and for every worker: they decide the
    /// result, so they belong to the run.
    pub(crate) fn resolve(&mut self, data_dir: Option<&Path>) -> Result<(), Failure> {
        for index in 0..self.spec.tasks.len() {
            let task = &self.spec.tasks[index];
            let resolved = paceline_tasks::resolve(&task.family, &task.settings, data_dir)
                .map_err(|error| self.wrong_task(index, error))?;
            self.spec.tasks[index].settings = resolved;
        }
        Ok(())
    }

    /// Every fault at once, so that nobody mends a recipe one refusal at a time.
    fn check_ranges(&self) -> Result<(), Failure> {
        let Err(faults) = self.spec.validate() else { return Ok(()) };
        let mut failures = faults.iter().map(|fault| {
            let span = locate::find(&self.text, &fault.field);
            explain::failure(&self.name, &self.text, span, &format!("{} {}", fault.field, fault.reason))
        });
        let first = failures.next().unwrap_or_else(|| Failure::bug("a refusal without a fault"));
        let others: Vec<_> = failures.collect();
        if others.is_empty() {
            return Err(first);
        }
        let what = format!("{}: {} settings are wrong", self.name, 1 + others.len());
        let all = std::iter::once(first).chain(others);
        Err(all.fold(Failure::new(Exit::BadInput, "RECIPE_INVALID", what), |all, one| all.cause(one.message)))
    }

    /// A family that cannot be built, said of the line that names what is wrong, as near as it can be told.
    fn wrong_task(&self, index: usize, error: paceline_tasks::Error) -> Failure {
        let path = match &error {
            paceline_tasks::Error::UnknownFamily { .. } => format!("tasks[{index}].family"),
            paceline_tasks::Error::Setting { reason, .. } => {
                // Reasons name the setting, as a word or in backquotes.
                let words = reason.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                let settings = &self.spec.tasks[index].settings;
                let named = words.into_iter().find(|word| settings.contains_key(*word)).unwrap_or_default();
                format!("tasks[{index}].settings.{named}")
            }
            _ => format!("tasks[{index}].settings"),
        };
        self.at(&path, &Failure::from(error))
    }

    /// `failure`, said of the setting at `path`.
    fn at(&self, path: &str, failure: &Failure) -> Failure {
        let span = locate::find(&self.text, path);
        let mut placed = explain::failure(&self.name, &self.text, span, &failure.message);
        placed.reason.clone_from(&failure.reason);
        placed.exit = failure.exit;
        placed.causes.clone_from(&failure.causes);
        placed.help.clone_from(&failure.help);
        placed
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The quick start's run.
    pub(crate) fn quickstart() -> RunSpec {
        Recipe::load(None).expect("the quick start is valid").spec
    }

    fn broken(from: &str, to: &str) -> Failure {
        let text = BUILT_IN[0].1;
        assert!(text.contains(from), "the quick start lacks {from:?}");
        Recipe::parse("my.toml".into(), text.replacen(from, to, 1)).expect_err("a broken recipe is refused")
    }

    #[test]
    fn built_in_recipes_parse() {
        for (name, text) in BUILT_IN {
            let recipe = Recipe::parse(name.into(), text.into()).unwrap_or_else(|f| panic!("{name}: {}", f.text()));
            assert_eq!(recipe.spec.name, name);
        }
    }

    #[test]
    fn every_key_of_a_shipped_recipe_has_a_comment() {
        for (name, text) in BUILT_IN {
            let settings: Vec<_> = text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).collect();
            let bare: Vec<_> = settings.iter().filter(|line| !line.contains('#')).collect();
            // A repeated [[tasks]] block need not explain `settings` twice.
            assert!(bare.len() <= 1, "{name}: without a comment: {bare:?}");
        }
    }

    #[test]
    fn an_unknown_key_names_file_line_and_the_nearest_key() {
        let failure = broken("seed = 1 ", "sead = 1 ");
        assert_eq!(failure.message, "my.toml:7: a recipe has no key \"sead\"");
        assert_eq!(failure.help.as_deref(), Some("did you mean \"seed\"?"));
        assert_eq!(failure.exit, Exit::BadInput);
    }

    #[test]
    fn an_unknown_key_inside_a_tagged_table_keeps_its_line() {
        let failure = broken("sigma = 0.01", "sigmaa = 0.01");
        assert!(failure.message.starts_with("my.toml:16: [estimator] has no key \"sigmaa\""), "{}", failure.message);
        let failure = broken("hidden_size = 4", "hiden_size = 4");
        assert_eq!(failure.message, "my.toml:11: [optimizer] has no key \"hiden_size\"");
    }

    #[test]
    fn an_unknown_kind_lists_the_known_ones() {
        let failure = broken("kind = \"pes\"", "kind = \"reinforce\"");
        assert_eq!(failure.message, "my.toml:14: unknown value \"reinforce\" in [estimator]");
        assert_eq!(failure.help.as_deref(), Some("known here: full_es, pes, gpes, nres, truncated_es"));
        let failure = broken("kind = \"pes\"", "kind = \"truncated\"");
        assert_eq!(failure.help.as_deref(), Some("did you mean \"truncated_es\"?"));
    }

    #[test]
    fn syntax_errors_and_wrong_types_name_their_line() {
        assert!(broken("seed = 1 ", "seed = = 1 ").message.starts_with("my.toml:7: "));
        let failure = broken("slots = 8 ", "slots = \"many\" ");
        assert!(failure.message.starts_with("my.toml:21: outer.slots must be a whole number"), "{}", failure.message);
    }

    #[test]
    fn an_unknown_recipe_lists_the_built_in_ones() {
        let failure = Recipe::load(Some(Path::new("no-such-recipe"))).expect_err("there is none");
        assert_eq!(failure.exit, Exit::BadInput);
        assert!(
            failure.text().contains("quickstart, full-es, nres, conv, hyper-v2, ten-families"),
            "{}",
            failure.text()
        );
    }
}
