//! `paceline tasks`: the families of inner problems.

use serde_json::{Map, Value, json};

use crate::console::Console;
use crate::evaluation::table::plain;
use crate::failure::Failure;

/// `paceline tasks list`.
pub(crate) fn list(console: Console) -> Result<(), Failure> {
    let mut table = plain(&["family", "parameters", "draws"]);
    let mut settings = String::new();
    let mut objects = Vec::new();
    for family in paceline_tasks::families() {
        // Sizes are those of the family's default settings, which need no data.
        let built = paceline_tasks::build(family.name, &Map::new(), None)?;
        let parameters = built.layout().size();
        let tensors: Vec<_> = built
            .layout()
            .tensors()
            .iter()
            .map(|tensor| json!({"name": tensor.name(), "shape": tensor.shape()}))
            .collect();
        objects.push(json!({
            "family": family.name,
            "summary": family.summary,
            "parameters": parameters,
            "tensors": tensors,
            "settings": family.settings,
        }));
        table.add_row([family.name.to_owned(), parameters.to_string(), family.summary.to_owned()]);
        settings.push_str(&format!("\n{}\n", family.name));
        for (key, value) in family.settings.as_object().into_iter().flatten() {
            settings.push_str(&format!("  {key} = {}\n", setting_text(value)));
        }
    }
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    console.say(table.to_string());
    console.say(
        format!("\nSettings of each family, with their defaults, as in a recipe's [[tasks]]:{}", "\n")
            + settings.trim_end(),
    );
    console.emit(&json!({"families": objects}));
    Ok(())
}

/// A setting as it is written in TOML.
fn setting_text(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        other => other.to_string(),
    }
}
