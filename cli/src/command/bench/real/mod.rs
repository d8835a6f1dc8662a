//! `paceline bench real`: hand-designed networks on real data under Adam, beside published figures.
//!
//! ```text
//!  experiments (TOML) ─ select ─► families ─► (experiment, seed) … threads take the next ─► table, JSON, docs/results.md
//!                        │
//!                        └─ data that is not there: skipped, by name
//! ```
//!
//! A training depends on nothing but its experiment and its seed, so results are the same on any number of threads.

mod experiments;
mod report;
mod statistics;
mod training;

use std::path::Path;
use std::sync::Arc;

use indicatif::ProgressBar;
use paceline_optimizer_core::optimizer::Optimizer;
use paceline_tasks::Family;
use serde_json::json;

use self::experiments::{Entry, Group, Suite};
use self::report::{EntryReport, GroupReport};
use self::training::train;
use crate::arguments::BenchReal;
use crate::command::doctor::machine;
use crate::console::{Console, Format, plain_json};
use crate::evaluation::in_parallel;
use crate::failure::{DATA_MISSING, Exit, Failure};
use crate::file::write_atomically;
use crate::progress;

/// `paceline bench real`.
pub(super) fn real(arguments: &BenchReal, console: Console) -> Result<(), Failure> {
    if let Some(part) = arguments.experiments.iter().find(|name| name.contains('/')).filter(|_| arguments.out.is_some())
    {
        let message = format!("{part} is a part of a group: --out records whole groups");
        return Err(Failure::new(Exit::BadInput, "EXPERIMENT_PARTIAL", message).help("leave out --out, or name groups"));
    }
    // A tenth of the steps, twice: enough to see that everything runs.
    let (seeds, shorter) = if arguments.quick { (arguments.seeds.or(Some(2)), 10) } else { (arguments.seeds, 1) };
    let suite = Suite::built_in()?.select(&arguments.experiments)?.with(seeds, |steps| steps.div_ceil(shorter));
    // Before any work: is there a place for its result?
    let mut page = match &arguments.out {
        Some(out) if out.exists() => std::fs::read_to_string(out).map_err(|error| Failure::cannot_read(out, &error))?,
        _ => String::new(),
    };
    let Outcome { groups, skipped } = run(&suite, arguments.data_dir.as_deref(), arguments.threads(), console)?;
    for line in &skipped {
        console.say(format!("SKIPPED {line}"));
    }
    for group in &groups {
        console.say(format!("\n{}", group.table()));
    }
    console.say(NOTE);
    console.emit(&json!({"bench": "real", "machine": machine(), "quick": arguments.quick, "skipped": skipped,
        "groups": groups.iter().map(GroupReport::json).collect::<Vec<_>>()}));
    if let Some(out) = &arguments.out {
        for group in &groups {
            page = group.write_into(&page, &made_by(arguments, &group.name));
        }
        write_atomically(out, page.as_bytes())?;
        console.say(format!("recorded in {}", out.display()));
    }
    Ok(())
}

/// Under the tables.
const NOTE: &str = "\
mean ± standard deviation over seeds, on the whole test split after the last step. A difference is taken seed by seed, with
Student's 95 % interval; one that seeds cannot tell from none is in brackets. The test split is the same for all seeds, so
this is what initial weights and the order of the data do, not what another test set would.";

/// The command that gives the results of a group again, and where it gave these. How fast the build is changes no figure, so
/// what the machine says about that is left out.
fn made_by(arguments: &BenchReal, group: &str) -> String {
    let mut words = vec![format!("paceline bench real {group} --data-dir DIR")];
    words.extend(arguments.seeds.map(|seeds| format!("--seeds {seeds}")));
    words.extend(arguments.quick.then(|| "--quick".to_owned()));
    let machine = machine();
    format!("`{}` on {}", words.join(" "), machine.split(';').next().unwrap_or_default())
}

/// A family in words, with the data folder as `DIR`: whose it is matters to nobody else.
fn described(family: &dyn Family, data_dir: Option<&Path>) -> String {
    let text = format!("{family:?}");
    match data_dir {
        Some(folder) => text.replace(&*folder.to_string_lossy(), "DIR"),
        None => text,
    }
}

/// What could be run, and what could not.
#[derive(Debug)]
struct Outcome {
    groups: Vec<GroupReport>,
    /// One line a group: its name and why.
    skipped: Vec<String>,
}

/// An experiment ready to train.
struct Ready<'a> {
    group: &'a Group,
    entry: &'a Entry,
    family: Arc<dyn Family>,
    optimizer: Box<dyn Optimizer>,
}

