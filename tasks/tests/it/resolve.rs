//! Choices that settings leave to the machine are made once, and then written down.

use serde_json::{Map, Value, json};

fn settings(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(settings) => settings,
        other => panic!("{other} is no table"),
    }
}

#[test]
fn auto_becomes_what_the_folder_holds() {
    let folder = tempfile::tempdir().unwrap();
    // Samplers draw their batch sizes from a range.
    let size = |name: &str| if name.starts_with("sampled_") { json!([16, 16]) } else { json!(16) };
    let auto = |name: &str| settings(json!({"data": "auto", "batch_size": size(name)}));
    // A formula has no data to choose.
    let families = || paceline_tasks::families().into_iter().filter(|info| info.settings.get("data").is_some());
    assert!(families().count() >= 2);
    for info in families() {
        let data = |folder| paceline_tasks::resolve(info.name, &auto(info.name), folder).unwrap()["data"].clone();
        assert_eq!(data(None), "procedural", "{}", info.name);
        assert_eq!(data(Some(folder.path())), "procedural", "{}: an empty folder", info.name);
    }
    std::fs::create_dir(folder.path().join("mnist")).unwrap();
    std::fs::write(folder.path().join("mnist/t10k-images-idx3-ubyte"), []).unwrap();
    std::fs::create_dir(folder.path().join("text")).unwrap();
    std::fs::write(folder.path().join("text/tinyshakespeare.txt"), []).unwrap();
    for info in families() {
        let resolved = paceline_tasks::resolve(info.name, &auto(info.name), Some(folder.path())).unwrap();
        let found = json!(if info.name.starts_with("text_") { "file" } else { "mnist" });
        assert_eq!((&resolved["data"], &resolved["batch_size"]), (&found, &size(info.name)), "{}", info.name);
        let again = paceline_tasks::resolve(info.name, &resolved, None).unwrap();
        assert_eq!(again, resolved, "{}: what is resolved stays", info.name);
    }
}
