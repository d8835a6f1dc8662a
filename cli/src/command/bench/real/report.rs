//! What came out, as a table for people, an object for scripts, and a section of Markdown.
//!
//! ```text
//!  docs/results.md
//!    text by hand
//!    <!-- paceline bench real: cora -->       everything between these two lines is written anew,
//!    …                                        everything else stays
//!    <!-- end of cora -->
//! ```

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use serde_json::{Map, Value, json};

use super::experiments::Published;
use super::statistics::Difference;
use super::training::Trained;
use crate::evaluation::score::{Spread, spread};
use crate::evaluation::table::plain;

/// The results of a group.
#[derive(Clone, Debug)]
pub(super) struct GroupReport {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) about: String,
    /// What trained, as JSON.
    pub(super) optimizer: Value,
    pub(super) steps: u32,
    pub(super) seeds: u16,
    pub(super) entries: Vec<EntryReport>,
}

/// The results of one experiment.
#[derive(Clone, Debug)]
pub(super) struct EntryReport {
    pub(super) name: String,
    pub(super) says: String,
    pub(super) family: String,
    pub(super) settings: Map<String, Value>,
    /// The network and the data really used, for people.
    pub(super) built: String,
    pub(super) parameters: usize,
    /// Of a training step.
    pub(super) flop: f64,
    pub(super) test_examples: usize,
    /// By seed.
    pub(super) trained: Vec<Trained>,
    pub(super) against: Option<String>,
    pub(super) published: Option<Published>,
}

impl EntryReport {
    /// Test accuracies by seed, %.
    fn accuracies(&self) -> Vec<f64> {
        self.trained.iter().map(|trained| 100.0 * trained.accuracy).collect()
    }

    fn spread(&self) -> Spread {
        spread(&self.accuracies())
    }

    /// Trainings that diverged.
    fn diverged(&self) -> usize {
        self.trained.iter().filter(|trained| !trained.loss.is_finite()).count()
    }
}

/// `97.31 ± 0.12`, and what diverged.
fn accuracy_text(entry: &EntryReport) -> String {
    let Spread { mean, std, .. } = entry.spread();
    let spread = if entry.trained.len() > 1 { format!("{mean:.2} ± {std:.2}") } else { format!("{mean:.2}") };
    match entry.diverged() {
        0 => spread,
        diverged => format!("{spread} ({diverged} diverged: 0)"),
    }
}

fn published_text(entry: &EntryReport) -> String {
    entry.published.as_ref().map_or("–".into(), |published| format!("{:.2}", published.accuracy))
}

impl GroupReport {
    /// What an entry has over the one it is compared with, and that one's name. `None` if either is not here.
    fn difference(&self, entry: &EntryReport) -> Option<(&str, Difference)> {
        let other = self.entries.iter().find(|other| Some(&other.name) == entry.against.as_ref())?;
        let difference = Difference::paired(&entry.accuracies(), &other.accuracies())?;
        Some((&other.name, difference))
    }

    /// `+0.31 ± 0.20 over real`; a difference that seeds cannot tell from none is in brackets.
    fn difference_text(&self, entry: &EntryReport) -> String {
        let Some((other, difference)) = self.difference(entry) else { return "–".into() };
        let mean = format!("{:+.2}", difference.mean);
        match difference.half_width {
            Some(half) if difference.is_told() => format!("{mean} ± {half:.2} over {other}"),
            Some(half) => format!("({mean} ± {half:.2}) over {other}"),
            None => format!("{mean} over {other}"),
        }
    }