/// Trains every experiment whose data are there.
fn run(suite: &Suite, data_dir: Option<&Path>, threads: usize, console: Console) -> Result<Outcome, Failure> {
    let (there, missing): (Vec<&Group>, Vec<&Group>) =
        suite.groups.iter().partition(|group| missing_data(group, data_dir).is_none());
    let skipped: Vec<String> = missing
        .into_iter()
        .filter_map(|group| Some(format!("{}: {}", group.name, missing_data(group, data_dir)?)))
        .collect();
    if there.is_empty() {
        let failure = Failure::new(Exit::BadInput, DATA_MISSING, "the data of no experiment asked for are there");
        let failure = skipped.iter().fold(failure, |failure, line| failure.cause(line));
        return Err(failure.help("name the folder that holds them with --data-dir or PACELINE_DATA"));
    }
    let mut ready = Vec::new();
    for group in there {
        for entry in &group.entries {
            let family = paceline_tasks::build(group.family(entry), &group.settings(entry), data_dir)?;
            ready.push(Ready { group, entry, family, optimizer: group.optimizer.build()? });
        }
    }
    let jobs: Vec<(&Ready<'_>, u64)> =
        ready.iter().flat_map(|ready| (0..ready.group.seeds.into()).map(move |seed| (ready, seed))).collect();
    let bar = progress::pieces(console, "trainings", jobs.len() as u64);
    let job = |index: usize| {
        let (Ready { group, entry, family, optimizer }, seed) = jobs[index];
        let trained = train(&**family, &**optimizer, seed, group.steps)?;
        let (accuracy, seconds) = (100.0 * trained.accuracy, trained.took.as_secs_f64());
        tell(console, &bar, &format!("{}/{} seed {seed}: {accuracy:.2} %, {seconds:.1} s", group.name, entry.name));
        Ok(trained)
    };
    let mut trained = in_parallel(jobs.len(), threads, &job, &bar)?.into_iter();
    bar.finish_and_clear();
    let mut groups: Vec<GroupReport> = Vec::new();
    for Ready { group, entry, family, .. } in &ready {
        let report = EntryReport {
            name: entry.name.clone(),
            says: entry.says.clone(),
            family: group.family(entry).to_owned(),
            settings: group.settings(entry),
            built: described(&**family, data_dir),
            parameters: family.layout().size(),
            flop: family.flop(),
            test_examples: family.test_split().map_or(0, |test| test.examples()),
            trained: trained.by_ref().take(group.seeds.into()).collect(),
            against: entry.against.clone(),
            published: entry.published.clone(),
        };
        match groups.last_mut().filter(|last| last.name == group.name) {
            Some(last) => last.entries.push(report),
            None => groups.push(GroupReport {
                name: group.name.clone(),
                title: group.title.clone(),
                about: group.about.clone(),
                optimizer: plain_json(&group.optimizer),
                steps: group.steps,
                seeds: group.seeds,
                entries: vec![report],
            }),
        }
    }
    Ok(Outcome { groups, skipped })
}

/// Why a group cannot run, if its data are not there.
fn missing_data(group: &Group, data_dir: Option<&Path>) -> Option<String> {
    let data = group.data.as_ref()?;
    match data_dir {
        None => Some(format!("no data folder was named to find {data} in")),
        Some(folder) if !folder.join(data).is_dir() => Some(format!("no folder {}", folder.join(data).display())),
        Some(_) => None,
    }
}

/// A line of progress, above the bar if there is one.
fn tell(console: Console, bar: &ProgressBar, line: &str) {
    if !bar.is_hidden() {
        bar.println(line);
    } else if console.format == Format::Text {
        eprintln!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Color;

    fn quiet() -> Console {
        Console::new(Format::Json, Color::Never)
    }

    fn accuracies(outcome: &Outcome) -> Vec<f64> {
        let entries = outcome.groups.iter().flat_map(|group| &group.entries);
        entries.flat_map(|entry| entry.trained.iter().map(|trained| trained.accuracy)).collect()
    }

    #[test]
    fn what_is_there_runs_and_what_is_not_is_named() {
        let suite = experiments::tests::tiny();
        let outcome = run(&suite, None, 2, quiet()).expect("runs");
        assert_eq!(outcome.skipped, ["lost: no data folder was named to find atlantis in"]);
        let [group] = &outcome.groups[..] else { panic!("{outcome:?}") };
        assert_eq!((group.entries.len(), group.entries[0].trained.len()), (2, 3));
        assert_eq!(group.entries[0].test_examples, 2000);
        // Eight hidden units tell ten classes better than one does.
        let [wide, narrow] =
            [0, 1].map(|entry| group.entries[entry].trained.iter().map(|one| one.accuracy).sum::<f64>());
        assert!(wide > 1.5 * narrow && narrow > 0.2, "{wide} {narrow}");
    }

    #[test]
    fn threads_do_not_change_a_digit() {
        let suite = experiments::tests::tiny();
        let run = |threads| accuracies(&run(&suite, None, threads, quiet()).expect("runs"));
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn without_any_data_it_fails_and_tells_each() {
        let suite = experiments::tests::tiny().select(&["lost".to_owned()]).expect("a group");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let failure = run(&suite, Some(folder.path()), 1, quiet()).expect_err("no data");
        assert_eq!((failure.exit, failure.reason.as_str()), (Exit::BadInput, DATA_MISSING));
        assert!(
            failure.causes[0].starts_with("lost: no folder ") && failure.causes[0].ends_with("atlantis"),
            "{failure:?}"
        );
    }
}
