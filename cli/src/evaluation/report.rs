//! The comparison as data: who was how good, on which family, by how much.
//!
//! ```text
//!  report.json   everything below          metrics.csv   one line a family and contender
//!  FAMILY.svg    mean training curves      curves.csv    one line a family, contender and step
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::score::{Score, SpeedUp, best, mean_curve, score, speed_up};
use super::{Contender, FamilyCurves, Role, plot};
use crate::failure::Failure;
use crate::file::write_atomically;

/// A whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    /// The checkpoint's run.
    pub(crate) run: String,
    /// The checkpoint's outer step.
    pub(crate) outer_step: u64,
    /// Names its theta.
    pub(crate) theta_hash: String,
    /// Inner steps of each curve.
    pub(crate) steps: u32,
    /// Task instances a family.
    pub(crate) seeds: u32,
    /// One comparison a family, in the mixture's order.
    pub(crate) families: Vec<FamilyReport>,
}

/// The comparison on one family.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct FamilyReport {
    /// The family's name.
    pub(crate) family: String,
    /// Its model and data, in words.
    pub(crate) description: String,
    /// Adam's best learning rate by mean training loss; its place in `contenders`.
    pub(crate) best_adam_by_mean: usize,
    /// Adam's best learning rate by final training loss; its place in `contenders`.
    pub(crate) best_adam_by_final: usize,
    /// Everyone, in order: learned, untrained, Adam by rate.
    pub(crate) contenders: Vec<ContenderReport>,
}

/// One contender on one family.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ContenderReport {
    /// Its name.
    pub(crate) name: String,
    /// Adam's learning rate.
    pub(crate) learning_rate: Option<f32>,
    /// Its scores.
    #[serde(flatten)]
    pub(crate) score: Score,
    /// Against the Adam that is best by final loss.
    pub(crate) speed_up: SpeedUp,
    /// Training loss by step, averaged over seeds.
    #[serde(skip)]
    pub(crate) mean_curve: Vec<f64>,
}

/// The comparison on one family, from its curves.
pub(crate) fn family_report(
    curves: &FamilyCurves,
    contenders: &[Contender],
    description: String,
) -> Result<FamilyReport, Failure> {
    let scores: Vec<Score> = curves.contenders.iter().map(|curves| score(curves)).collect();
    let means: Vec<Vec<f64>> = curves.contenders.iter().map(|curves| mean_curve(curves)).collect();
    let best_adam = |by: &dyn Fn(&Score) -> f64| {
        let losses = contenders.iter().zip(&scores).map(|(contender, score)| match contender.role {
            Role::Adam { .. } => by(score),
            Role::Learned | Role::Initial => f64::INFINITY,
        });
        best(losses).ok_or_else(|| Failure::bug(format!("no Adam has a finite loss on {}", curves.family)))
    };
    let best_adam_by_mean = best_adam(&|score| score.mean_train_loss.mean)?;
    let best_adam_by_final = best_adam(&|score| score.final_train_loss.mean)?;
    let baseline = means[best_adam_by_final].clone();
    let contenders = contenders.iter().zip(scores).zip(means).map(|((contender, score), mean_curve)| ContenderReport {
        name: contender.name.clone(),
        learning_rate: match contender.role {
            Role::Adam { learning_rate } => Some(learning_rate),
            Role::Learned | Role::Initial => None,
        },
        score,
        speed_up: speed_up(&mean_curve, &baseline),
        mean_curve,
    });
    let contenders = contenders.collect();
    Ok(FamilyReport { family: curves.family.clone(), description, best_adam_by_mean, best_adam_by_final, contenders })
}

