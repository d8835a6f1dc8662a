//! What a recipe can get wrong is refused with the name of the setting or file.

use std::path::Path;

use paceline_tasks::Error;
use serde_json::json;

use super::settings;

#[test]
fn impossible_settings_are_refused_by_name() {
    let cases = [
        ("image_mlp", json!({"image_sise": 8}), "image_sise"),
        ("image_mlp", json!({"image_size": 0}), "image_size"),
        ("image_mlp", json!({"image_size": 65}), "image_size"),
        ("image_mlp", json!({"batch_size": 8, "image_size": -1}), "image_size: invalid value: integer `-1`"),
        ("image_mlp", json!({"hidden": [8, "a"]}), "hidden: invalid type"),
        ("image_mlp", json!({"hidden": [32, 0]}), "hidden"),
        ("image_mlp", json!({"hidden": vec![1; 17]}), "hidden"),
        ("image_mlp", json!({"hidden": [100_000]}), "hidden"),
        ("image_mlp", json!({"hidden": [16_000, 16_000]}), "hidden makes"),
        ("image_mlp", json!({"batch_size": 0}), "batch_size"),
        ("image_mlp", json!({"batch_size": 8001}), "batch_size"),
        ("image_mlp", json!({"data": "imagenet"}), "data: unknown variant `imagenet`"),
        ("image_conv", json!({"channels": []}), "channels"),
        ("image_conv", json!({"channels": [0]}), "channels"),
        ("image_conv", json!({"channels": [16_000, 16_000]}), "channels makes"),
        ("image_conv", json!({"channels": [4, 4, 4], "max_pool": true, "image_size": 3}), "image_size"),
        ("image_conv", json!({"hidden": [4]}), "hidden"),
        ("quadratic", json!({"dim": 1}), "dim"),
        ("quadratic", json!({"dim": 513}), "dim"),
        ("quadratic", json!({"condition": 0.5}), "condition"),
        ("quadratic", json!({"form": "cubic"}), "form: unknown variant `cubic`"),
        ("quadratic", json!({"noise": -0.1}), "noise"),
        ("quadratic", json!({"start": 1e9}), "start"),
        ("quadratic", json!({"centre": "far"}), "centre: invalid type"),
        ("rosenbrock", json!({"steepness": 0.0}), "steepness"),
        ("rosenbrock", json!({"condition": 2.0}), "condition"),
        ("saddle", json!({"dim": 3}), "dim must be even"),
        ("saddle", json!({"form": "plateau", "dim": 0}), "dim"),
        ("learned_optimizer", json!({"task": "learned_optimizer"}), "task must be another family"),
        ("learned_optimizer", json!({"task": "image_mpl"}), "task: no task family"),
        ("learned_optimizer", json!({"task_settings": {"hidden": [0]}}), "task_settings of image_mlp: each of hidden"),
        ("learned_optimizer", json!({"task_settings": 3}), "task_settings: invalid type"),
        ("learned_optimizer", json!({"steps": 0}), "steps"),
        ("learned_optimizer", json!({"tasks": 65}), "tasks"),
        ("learned_optimizer", json!({"pairs": 0}), "pairs"),
        ("learned_optimizer", json!({"sigma": 0.0}), "sigma"),
        ("learned_optimizer", json!({"spread": -1.0}), "spread"),
        ("learned_optimizer", json!({"optimizer": {"kind": "adam"}}), "optimizer: unknown variant `adam`"),
        ("learned_optimizer", json!({"optimizer": {"kind": "mlp", "hidden_size": 0}}), "optimizer: hidden_size"),
        ("graph_gcn", json!({"heads": 2}), "heads"),
        ("graph_gcn", json!({"hidden": [0]}), "hidden"),
        ("graph_gcn", json!({"dropout": 1.0}), "dropout"),
        ("graph_gcn", json!({"l2": -1.0}), "l2 must be 0 to 1 (got -1)"),
        ("graph_gcn", json!({"batch_size": 0}), "batch_size must be \"auto\", \"all\" or 1 to 80"),
        ("graph_gcn", json!({"batch_size": 81}), "(got 81)"),
        ("graph_gcn", json!({"batch_size": "some"}), "batch_size"),
        ("graph_gcn", json!({"data": "mnist"}), "data: unknown variant `mnist`"),
        ("graph_gcn", json!({"graph": "lane"}), "graph: unknown variant `lane`"),
        ("graph_gcn", json!({"graph": "task", "data": "cora"}), "graph = \"task\""),
        ("graph_gcn", json!({"nodes": 39}), "nodes must be 40"),
        ("graph_sage", json!({"p_in": 2.0}), "p_in must be 0 to 1 (got 2)"),
        ("graph_sage", json!({"activation": []}), "activation must list at least one"),
        ("graph_gat", json!({"heads": 0}), "heads"),
        ("graph_gat", json!({"hidden": [8_192], "heads": 4}), "hidden times heads"),
        ("graph_molecules", json!({"atoms": 7}), "atoms must be 8 to 64 (got 7)"),
        ("graph_molecules", json!({"rounds": 0}), "rounds must be 1 to 16 (got 0)"),
        ("graph_molecules", json!({"width": 0}), "width"),
        ("graph_molecules", json!({"target": "mass"}), "target: unknown variant `mass`"),
        ("graph_molecules", json!({"readout": "median"}), "readout: unknown variant `median`"),
        ("graph_molecules", json!({"batch_size": 4_001}), "batch_size must be 1 to 4000"),
        ("image_mlp", json!({"loss": "hinge"}), "loss: unknown variant `hinge`"),
        ("image_resnet", json!({"normaliser": "none"}), "normaliser: unknown variant `none`"),
        ("image_ae", json!({"loss": "cross_entropy"}), "loss: unknown variant"),
        ("image_ae", json!({"hidden": [32, 0]}), "hidden must be 1 to"),
        ("image_ae", json!({"batch_size": 8001}), "batch_size must be 1 to 8000"),
        ("image_ae", json!({"centered": true}), "centered"),
        ("image_ae", json!({"squashed": "tanh"}), "squashed: invalid type"),
        ("image_ae", json!({"activation": []}), "activation must list"),
        ("image_vae", json!({"latent": 0}), "latent must be 1 to"),
        ("image_vae", json!({"latent": 16_385}), "latent must be 1 to"),
        ("image_vae", json!({"encoder": [0]}), "encoder must be 1 to"),
        ("image_vae", json!({"decoder": [0]}), "decoder must be 1 to"),
        ("image_vae", json!({"decoder": [16_000, 16_000]}), "encoder, decoder makes"),
        ("image_vae", json!({"initial_scale": 0}), "initial_scale must be positive"),
        ("text_rnn", json!({"data": "wikipedia"}), "data: unknown variant `wikipedia`"),
        ("text_rnn", json!({"data": "file", "file": "../passwd"}), "file must be the name of a file"),
        ("text_rnn", json!({"tokens": "bytes"}), "tokens: unknown variant `bytes`"),
        ("text_rnn", json!({"tokens": "pieces"}), "vocab must be given for pieces"),
        ("text_rnn", json!({"vocab": 1}), "vocab must be 2 to 32768 (got 1)"),
        ("text_rnn", json!({"vocab": 32_769}), "vocab must be 2 to 32768 (got 32769)"),
        ("text_rnn", json!({"cell": "elman"}), "cell: unknown variant `elman`"),
        ("text_rnn", json!({"cell": "irnn", "identity_gain": 1e39}), "identity_gain must be a number"),
        ("text_rnn", json!({"hidden": 0}), "hidden, embed must be 1 to"),
        ("text_rnn", json!({"embed": 16_385}), "hidden, embed must be 1 to"),
        ("text_rnn", json!({"hidden": 16_000}), "hidden makes"),
        ("text_rnn", json!({"sequence": 0}), "sequence: a window must have at least 1 token"),
        ("text_rnn", json!({"sequence": 10_000}), "a sequence of up to 9999"),
        ("text_rnn", json!({"batch_size": 0}), "batch_size must be 1 to 159984"),
        ("text_rnn", json!({"initialiser": []}), "initialiser must list"),
        ("text_rnn", json!({"activation": "relu"}), "activation"),
        ("text_transformer", json!({"heads": 3}), "heads must divide width 16 (got 3)"),
        ("text_transformer", json!({"heads": 0}), "heads must divide width 16 (got 0)"),
        ("text_transformer", json!({"layers": 17}), "layers may be up to 16"),
        ("text_transformer", json!({"mlp": 0}), "mlp must be 1 to"),
        ("text_transformer", json!({"width": 16_000, "heads": 1}), "width makes"),
        ("text_transformer", json!({"dropout": 1.0}), "dropout must be at least 0 and below 1"),
        ("text_transformer", json!({"sequence": 10_000}), "a sequence of up to 9999"),
        ("text_transformer", json!({"vocab": 0}), "vocab must be 2 to 32768 (got 0)"),
        ("image_complex", json!({"activation": "tanh"}), "activation: unknown variant `tanh`"),
        ("image_complex", json!({"kernel": 0}), "kernel"),
        ("image_complex", json!({"kernel": 6}), "kernel 6 leaves nothing of 16 × 16"),
        ("image_complex", json!({"channels": [4]}), "channels: invalid length 1"),
        ("image_complex", json!({"channels": [4, 0]}), "channels"),
        ("image_complex", json!({"hidden": 0}), "hidden"),
        ("image_complex", json!({"noise": -1e9}), "noise"),
        ("image_complex", json!({"imaginary": 11}), "imaginary"),
        ("image_complex", json!({"rotation": 1e9}), "rotation"),
        ("image_complex", json!({"input": "turn"}), "input: unknown variant `turn`"),
        ("image_complex", json!({"perturb": "test"}), "perturb"),
        ("image_complex", json!({"init": "he"}), "init"),
        ("image_complex", json!({"net": "real", "activation": "siglog"}), "activation Siglog"),
        ("image_complex", json!({"batch_size": 8001}), "batch_size"),
        ("audio_complex", json!({"features": "mfcc"}), "features: unknown variant `mfcc`"),
        ("audio_complex", json!({"n_fft": 3}), "n_fft"),
        ("audio_complex", json!({"hop": 0}), "hop"),
        ("audio_complex", json!({"n_mfcc": 14}), "n_mfcc"),
        ("audio_complex", json!({"frames": 0}), "frames"),
        ("audio_complex", json!({"frames": 2}), "kernel 2 leaves nothing of 13 × 2"),
        ("audio_complex", json!({"augmented": 65}), "augmented"),
        ("audio_complex", json!({"batch_size": 1025}), "batch_size"),
        ("audio_graph", json!({"edges": "phases"}), "edges: unknown variant `phases`"),
        ("audio_graph", json!({"features": "workflow1"}), "edges need features"),
        ("audio_real", json!({"activation": "siglog"}), "activation"),
        ("complex_phase_sum", json!({"inputs": 0}), "inputs"),
        ("complex_phase_sum", json!({"terms": 17}), "terms must be 1 to 16"),
        ("complex_phase_sum", json!({"sectors": 1}), "sectors"),
        ("complex_phase_sum", json!({"batch_size": 5000}), "batch_size"),
        ("complex_delay", json!({"kernel": 25}), "kernel must be 1 to 24"),
        ("complex_delay", json!({"noise": -0.1}), "noise"),
        ("complex_delay", json!({"channels": 0}), "channels"),
        ("complex_mobius", json!({"pole": 1.0}), "pole"),
        ("complex_mobius", json!({"hidden": [0]}), "hidden"),
        ("complex_bn_stress", json!({"apart": 2.0}), "apart"),
        ("complex_bn_stress", json!({"classes": 1}), "classes"),
        ("complex_bn_stress", json!({"batch_size": 1}), "batch_size"),
    ];
    for (family, value, expected) in cases {
        let error = paceline_tasks::build(family, &settings(value.clone()), None).unwrap_err();
        assert!(matches!(&error, Error::Setting { family: at, .. } if at == family), "{value}: {error:?}");
        assert!(error.to_string().contains(expected), "{value}: {error}");
    }
}

