//! How a run's checkpoints train held-out tasks beside baselines: figures of the newest evaluation, a table of all.

use maud::{Markup, html};
use paceline_proto::model::{ContenderCurve, Evaluation, FamilyCurves, RunId};

use super::chart::{Axis, Line, figure_over};
use super::layout::{Cell, table};
use super::words::{count, number};

/// Families drawn; the table tells of all.
const MOST_FIGURES: usize = 8;

/// What a screen reader is told when there is a new one.
pub(super) fn news(evaluations: &[Evaluation]) -> String {
    evaluations.first().map_or_else(String::new, |newest| format!("Step {} is evaluated", newest.outer_step))
}

/// The section's content; evaluations newest first.
pub(super) fn render(run: &RunId, evaluations: &[Evaluation]) -> Markup {
    let Some(newest) = evaluations.first() else {
        return html! {
            p {
                "None yet: " code { "paceline checkpoint pull " (run) } ", then "
                code { "paceline eval FILE --record" } " trains held-out tasks with a checkpoint and with tuned Adam."
            }
        };
    };
    let drawn = newest.families.iter().take(MOST_FIGURES);
    let rows = evaluations.iter().map(row).collect();
    let columns = ["outer step", "inner steps", "held-out tasks", "ends lowest", "ends at, best baseline at"];
    html! {
        p {
            "Training loss of step " (count(newest.outer_step)) ": median over " (newest.seeds)
            " held-out tasks, the middle half shaded. Baselines trained the same tasks, with learning rates chosen on them."
        }
        div.charts {
            @for (index, family) in drawn.enumerate() {
                (figure_over(Axis::InnerSteps, &format!("evaluation-{index}"), &family.family, &lines(newest, family)))
            }
        }
        @if newest.families.len() > MOST_FIGURES {
            p.quiet { "Only the first " (MOST_FIGURES) " of " (newest.families.len()) " families are drawn." }
        }
        (table("Evaluations that are kept, newest checkpoint first", &columns, rows))
    }
}

fn lines(evaluation: &Evaluation, family: &FamilyCurves) -> Vec<Line> {
    let line = |contender: &ContenderCurve| {
        let places = || evaluation.ends.iter().map(|end| f64::from(*end)).zip(&contender.losses);
        Line {
            name: contender.name.clone(),
            points: places().map(|(x, loss)| (x, loss.median.into())).collect(),
            spread: places().map(|(x, loss)| (x, [loss.lower.into(), loss.upper.into()])).collect(),
        }
    };
    family.contenders.iter().map(line).collect()
}

fn row(evaluation: &Evaluation) -> (Markup, Vec<Cell>) {
    let ends: Vec<(&str, Option<[f32; 2]>)> =
        evaluation.families.iter().map(|family| (family.family.as_str(), ends_at(family))).collect();
    let lowest = ends.iter().filter(|(_, ends)| ends.is_some_and(|[own, best]| own < best)).count();
    let told = ends.iter().filter_map(|(family, ends)| {
        let [own, best] = (*ends)?;
        Some(format!("{family} {}, {}", number(own.into()), number(best.into())))
    });
    let told: Vec<String> = told.take(MOST_FIGURES).collect();
    let cells = vec![
        Cell::text(count(evaluation.ends.last().copied().unwrap_or_default().into())),
        Cell::text(evaluation.seeds.to_string()),
        Cell::text(format!("on {lowest} of {} families", ends.len())),
        Cell::text(told.join("; ")),
    ];
    (html! { (count(evaluation.outer_step)) }, cells)
}

/// Where the checkpoint's median ends, and the lowest of the others; `None` without others.
fn ends_at(family: &FamilyCurves) -> Option<[f32; 2]> {
    let mut last = family.contenders.iter().filter_map(|contender| Some(contender.losses.last()?.median));
    Some([last.next()?, last.reduce(f32::min)?])
}

#[cfg(test)]
mod tests {
    use paceline_proto::model::Quartiles;

    use super::*;

    fn curves(family: &str, finals: &[f32]) -> FamilyCurves {
        let at = |median: f32| Quartiles { lower: median - 0.1, median, upper: median + 0.1 };
        let contender = |(index, last): (usize, &f32)| ContenderCurve {
            name: format!("<optimizer {index}>"),
            losses: vec![at(3.0), at(*last)],
        };
        FamilyCurves { family: family.into(), contenders: finals.iter().enumerate().map(contender).collect() }
    }

    fn evaluation(families: Vec<FamilyCurves>) -> Evaluation {
        Evaluation {
            outer_step: 1200,
            theta_hash: paceline_optimizer_core::ThetaHash([0; 32]),
            recorded_at_ms: 0,
            seeds: 5,
            ends: vec![1, 500],
            families,
        }
    }

    #[test]
    fn a_family_ends_lowest_only_below_every_baseline() {
        assert_eq!(ends_at(&curves("a", &[1.0, 2.0, 1.5])), Some([1.0, 1.5]));
        assert_eq!(ends_at(&curves("a", &[1.0])), None, "alone it beats nobody");
        let one = evaluation(vec![curves("a", &[1.0, 2.0]), curves("b", &[1.0, 1.0]), curves("c", &[2.0, 3.0, 1.0])]);
        let (name, cells) = row(&one);
        let page = table("t", &["x"; 5], vec![(name, cells)]).into_string();
        for said in ["1\u{202f}200", "on 1 of 3 families", "a 1.0000, 2.0000; b 1.0000, 1.0000; c 2.0000, 1.0000"] {
            assert!(page.contains(said), "{said}: {page}");
        }
    }

    #[test]
    fn the_newest_is_drawn_and_names_stay_text() {
        let families = (0..10).map(|index| curves(&format!("family{index}"), &[1.0, 2.0])).collect();
        let mut older = evaluation(vec![curves("family0", &[4.0, 5.0])]);
        older.outer_step = 600;
        let all = [evaluation(families), older];
        let run = "seen-0badcafe".parse().unwrap();
        let page = render(&run, &all).into_string();
        assert_eq!(page.matches("<figure").count(), MOST_FIGURES);
        assert!(page.contains("Only the first 8 of 10 families"), "{page}");
        assert!(page.contains("&lt;optimizer 1&gt;") && !page.contains("<optimizer"), "{page}");
        assert!(page.contains(">600<"), "older ones stand in the table: {page}");
        assert_eq!(news(&all), "Step 1200 is evaluated");
        assert!(render(&run, &[]).into_string().contains("paceline eval FILE --record"));
    }
}