    /// Headings of a table; of published figures only where there are some.
    fn headings(&self) -> Vec<&'static str> {
        let published = self.entries.iter().any(|entry| entry.published.is_some());
        HEADINGS.into_iter().chain(published.then_some("published, %")).collect()
    }

    /// Its rows.
    fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        let columns = self.headings().len();
        self.entries.iter().map(move |entry| {
            let Spread { min, max, .. } = entry.spread();
            let row = [
                entry.name.clone(),
                entry.parameters.to_string(),
                format!("{:.0}", entry.flop / 1e6),
                accuracy_text(entry),
                format!("{min:.2} – {max:.2}"),
                self.difference_text(entry),
                published_text(entry),
            ];
            row.into_iter().take(columns).collect()
        })
    }

    /// For a terminal.
    pub(super) fn table(&self) -> String {
        let mut table = plain(&self.headings());
        table.load_preset(NOTHING);
        self.rows().for_each(|row| {
            table.add_row(row);
        });
        format!("{}: {}\n{table}", self.name, self.title)
    }

    /// For scripts.
    pub(super) fn json(&self) -> Value {
        let entries = self.entries.iter().map(|entry| {
            let Spread { mean, std, min, max } = entry.spread();
            let difference = self.difference(entry).map(|(other, difference)| {
                json!({"against": other, "mean": difference.mean, "half_width": difference.half_width,
                    "told": difference.is_told()})
            });
            let trained = entry.trained.iter().zip(0_u64..).map(|(trained, seed)| {
                json!({"seed": seed, "accuracy": 100.0 * trained.accuracy, "loss": trained.loss,
                    "seconds": trained.took.as_secs_f64()})
            });
            json!({"name": entry.name, "says": entry.says, "family": entry.family, "settings": entry.settings,
                "built": entry.built, "parameters": entry.parameters, "flop": entry.flop,
                "test_examples": entry.test_examples, "accuracy": {"mean": mean, "std": std, "min": min, "max": max},
                "diverged": entry.diverged(), "trainings": trained.collect::<Vec<_>>(), "difference": difference,
                "published": entry.published.as_ref().map(|published| published.accuracy)})
        });
        json!({"name": self.name, "title": self.title, "optimizer": self.optimizer, "steps": self.steps,
            "seeds": self.seeds, "entries": entries.collect::<Vec<_>>()})
    }

    /// For `docs/results.md`: from the marker of its beginning to that of its end. `made_by` is the command and the machine.
    pub(super) fn markdown(&self, made_by: &str) -> String {
        let [begin, end] = self.markers();
        let Self { title, about, optimizer, steps, seeds, .. } = self;
        let mut text = format!("{begin}\n\n## {title}\n\n{}\n\n", about.trim());
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let headings: Vec<String> = self.headings().into_iter().map(Into::into).collect();
        let rule: Vec<String> = (0..headings.len()).map(|column| ["---", "---:"][column.min(1)].into()).collect();
        text += &line(&headings);
        text += &line(&rule);
        self.rows().for_each(|row| text += &line(&row));
        let examples = self.entries.first().map_or(0, |entry| entry.test_examples);
        let last = seeds.saturating_sub(1);
        let _ = write!(
            text,
            "\nSeeds 0 to {last}, {steps} steps each; {examples} test examples, each scored once, after the last step. \
             Optimizer: `{optimizer}`. Made by {made_by}.\n\n"
        );
        for entry in &self.entries {
            let EntryReport { name, says, family, settings, built, .. } = entry;
            let settings = Value::Object(settings.clone());
            let _ = writeln!(text, "- `{name}`: {says}. {built}. Settings of `{family}`: `{settings}`.");
            if let Some(published) = &entry.published {
                let _ = writeln!(text, "  Published: {:.2} %, {}.", published.accuracy, published.source);
            }
        }
        text + "\n" + &end + "\n"
    }

    /// The file `old`, if there is one, with this group's section in place of the old one, or at the end.
    pub(super) fn write_into(&self, old: &str, made_by: &str) -> String {
        let section = self.markdown(made_by);
        let [begin, end] = self.markers();
        let place = old.find(&begin).and_then(|start| {
            let length = old[start..].find(&end)? + end.len();
            Some((start, start + length))
        });
        match place {
            Some((start, stop)) => format!("{}{}{}", &old[..start], section.trim_end(), &old[stop..]),
            None if old.is_empty() => section,
            None => format!("{}\n\n{section}", old.trim_end()),
        }
    }

    fn markers(&self) -> [String; 2] {
        [format!("<!-- paceline bench real: {} -->", self.name), format!("<!-- end of {} -->", self.name)]
    }
}