impl Report {
    /// Writes tables and plots into `folder` and returns the files.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
        let json = serde_json::to_string_pretty(self).map_err(|error| Failure::bug(format!("report: {error}")))?;
        let mut files = vec![
            (folder.join("report.json"), json + "\n"),
            (folder.join("metrics.csv"), self.metrics_csv()),
            (folder.join("curves.csv"), self.curves_csv()),
        ];
        for (place, family) in self.families.iter().enumerate() {
            let name =
                if self.families.len() == 1 { family.family.clone() } else { format!("{place}-{}", family.family) };
            files.push((folder.join(name + ".svg"), plot::svg(family, self.steps, self.seeds)?));
        }
        for (path, text) in &files {
            write_atomically(path, text.as_bytes())?;
        }
        Ok(files.into_iter().map(|(path, _)| path).collect())
    }

    fn metrics_csv(&self) -> String {
        let mut csv = String::from(
            "family,contender,learning_rate,mean_train_loss,mean_train_loss_std,final_train_loss,final_train_loss_std,\
             final_test_loss,final_test_loss_std,final_test_accuracy,speed_up,reached_at,saturated\n",
        );
        for (family, contender) in self.rows() {
            let score = &contender.score;
            let mut field = |text: String, end: char| {
                csv.push_str(&text);
                csv.push(end);
            };
            field(family.family.clone(), ',');
            field(format!("{:?}", contender.name), ',');
            field(contender.learning_rate.map_or(String::new(), |rate| format!("{rate:e}")), ',');
            for spread in [&score.mean_train_loss, &score.final_train_loss, &score.final_test_loss] {
                field(spread.mean.to_string(), ',');
                field(spread.std.to_string(), ',');
            }
            field(score.final_test_accuracy.map_or(String::new(), |spread| spread.mean.to_string()), ',');
            field(contender.speed_up.ratio.to_string(), ',');
            field(contender.speed_up.reached_at.map_or(String::new(), |step| step.to_string()), ',');
            field(contender.speed_up.saturated.to_string(), '\n');
        }
        csv
    }

    fn curves_csv(&self) -> String {
        let mut csv = String::from("family,contender,step,train_loss\n");
        for (family, contender) in self.rows() {
            for (step, loss) in contender.mean_curve.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = writeln!(csv, "{},{:?},{step},{loss}", family.family, contender.name);
            }
        }
        csv
    }

    fn rows(&self) -> impl Iterator<Item = (&FamilyReport, &ContenderReport)> {
        self.families.iter().flat_map(|family| family.contenders.iter().map(move |contender| (family, contender)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::evaluation::score::spread;

    /// A report in which the learned optimizer is twice as fast as the best Adam, and one Adam diverges.
    pub(crate) fn example() -> Report {
        let contender = |name: &str, learning_rate, scale: f64| {
            let curve: Vec<f64> = (1..=200).map(|step| 2.0 * (f64::from(step) / scale).powf(-0.5)).collect();
            let score = Score {
                mean_train_loss: spread(&[scale, scale + 0.1]),
                final_train_loss: spread(&[scale]),
                final_test_loss: spread(&[scale]),
                final_test_accuracy: Some(spread(&[0.5])),
            };
            let baseline: Vec<f64> = (1..=200).map(|step| 2.0 * (f64::from(step) / 2.0).powf(-0.5)).collect();
            ContenderReport {
                name: name.into(),
                learning_rate,
                score,
                speed_up: speed_up(&curve, &baseline),
                mean_curve: curve,
            }
        };
        let family = FamilyReport {
            family: "image_mlp".into(),
            description: "a network on images".into(),
            best_adam_by_mean: 2,
            best_adam_by_final: 3,
            contenders: vec![
                contender("learned", None, 1.0),
                contender("learned, untrained", None, 40.0),
                contender("adam 1e-2", Some(1e-2), 2.5),
                contender("adam 1e-1", Some(1e-1), 2.0),
                contender("adam 1e0", Some(1.0), 50.0),
            ],
        };
        Report {
            run: "quickstart-0badcafe".into(),
            outer_step: 600,
            theta_hash: "ab".repeat(32),
            steps: 200,
            seeds: 2,
            families: vec![family],
        }
    }

    #[test]
    fn a_report_is_written_as_json_tables_and_plots() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = example().write(folder.path()).expect("written");
        let names: Vec<_> = files.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["report.json", "metrics.csv", "curves.csv", "image_mlp.svg"]);
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&files[0]).expect("readable")).expect("valid JSON");
        assert_eq!(json["families"][0]["contenders"][0]["name"], "learned");
        let metrics = std::fs::read_to_string(&files[1]).expect("readable");
        assert_eq!(metrics.lines().count(), 6);
        let columns: Vec<_> = metrics.lines().map(|line| line.replace("learned, u", "u").split(',').count()).collect();
        assert_eq!(columns, [13; 6]);
        assert_eq!(std::fs::read_to_string(&files[2]).expect("readable").lines().count(), 1 + 5 * 200);
    }
}
