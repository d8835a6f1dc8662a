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
    let auto = settings(json!({"data": "auto"}));
    let families = || paceline_tasks::families().into_iter().filter(|info| info.name.contains("image_"));
    assert!(families().count() >= 2);
    for info in families() {
        let data = |folder| paceline_tasks::resolve(info.name, &auto, folder).unwrap()["data"].clone();
        assert_eq!(data(None), "procedural", "{}", info.name);
        assert_eq!(data(Some(folder.path())), "procedural", "{}: an empty folder", info.name);
    }
    std::fs::create_dir(folder.path().join("mnist")).unwrap();
    std::fs::write(folder.path().join("mnist/t10k-images-idx3-ubyte"), []).unwrap();
    for info in families() {
        let resolved = paceline_tasks::resolve(info.name, &auto, Some(folder.path())).unwrap();
        assert_eq!(resolved["data"], "mnist", "{}", info.name);
        assert!(resolved.len() > 1, "{}: every default is written out", info.name);
        let again = paceline_tasks::resolve(info.name, &resolved, None).unwrap();
        assert_eq!(again, resolved, "{}: what is resolved stays", info.name);
    }
}