const HEADINGS: [&str; 6] =
    ["experiment", "parameters", "MFLOP a step", "test accuracy, %", "least – greatest", "difference, points (95 %)"];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(name: &str, accuracies: &[f64], against: Option<&str>) -> EntryReport {
        let trained = |&accuracy: &f64| Trained { accuracy, loss: 0.5, took: Duration::from_secs(1) };
        EntryReport {
            name: name.into(),
            says: "a net".into(),
            family: "image_mlp".into(),
            settings: Map::new(),
            built: "mlp 2-1".into(),
            parameters: 3,
            flop: 2e6,
            test_examples: 1000,
            trained: accuracies.iter().map(trained).collect(),
            against: against.map(Into::into),
            published: Some(Published { accuracy: 81.5, source: "arXiv 1609.02907".into() }),
        }
    }

    fn group() -> GroupReport {
        let entries = vec![
            entry("plain", &[0.5, 0.6, 0.7], None),
            entry("better", &[0.6, 0.71, 0.79], Some("plain")),
            entry("same", &[0.7, 0.6, 0.5], Some("plain")),
            entry("orphan", &[0.7, 0.6, 0.5], Some("not run")),
        ];
        GroupReport {
            name: "g".into(),
            title: "A group".into(),
            about: "All about it.".into(),
            optimizer: json!({"kind": "adam"}),
            steps: 5,
            seeds: 3,
            entries,
        }
    }

    #[test]
    fn rows_have_mean_spread_and_difference() {
        let rows: Vec<Vec<String>> = group().rows().collect();
        assert_eq!(rows[0], ["plain", "3", "2", "60.00 ± 10.00", "50.00 – 70.00", "–", "81.50"]);
        // Differences 10, 11, 9: 4.303 · 1 / √3.
        assert_eq!(rows[1][5], "+10.00 ± 2.48 over plain");
        // Differences 20, 0, -20.
        assert_eq!(rows[2][5], "(+0.00 ± 49.69) over plain");
        assert_eq!(rows[3][5], "–");
        let mut group = group();
        group.entries.iter_mut().for_each(|entry| entry.published = None);
        assert_eq!(group.rows().next().map(|row| row.len()), Some(6), "no column of published figures");
    }

    #[test]
    fn what_diverged_is_told() {
        let mut entry = entry("e", &[0.0, 0.5], None);
        entry.trained[0].loss = f64::NAN;
        assert_eq!(accuracy_text(&entry), "25.00 ± 35.36 (1 diverged: 0)");
        entry.trained.remove(0);
        assert_eq!(accuracy_text(&entry), "50.00");
    }

    #[test]
    fn scripts_get_every_seed() {
        let json = group().json();
        let better = &json["entries"][1];
        assert_eq!(better["trainings"].as_array().map(Vec::len), Some(3));
        assert_eq!((&better["difference"]["against"], &better["difference"]["told"]), (&json!("plain"), &json!(true)));
        assert_eq!(json["entries"][0]["difference"], Value::Null);
        assert_eq!(json["entries"][0]["published"], 81.5);
    }

    #[test]
    fn a_section_replaces_itself_and_leaves_the_rest() {
        let mut group = group();
        let fresh = group.write_into("", "`x`");
        assert!(
            fresh.starts_with("<!-- paceline bench real: g -->") && fresh.ends_with("<!-- end of g -->\n"),
            "{fresh}"
        );
        assert!(fresh.contains("| plain | 3 | 2 | 60.00 ± 10.00 |") && fresh.contains("1000 test examples"), "{fresh}");
        let appended = group.write_into("# Results\n", "`x`");
        assert_eq!(appended, format!("# Results\n\n{fresh}"));
        group.steps = 6;
        let changed = group.write_into(&format!("{appended}\nThe end.\n"), "`y`");
        assert!(changed.starts_with("# Results\n\n<!--") && changed.ends_with("-->\n\nThe end.\n"), "{changed}");
        assert!(changed.contains("6 steps") && !changed.contains("5 steps") && !changed.contains("`x`"), "{changed}");
        assert_eq!(group.write_into(&changed, "`y`"), changed);
    }
}
