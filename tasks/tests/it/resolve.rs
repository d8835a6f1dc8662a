//! Choices that settings leave to the machine are made once, and then written down.

use serde_json::{Map, Value, json};

fn settings(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(settings) => settings,
        other => panic!("{other} is no table"),
    }
}

/// The data that a family's `auto` takes from the folder of [`auto_becomes_what_the_folder_holds`], if it has `auto`.
fn real_data(family: &paceline_tasks::FamilyInfo) -> Option<&'static str> {
    family.settings.get("data")?;
    Some(match family.name {
        name if name.starts_with("graph_") => "cora",
        name if name.contains("text_") => "file",
        name if name.starts_with("audio_") => "fsdd",
        _ => "mnist",
    })
}

#[test]
fn auto_becomes_what_the_folder_holds() {
    let folder = tempfile::tempdir().unwrap();
    let auto = settings(json!({"data": "auto"}));
    let families =
        || paceline_tasks::families().into_iter().filter_map(|info| real_data(&info).map(|real| (info.name, real)));
    assert!(families().any(|(_, real)| real == "mnist") && families().any(|(_, real)| real == "cora"));
    for (name, _) in families() {
        let data = |folder| paceline_tasks::resolve(name, &auto, folder).unwrap()["data"].clone();
        assert_eq!(data(None), "procedural", "{name}");
        assert_eq!(data(Some(folder.path())), "procedural", "{name}: an empty folder");
    }
    for file in ["mnist/t10k-images-idx3-ubyte", "cora/nodes.csv", "text/tinyshakespeare.txt", "fsdd/0/0_a_0.wav"] {
        let file = folder.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, []).unwrap();
    }
    for (name, real) in families() {
        let resolved = paceline_tasks::resolve(name, &auto, Some(folder.path())).unwrap();
        assert_eq!(resolved["data"], real, "{name}");
        assert!(resolved.len() > 1, "{name}: every default is written out");
        let again = paceline_tasks::resolve(name, &resolved, None).unwrap();
        assert_eq!(again, resolved, "{name}: what is resolved stays");
    }
}
