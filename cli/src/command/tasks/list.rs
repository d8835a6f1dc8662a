//! `paceline tasks list`: every family on one screen, topic by topic.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use paceline_optimizer_core::task::Cost;
use paceline_tasks::{AugmentationInfo, FamilyInfo};
use serde_json::{Map, json};

use super::{COLUMNS, wrapped};
use crate::arguments::ListFamilies;
use crate::console::Console;
use crate::failure::{Exit, Failure};
use crate::file::size_text;
use crate::pace::short;

/// `paceline tasks list`.
pub(super) fn list(arguments: &ListFamilies, console: Console) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for info in chosen(paceline_tasks::families(), arguments.filter.as_deref())? {
        let family = paceline_tasks::build(info.name, &Map::new(), arguments.data_dir.as_deref())?;
        rows.push(Row { parameters: family.layout().size(), cost: family.cost(), info });
    }
    console.say(table(&rows));
    let note = "FLOP and memory are of one inner step of one lane, at the default settings. `paceline tasks show FAMILY` tells \
                the settings, the parameters and what is drawn.";
    console.say(format!("\n{}", wrapped(note, COLUMNS).join("\n")));
    let augmentations = paceline_tasks::augmentations();
    let kinds: Vec<&str> = augmentations.iter().map(|info| info.kind).collect();
    let note = format!(
        "Every family takes `augment`, a list of tables with one of these kinds, or \"velo\" for VeLO's whole set: {}.",
        kinds.join(", ")
    );
    console.say(format!("\n{}", wrapped(&note, COLUMNS).join("\n")));
    let object = |row: &Row| {
        let Row { info, parameters, cost } = row;
        json!({
            "family": info.name, "topic": topic(info.name), "summary": info.summary, "parameters": parameters,
            "flop": cost.flop, "bytes": cost.bytes,
        })
    };
    let kind = |info: &AugmentationInfo| json!({"kind": info.kind, "summary": info.summary, "settings": info.settings});
    console.emit(&json!({
        "families": rows.iter().map(object).collect::<Vec<_>>(),
        "augmentations": augmentations.iter().map(kind).collect::<Vec<_>>(),
    }));
    Ok(())
}

struct Row {
    info: FamilyInfo,
    parameters: usize,
    cost: Cost,
}

/// The first word of a name: `image` of `image_mlp`.
fn topic(name: &str) -> &str {
    name.split('_').next().unwrap_or(name)
}

/// The families whose name has `filter` in it, topic by topic.
fn chosen(mut families: Vec<FamilyInfo>, filter: Option<&str>) -> Result<Vec<FamilyInfo>, Failure> {
    let filter = filter.unwrap_or_default();
    families.retain(|info| info.name.contains(filter));
    families.sort_by_key(|info| (topic(info.name), info.name));
    if families.is_empty() {
        let message = format!("no task family has {filter:?} in its name");
        let failure = Failure::new(Exit::BadInput, "TASK_UNKNOWN", message);
        return Err(failure.help("`paceline tasks list` without a word shows all"));
    }
    Ok(families)
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(COLUMNS as u16)
        .set_header(["family", "parameters", "FLOP", "memory", "what it is"]);
    for column in table.column_iter_mut().skip(1).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for column in table.column_iter_mut().take(4) {
        // The summary alone gives way.
        column.set_constraint(comfy_table::ColumnConstraint::ContentWidth);
    }
    let mut last = None;
    for Row { info, parameters, cost } in rows {
        let topic = topic(info.name);
        if last.is_some_and(|last| last != topic) {
            table.add_row([""]);
        }
        last = Some(topic);
        let memory = size_text(cost.bytes as u64);
        table.add_row([info.name, &parameters.to_string(), &short(cost.flop), &memory, info.summary]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &'static str) -> FamilyInfo {
        let summary = "something that takes more than one line of a narrow terminal to say, whatever it is";
        FamilyInfo { name, summary, settings: json!({}) }
    }

    #[test]
    fn families_are_sorted_by_topic_and_filtered() {
        let all = || ["image_b", "audio", "image_a", "graph_image"].map(info).to_vec();
        let names = |filter| chosen(all(), filter).map(|all| all.iter().map(|info| info.name).collect::<Vec<_>>());
        assert_eq!(names(None).expect("some"), ["audio", "graph_image", "image_a", "image_b"]);
        assert_eq!(names(Some("image_")).expect("some"), ["image_a", "image_b"]);
        let failure = names(Some("text")).expect_err("none");
        assert!(failure.exit == Exit::BadInput && failure.message.contains("\"text\""), "{failure:?}");
    }

    #[test]
    fn the_table_fits_eighty_columns_and_parts_topics() {
        let cost = Cost { flop: 1.234e11, bytes: 123_456_789.0 };
        let row = |name| Row { info: info(name), parameters: 16_777_216, cost };
        let text = table(&[row("image_a"), row("sampled_language_transformer"), row("sampled_x")]);
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line:?}");
        }
        assert!(text.contains("123.4G") && text.contains("117.74 MiB") && text.contains("16777216"), "{text}");
        assert!(text.contains("sampled_language_transformer"), "a name is broken:\n{text}");
        assert_eq!(text.lines().filter(|line| line.trim().is_empty()).count(), 1, "{text}");
    }
}
