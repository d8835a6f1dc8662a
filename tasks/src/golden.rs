//! The golden vectors of complex-valued layers and audio features, case by case.
//!
//! ```text
//!  manifest.json ─► cases of a prefix ─► f64/ and f32/ files ─► Case ─► compare(key, ours) ─► nothing left uncompared
//! ```
//!
//! Inputs of both files are the same numbers, exact in f32; what differs is the tolerance the manifest gives each
//! tensor. Every tensor that is no input (`in.*`, `cot.*`) must be compared, else the case fails.
//! `PACELINE_GOLDEN` names another folder of golden vectors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use num_complex::Complex;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Precision of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    F64,
    F32,
}

impl Precision {
    fn folder(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
        }
    }
}

#[derive(Debug)]
enum Numbers {
    Floats(Vec<f64>),
    Integers(Vec<i64>),
}

/// One case at one precision.
#[derive(Debug)]
pub(crate) struct Case {
    name: String,
    precision: Precision,
    manifest: Value,
    tensors: BTreeMap<String, (Vec<usize>, Numbers)>,
    seen: BTreeSet<String>,
}

/// The groups of cases, each of one test.
const GROUPS: [&str; 13] = [
    "act_",
    "avgpool_",
    "bn_",
    "conv2d_",
    "gcn_",
    "head_",
    "init_moments",
    "linear_",
    "maxpool_mag_",
    "mfcc_librosa_",
    "mfcc_paper_",
    "net_complex_tiny",
    "net_graph_tiny",
];

/// Runs `check` on each case of a group, whose names begin with it, at both precisions, and sees that it compared
/// everything.
pub(crate) fn each(prefix: &str, mut check: impl FnMut(&mut Case)) {
    assert!(GROUPS.contains(&prefix), "{prefix} is not a listed group");
    let folder = folder();
    let (path, cases) = cases(&folder);
    let cases: Vec<Value> = cases.into_iter().filter(|case| name_of(case).starts_with(prefix)).collect();
    assert!(!cases.is_empty(), "{} has no case {prefix}*", path.display());
    for case in &cases {
        for precision in [Precision::F64, Precision::F32] {
            let mut case = Case::read(&folder, case, precision);
            check(&mut case);
            case.finish();
        }
    }
}

fn name_of(case: &Value) -> &str {
    case["case"].as_str().expect("a case has a name")
}

/// The path of the manifest, and its cases.
fn cases(folder: &Path) -> (PathBuf, Vec<Value>) {
    let path = folder.join("manifest.json");
    let manifest = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["format"], "complex-golden-1");
    let cases = manifest["cases"].as_array().unwrap().clone();
    (path, cases)
}

