//! Training on real digits. The data stay outside the project: without them the test says that it was skipped.

use std::path::{Path, PathBuf};

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::Split;
use serde_json::json;

use super::settings;

/// The folder of real data, if this machine has one.
fn data_dir() -> Option<PathBuf> {
    let folder = std::env::var_os("PACELINE_DATA")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
    folder.join("mnist").is_dir().then_some(folder)
}

#[test]
fn digits_are_learned() {
    let Some(folder) = data_dir() else {
        crate::announce("SKIPPED real_mnist: no ../shared/data/mnist beside the project, and PACELINE_DATA names none");
        return;
    };
    let family = paceline_tasks::build("image_mlp", &settings(json!({"data": "mnist"})), Some(&folder)).unwrap();
    let described = format!("{family:?}");
    assert!(described.contains("data mnist"), "{described}");
    let mut lanes = family.bind(&[Seed::new(1)]).unwrap();
    let mut params = lanes.init_params().unwrap();
    for step in 0..300 {
        let (_, grads) = lanes.loss_and_grads(&params, step).unwrap();
        for index in 0..params.layout().len() {
            let values = params.tensor_mut(index).iter_mut();
            values.zip(grads.tensor(index)).for_each(|(value, grad)| *value -= 0.5 * grad);
        }
    }
    let scores: Vec<_> = (0..7).map(|batch| lanes.evaluate(&params, Split::Test, batch).unwrap()[0]).collect();
    let accuracy = scores.iter().map(|score| score.accuracy.unwrap()).sum::<f32>() / 7.0;
    assert!(accuracy > 0.85, "{accuracy} after 300 steps of gradient descent");
}