#[test]
fn an_unknown_family_is_answered_with_the_known_ones() {
    let error = paceline_tasks::build("image_mpl", &settings(json!({})), None).unwrap_err().to_string();
    assert!(error.contains("image_mpl") && error.contains("image_mlp") && error.contains("image_conv"), "{error}");
}

#[test]
fn real_data_that_are_not_there_are_named_with_a_cure() {
    let empty = tempfile::tempdir().unwrap();
    for (data, folder) in [("mnist", "mnist"), ("fashion_mnist", "fashion_mnist"), ("cifar10", "cifar10")] {
        for data_dir in [None, Some(empty.path())] {
            let error = paceline_tasks::build("image_mlp", &settings(json!({"data": data})), data_dir).unwrap_err();
            assert!(matches!(error, Error::Data { .. }), "{error:?}");
            let error = error.to_string();
            assert!(error.contains(folder) && error.contains("procedural"), "{error}");
        }
        let one = empty.path().join(folder);
        std::fs::create_dir(&one).unwrap();
        let error = paceline_tasks::build("image_mlp", &settings(json!({"data": data})), Some(empty.path()));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(folder) && error.contains("put the"), "an empty folder: {error}");
    }
}

#[test]
fn a_data_folder_that_is_none_is_refused_whatever_the_data() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for data in ["procedural", "auto", "mnist"] {
        for data_dir in [Path::new("/nowhere"), file.path()] {
            let error = paceline_tasks::build("image_mlp", &settings(json!({"data": data})), Some(data_dir));
            let error = error.expect_err("a mistyped folder must not train on other data");
            assert!(matches!(&error, Error::Data { path, .. } if path == data_dir), "{data}: {error:?}");
        }
    }
}

