//! Checkpoints: the round trip, and every way in which bytes may not be one.

use std::collections::HashMap;

use paceline_optimizer_core::checkpoint::{Checkpoint, CheckpointMeta, FORMAT};
use paceline_optimizer_core::learned::{AdafacMlpConfig, LearnedOptimizerConfig};
use paceline_optimizer_core::noise;
use paceline_optimizer_core::outer::{OuterState, StepSummary, Variance};
use paceline_optimizer_core::{Error, Seed};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// A state in the middle of a run, every number different.
fn checkpoint(optimizer: LearnedOptimizerConfig) -> Checkpoint {
    let mut state = OuterState::new(optimizer.build().unwrap().init_theta(Seed::new(3)));
    for (index, values) in [state.theta.values_mut(), &mut state.moment1, &mut state.moment2].into_iter().enumerate() {
        noise::normals(Seed::new(index as u64), 0, values);
    }
    state.moment2.iter_mut().for_each(|value| *value = value.abs());
    state.moment1[0] = -0.0;
    state.moment1[1] = f32::MIN_POSITIVE / 2.0;
    let mut draws = noise::Draws::new(Seed::new(9));
    state.pending.iter_mut().for_each(|value| *value = draws.uniform());
    (state.pending_steps, state.updates, state.outer_step) = (2, 5, u64::MAX);
    (state.inner_steps, state.diverged_lanes) = (1 << 60, 3);
    let variance = Variance { signal_to_noise: Some(-1e-3), antithetic_correlation: Some(1.0 / 3.0) };
    state.last = Some(StepSummary { meta_loss: 0.1 + 0.2, grad_norm: 1e-310, variance });
    let meta = CheckpointMeta {
        format: FORMAT,
        run: "tiny \"run\" \u{1f6b4}".into(),
        optimizer,
        recipe: Some(serde_json::json!({
            "tasks": [{"family": "image_mlp", "weight": 0.1}], "name": "tiny", "alpha": null
        })),
        parent: Some("ab".repeat(32)),
        code_version: "0.1.0".into(),
    };
    Checkpoint { meta, state }
}

fn small() -> Checkpoint {
    checkpoint(LearnedOptimizerConfig::LearnableAdam)
}

fn reason(bytes: &[u8]) -> String {
    match Checkpoint::from_bytes(bytes) {
        Err(Error::Checkpoint { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_round_trip_keeps_every_bit() {
    for original in [small(), checkpoint(LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()))] {
        let bytes = original.to_bytes().unwrap();
        let read = Checkpoint::from_bytes(&bytes).unwrap();
        assert_eq!(read, original);
        let bits = |checkpoint: &Checkpoint| checkpoint.state.moment1.iter().map(|m| m.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read), bits(&original), "−0 and subnormal numbers too");
        assert_eq!(read.to_bytes().unwrap(), bytes, "equal checkpoints are equal bytes");
    }
}

#[test]
fn any_tool_can_read_theta() {
    let original = checkpoint(LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()));
    let bytes = original.to_bytes().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let layout = original.state.theta.layout();
    for (index, tensor) in layout.tensors().iter().enumerate() {
        let view = file.tensor(&format!("theta/{}", tensor.name())).unwrap();
        assert_eq!(view.shape(), tensor.shape());
        let first = f32::from_le_bytes(view.data()[..4].try_into().unwrap());
        assert_eq!(first, original.state.theta.tensor(0, index)[0]);
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let mut bytes = small().to_bytes().unwrap();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            bytes[place] ^= 1 << bit;
            let result = Checkpoint::from_bytes(&bytes);
            assert!(
                matches!(result, Err(Error::Checkpoint { .. } | Error::CheckpointTooNew { .. })),
                "bit {bit} of byte {place}: {result:?}"
            );
            bytes[place] ^= 1 << bit;
        }
    }
    assert_eq!(Checkpoint::from_bytes(&bytes).unwrap(), small());
}

#[test]
fn a_file_cut_short_or_with_more_at_its_end_is_refused() {
    let mut bytes = small().to_bytes().unwrap();
    for length in 0..bytes.len() {
        reason(&bytes[..length]);
    }
    bytes.push(0);
    reason(&bytes);
    reason(&[0xFF; 64]);
}

/// The file with its metadata replaced, as a newer or foreign writer might have made it.
fn with_metadata(bytes: &[u8], edit: impl Fn(&str) -> String) -> Vec<u8> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let text = edit(&header.metadata().as_ref().unwrap()["paceline"]);
    let views: Vec<(String, TensorView<'_>)> = file.tensors();
    safetensors::serialize(views, Some(HashMap::from([("paceline".to_owned(), text)]))).unwrap()
}

#[test]
fn a_newer_format_is_told_apart_from_damage() {
    let bytes = small().to_bytes().unwrap();
    let newer = with_metadata(&bytes, |text| text.replace("\"format\":2,", "\"format\":7,"));
    let result = Checkpoint::from_bytes(&newer);
    assert!(matches!(result, Err(Error::CheckpointTooNew { found: 7, supported: FORMAT })), "{result:?}");
    let renamed = with_metadata(&bytes, |text| text.replace("image_mlp", "image_cnn"));
    assert!(reason(&renamed).contains("digest"));
    let foreign = with_metadata(&bytes, |_| "{}".into());
    assert!(reason(&foreign).contains("digest"));
}

#[test]
fn a_state_that_does_not_hold_together_is_not_written() {
    let refused = |edit: &dyn Fn(&mut Checkpoint), word: &str| {
        let mut checkpoint = small();
        edit(&mut checkpoint);
        let error = checkpoint.to_bytes().unwrap_err().to_string();
        assert!(error.contains(word), "{error} should say {word}");
    };
    refused(&|checkpoint| checkpoint.meta.format = 1, "format 1");
    refused(&|checkpoint| checkpoint.state.moment1.truncate(1), "outer/moment1");
    refused(&|checkpoint| checkpoint.state.pending[0] = f64::NAN, "outer/pending");
    refused(&|checkpoint| checkpoint.state.theta.values_mut()[0] = f32::INFINITY, "theta");
    let summary = StepSummary { meta_loss: f64::NAN, grad_norm: 0.0, variance: Variance::default() };
    refused(&|checkpoint| checkpoint.state.last = Some(summary), "last step");
}
