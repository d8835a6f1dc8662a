//! The comparison as people read it on a terminal: the contenders that matter, and one sentence that does not flatter.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};

use super::report::{ContenderReport, FamilyReport};
use super::score::{SpeedUp, Spread};

/// A table without outer lines, with these headings; every column but the first is aligned to the right.
pub(crate) fn plain(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(headings);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The table of one family.
pub(crate) fn family_table(family: &FamilyReport, seeds: u32) -> String {
    let headings = ["optimizer", "mean train loss", "final train loss", "final test loss", "test accuracy", "speed-up"];
    let mut table = plain(&headings);
    for (name, contender) in shown(family) {
        let score = &contender.score;
        table.add_row([
            name,
            spread_text(&score.mean_train_loss, seeds),
            spread_text(&score.final_train_loss, seeds),
            spread_text(&score.final_test_loss, seeds),
            score.final_test_accuracy.map_or("–".to_owned(), |spread| format!("{:.1} %", 100.0 * spread.mean)),
            speed_up_text(&contender.speed_up),
        ]);
    }
    table.to_string()
}

/// Who won on this family, by how much, whichever way it went.
pub(crate) fn verdict(family: &FamilyReport) -> String {
    let learned = &family.contenders[0];
    let by_mean = &family.contenders[family.best_adam_by_mean];
    let by_final = &family.contenders[family.best_adam_by_final];
    let compare = |own: f64, adam: f64| if own < adam { "better than" } else { "worse than" };
    let (mean, adam_mean) = (learned.score.mean_train_loss.mean, by_mean.score.mean_train_loss.mean);
    let (last, adam_last) = (learned.score.final_train_loss.mean, by_final.score.final_train_loss.mean);
    let pace = match learned.speed_up.reached_at {
        Some(step) => {
            format!("it reaches tuned Adam's final loss for good at step {step} ({})", speed_up_text(&learned.speed_up))
        }
        None => format!("it does not end at tuned Adam's final loss ({})", speed_up_text(&learned.speed_up)),
    };
    format!(
        "{}: the learned optimizer's mean loss {mean:.4} is {} tuned Adam's {adam_mean:.4}; \
         its final loss {last:.4} is {} {adam_last:.4}; {pace}.",
        family.family,
        compare(mean, adam_mean),
        compare(last, adam_last),
    )
}

/// Learned, untrained, and Adam at its best rates: the rest is in the files.
fn shown(family: &FamilyReport) -> Vec<(String, &ContenderReport)> {
    let (by_mean, by_final) = (family.best_adam_by_mean, family.best_adam_by_final);
    let mut rows: Vec<_> = family.contenders[..2].iter().map(|contender| (contender.name.clone(), contender)).collect();
    let adam = |index: usize, why: &str| {
        let contender = &family.contenders[index];
        (format!("{} (best by {why})", contender.name), contender)
    };
    if by_mean == by_final {
        rows.push(adam(by_mean, "mean and final loss"));
    } else {
        rows.extend([adam(by_mean, "mean loss"), adam(by_final, "final loss")]);
    }
    rows
}

fn spread_text(spread: &Spread, seeds: u32) -> String {
    if seeds > 1 { format!("{:.4} ± {:.4}", spread.mean, spread.std) } else { format!("{:.4}", spread.mean) }
}

fn speed_up_text(speed_up: &SpeedUp) -> String {
    let bound = match (speed_up.saturated, speed_up.reached_at) {
        (false, _) => "",
        (true, Some(_)) => "≥ ",
        (true, None) => "≤ ",
    };
    format!("{bound}{:.2}x", speed_up.ratio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::report::tests::example;

    #[test]
    fn the_table_shows_the_best_adams_and_not_the_others() {
        let text = family_table(&example().families[0], 2);
        assert!(text.contains("adam 1e-2 (best by mean loss)"), "{text}");
        assert!(text.contains("adam 1e-1 (best by final loss)"), "{text}");
        assert!(!text.contains("adam 1e0"), "{text}");
        assert!(text.contains("1.0500 ± 0.0707"), "{text}");
    }

    #[test]
    fn a_win_and_a_loss_are_both_said() {
        let mut family = example().families.remove(0);
        let win = verdict(&family);
        assert!(win.contains("better than tuned Adam's"), "{win}");
        assert!(win.contains("reaches tuned Adam's final loss for good at step"), "{win}");
        family.contenders.swap(0, 1);
        let loss = verdict(&family);
        assert!(loss.contains("worse than tuned Adam's") && loss.contains("does not end at"), "{loss}");
    }

    #[test]
    fn bounds_are_marked() {
        let text = |ratio, reached_at, saturated| speed_up_text(&SpeedUp { ratio, reached_at, saturated });
        assert_eq!(text(2.0, Some(100), false), "2.00x");
        assert_eq!(text(25.0, Some(20), true), "≥ 25.00x");
        assert_eq!(text(0.04, None, true), "≤ 0.04x");
    }
}