#[test]
fn auto_says_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let auto = settings(json!({"data": "auto", "image_size": 4, "batch_size": 20}));
    for data_dir in [None, Some(folder.path())] {
        let family = paceline_tasks::build("image_mlp", &auto, data_dir).unwrap();
        assert!(format!("{family:?}").contains("data procedural"), "{family:?}");
    }
    write_mnist(&folder.path().join("mnist"), "t10k", 100);
    let family = paceline_tasks::build("image_mlp", &auto, Some(folder.path())).unwrap();
    let described = format!("{family:?}");
    assert!(described.contains("data mnist (test files only)") && described.contains("80/5/5/10"), "{described}");
    drop(family);
    write_mnist(&folder.path().join("mnist"), "train", 50);
    let family = paceline_tasks::build("image_mlp", &auto, Some(folder.path())).unwrap();
    let described = format!("{family:?}");
    assert!(described.contains("data mnist from") && described.contains("40/5/5/100"), "{described}");

    let too_large = settings(json!({"data": "mnist", "image_size": 6}));
    let error = paceline_tasks::build("image_mlp", &too_large, Some(folder.path())).unwrap_err().to_string();
    assert!(error.contains("image_size must be 1 to 5"), "{error}");
}

/// Random 5×5 images in the format of MNIST.
fn write_mnist(folder: &Path, part: &str, count: u32) {
    std::fs::create_dir_all(folder).expect("create a folder");
    let header = |sizes: &[u32]| {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend_from_slice(&size.to_be_bytes()));
        bytes
    };
    let (mut images, mut labels) = (header(&[count, 5, 5]), header(&[count]));
    images.extend((0..count * 25).map(|i| (i * 37 % 251) as u8));
    labels.extend((0..count).map(|i| (i % 10) as u8));
    std::fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).expect("write images");
    std::fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).expect("write labels");
}