fn folder() -> PathBuf {
    match std::env::var_os("PACELINE_GOLDEN") {
        Some(golden) => PathBuf::from(golden).join("complex"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/complex"),
    }
}

impl Case {
    fn read(folder: &Path, manifest: &Value, precision: Precision) -> Self {
        let name = manifest["case"].as_str().unwrap().to_owned();
        let path = folder.join(precision.folder()).join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let tensors: BTreeMap<_, _> = file
            .iter()
            .map(|(key, view)| {
                let data = view.data();
                let numbers = match view.dtype() {
                    Dtype::F64 => Numbers::Floats(words(data, f64::from_le_bytes)),
                    Dtype::F32 => Numbers::Floats(words(data, |word| f64::from(f32::from_le_bytes(word)))),
                    Dtype::I64 => Numbers::Integers(words(data, i64::from_le_bytes)),
                    other => panic!("{name}: {key} is {other:?}"),
                };
                (key.to_owned(), (view.shape().to_vec(), numbers))
            })
            .collect();
        let listed: BTreeSet<&String> = manifest["tensors"].as_object().unwrap().keys().collect();
        assert_eq!(tensors.keys().collect::<BTreeSet<_>>(), listed, "{name}: file and manifest list other tensors");
        Self { name, precision, manifest: manifest.clone(), tensors, seen: BTreeSet::new() }
    }

    /// The case's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the case is a case of.
    pub(crate) fn layer(&self) -> &str {
        self.manifest["layer"].as_str().unwrap_or_else(|| panic!("{}: no layer", self.name))
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether the case has this tensor.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    fn tensor(&self, key: &str) -> &(Vec<usize>, Numbers) {
        let found = self.tensors.get(key);
        found.unwrap_or_else(|| panic!("{}: no tensor {key} among {:?}", self.name, self.tensors.keys()))
    }

    pub(crate) fn shape(&self, key: &str) -> &[usize] {
        &self.tensor(key).0
    }

    /// A tensor of either precision, widened.
    pub(crate) fn floats(&self, key: &str) -> &[f64] {
        match &self.tensor(key).1 {
            Numbers::Floats(values) => values,
            Numbers::Integers(_) => panic!("{}: {key} holds integers", self.name),
        }
    }

    pub(crate) fn integers(&self, key: &str) -> &[i64] {
        match &self.tensor(key).1 {
            Numbers::Integers(values) => values,
            Numbers::Floats(_) => panic!("{}: {key} holds floats", self.name),
        }
    }

    /// A parameter of the case as the manifest has it; null if it has none of that name.
    pub(crate) fn param(&self, name: &str) -> &Value {
        &self.manifest["params"][name]
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        self.param(name).as_f64().unwrap_or_else(|| panic!("{}: no number {name}", self.name))
    }

    pub(crate) fn size(&self, name: &str) -> usize {
        let size = self.param(name).as_u64().unwrap_or_else(|| panic!("{}: no size {name}", self.name));
        usize::try_from(size).unwrap()
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.param(name).as_bool().unwrap_or_else(|| panic!("{}: no flag {name}", self.name))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.param(name).as_str().unwrap_or_else(|| panic!("{}: no text {name}", self.name)).to_owned()
    }

    /// The largest absolute difference the manifest allows.
    pub(crate) fn tolerance(&self, key: &str) -> f64 {
        let name = format!("{}_atol", self.precision.folder());
        self.manifest["tensors"][key][&name].as_f64().unwrap_or_else(|| panic!("{}: {key} has no {name}", self.name))
    }

    /// Our numbers against those of the file, in its order.
    pub(crate) fn compare(&mut self, key: &str, ours: &[f64]) {
        let (name, precision, tolerance) = (&self.name, self.precision.folder(), self.tolerance(key));
        let theirs = self.floats(key);
        assert_eq!(ours.len(), theirs.len(), "{name} {precision} {key}: shape {:?}", self.shape(key));
        for (place, (&ours, &theirs)) in ours.iter().zip(theirs).enumerate() {
            let difference = (ours - theirs).abs();
            // Written so that NaN fails.
            assert!(
                difference <= tolerance,
                "{name} {precision} {key}[{place}]: {ours} is not {theirs}, off by {difference:e} of {tolerance:e} allowed"
            );
        }
        self.seen.insert(key.to_owned());
    }

    /// Complex numbers against `key.re` and `key.im`.
    pub(crate) fn compare_pair(&mut self, key: &str, ours: &[Complex<f64>]) {
        self.compare(&format!("{key}.re"), &ours.iter().map(|value| value.re).collect::<Vec<_>>());
        self.compare(&format!("{key}.im"), &ours.iter().map(|value| value.im).collect::<Vec<_>>());
    }

    pub(crate) fn compare_integers(&mut self, key: &str, ours: &[i64]) {
        assert_eq!(ours, self.integers(key), "{} {key}", self.name);
        self.seen.insert(key.to_owned());
    }

    fn finish(self) {
        let is_output = |key: &&String| !key.starts_with("in.") && !key.starts_with("cot.");
        let left: Vec<&String> =
            self.tensors.keys().filter(is_output).filter(|key| !self.seen.contains(*key)).collect();
        assert!(left.is_empty(), "{} {}: never compared: {left:?}", self.name, self.precision.folder());
    }
}

fn words<const N: usize, T>(data: &[u8], word: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|&bytes| word(bytes)).collect()
}

/// The text of every source file below a folder.
fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| match path.extension() {
        None if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => std::fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    };
    entries.map(text).collect()
}

#[test]
fn every_case_of_the_manifest_is_run_by_a_test() {
    let cases = cases(&folder()).1;
    for case in &cases {
        let of: Vec<_> = GROUPS.into_iter().filter(|group| name_of(case).starts_with(group)).collect();
        assert_eq!(of.len(), 1, "golden complex/{}: groups {of:?}, not one", name_of(case));
    }
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for group in GROUPS {
        assert_eq!(sources.matches(&format!("each(\"{group}\"")).count(), 1, "one test runs {group}");
    }
}
