//! The golden vectors of complex-valued layers. This build has no such layers: each case is skipped by name, after its
//! files were found to be whole, so that a broken checkout does not pass for a skipped one.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

fn folder() -> PathBuf {
    match std::env::var_os("PACELINE_GOLDEN") {
        Some(golden) => PathBuf::from(golden).join("complex"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/complex"),
    }
}

#[test]
fn golden_complex_cases_are_whole_and_skipped_by_name() {
    let folder = folder();
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["format"], "complex-golden-1");
    let cases = manifest["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let (name, layer) = (case["case"].as_str().unwrap(), case["layer"].as_str().unwrap());
        for precision in ["f64", "f32"] {
            let path = folder.join(precision).join(format!("{name}.safetensors"));
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let tensors =
                SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(!tensors.is_empty(), "{} holds no tensor", path.display());
        }
        crate::announce(&format!("SKIPPED golden complex/{name}: no layer {layer} in this build"));
    }
    crate::announce(&format!("golden complex: 0 of {} cases ran, all skipped by name", cases.len()));
}
