//! Files of the JAX reference: read, matched with its trajectories, written again.

use std::path::{Path, PathBuf};

use paceline_optimizer_core::checkpoint::Checkpoint;
use paceline_optimizer_core::interchange::{
    Description, Form, Imported, Source, import, write_flax, write_safetensors,
};
use paceline_optimizer_core::learned::{AdafacMlpConfig, HyperV2Config, LearnedOptimizerConfig};
use paceline_optimizer_core::outer::OuterState;
use paceline_optimizer_core::{Error, Seed};
use serde::Deserialize;

use crate::golden;

/// The tolerances of `golden_optimizers`.
const PARAMETER_TOLERANCE: f32 = 5e-7;
const CHANGE_TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Case {
    file: String,
    num_steps: u32,
    steps: usize,
}

/// The folders named `flax_…` of one kind of golden vectors, with the name of their trajectory.
fn flax_folders(kind: &str) -> Vec<(PathBuf, String)> {
    let folder = crate::golden_folder(kind);
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_prefix("flax_")?.to_owned();
            Some((path, name))
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} holds no flax checkpoint", folder.display());
    found
}

fn import_folder(folder: &Path) -> (Imported, Vec<u8>) {
    let bytes = std::fs::read(folder.join("params")).unwrap();
    let gin = std::fs::read_to_string(folder.join("config.gin")).unwrap();
    let imported = import(&bytes, Description::Gin(&gin));
    (imported.unwrap_or_else(|error| panic!("{}: {error}", folder.display())), bytes)
}

fn checkpoint(imported: Imported) -> Checkpoint {
    imported.into_checkpoint("ab".repeat(32), "0.1.0".into())
}

/// Runs the imported optimizer beside the reference's trajectory.
fn follow(imported: &Imported, kind: &str, file: &str) -> golden::Followed {
    let folder = crate::golden_folder(kind);
    let cases: Vec<Case> = golden::cases(&folder);
    let case = cases.iter().find(|case| case.file == file).unwrap_or_else(|| panic!("no case {file}"));
    let optimizer = imported.optimizer.build().unwrap().bind(imported.theta.clone()).unwrap();
    golden::follow(optimizer.as_ref(), &golden::read(&folder.join(file)), case.num_steps, case.steps, file)
}

#[test]
fn imported_flax_checkpoints_follow_their_trajectories() {
    for (folder, name) in flax_folders("optimizers") {
        let (imported, _) = import_folder(&folder);
        let followed = follow(&imported, "optimizers", &format!("{name}.safetensors"));
        let (parameter, change) = (followed.parameter, followed.change);
        assert!(parameter.value <= PARAMETER_TOLERANCE, "{:e}: {}", parameter.value, parameter.place);
        assert!(change.value <= CHANGE_TOLERANCE, "{:e}: {}", change.value, change.place);
        crate::announce(&format!("imported {name}: worst parameter difference {:.1e}", parameter.value));
    }
}

#[test]
fn imported_and_exported_again_a_file_is_the_same() {
    for (folder, name) in flax_folders("optimizers") {
        let (imported, bytes) = import_folder(&folder);
        assert_eq!(imported.source, Source::Flax(Form::Checkpoint), "{name}");
        let again = write_flax(&checkpoint(imported.clone())).unwrap();
        assert_eq!(again.name, "params");
        assert!(again.theta == bytes, "{name}: params differ");
        let gin = again.gin.unwrap();
        let back = import(&again.theta, Description::Gin(&gin)).unwrap();
        assert_eq!(back.optimizer, imported.optimizer, "{name}: {gin}");
        assert!(back.ignored.is_empty(), "{:?}", back.ignored);
    }
}

#[test]
fn an_import_becomes_a_checkpoint_without_a_recipe() {
    let (folder, _) = flax_folders("optimizers").swap_remove(0);
    let (imported, _) = import_folder(&folder);
    let theta = imported.theta.clone();
    assert!(imported.outer_step > 0 && !imported.run.is_empty(), "the file says who trained it and for how long");
    let (step, run) = (imported.outer_step, imported.run.clone());
    let read = Checkpoint::from_bytes(&checkpoint(imported).to_bytes().unwrap()).unwrap();
    assert_eq!((read.state.theta, read.state.outer_step), (theta, step));
    assert_eq!((read.meta.recipe, read.meta.parent, read.meta.run), (None, Some("ab".repeat(32)), run));
}

/// Checkpoint of a fresh theta.
fn fresh(optimizer: &LearnedOptimizerConfig, run: &str, outer_step: u64) -> Checkpoint {
    let theta = optimizer.build().unwrap().init_theta(Seed::new(5));
    let source = Source::Safetensors;
    let (optimizer, run) = (optimizer.clone(), run.to_owned());
    let imported = Imported { source, optimizer, theta, run, outer_step, ignored: vec![] };
    checkpoint(imported)
}

#[test]
fn velo_s_size_has_velo_s_bytes_and_the_oldest_form_needs_no_description() {
    let oldest = HyperV2Config {
        lstm_hidden_size: 512,
        param_inits: 256,
        use_bugged_next_lstm_state: true,
        use_bugged_loss_features: true,
        ..HyperV2Config::default()
    };
    let optimizer = LearnedOptimizerConfig::HyperV2(oldest);
    let original = fresh(&optimizer, &"x".repeat(32), 5620);
    let flax = write_flax(&original).unwrap();
    // The size of VeLO's published `params`: theta, a run's name of 32 letters, a step of 16 bits.
    assert_eq!(flax.theta.len(), 9_282_564);
    let theta = &flax.theta["?params".len() + 1..][..9_282_507];
    let triple: Vec<u8> = [b"\x83\xa10", theta, b"\xa11\xa0\xa12\x00"].concat();
    let imported = import(&triple, Description::None).unwrap();
    assert_eq!((imported.source, &imported.optimizer), (Source::Flax(Form::Triple), &optimizer));
    assert_eq!((imported.run.as_str(), imported.outer_step), ("", 0));
    assert!(imported.theta == original.state.theta);
    assert_eq!(checkpoint(imported).meta.run, "imported-abababababab", "a checkpoint has a name");
}

#[test]
fn plain_safetensors_come_back_with_and_without_their_metadata() {
    let optimizer = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig { hidden_size: 3, ..AdafacMlpConfig::default() });
    let original = fresh(&optimizer, "run-7", 9);
    let bytes = write_safetensors(&original).unwrap();
    let imported = import(&bytes, Description::None).unwrap();
    assert_eq!((imported.source, &imported.optimizer), (Source::Safetensors, &optimizer));
    assert_eq!((imported.run.as_str(), imported.outer_step), ("run-7", 9));
    assert_eq!(imported.theta, original.state.theta);

    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("nn/~/w0").unwrap().shape(), [39, 3]);
    let bare = safetensors::serialize(file.tensors(), None).unwrap();
    assert!(matches!(import(&bare, Description::None), Err(Error::OptimizerUntold { .. })));
    let told = import(&bare, Description::Settings(&optimizer)).unwrap();
    assert_eq!((told.theta, told.run.as_str()), (original.state.theta.clone(), ""));

    let error = import(&original.to_bytes().unwrap(), Description::None).unwrap_err().to_string();
    assert!(error.contains("needs no import"), "{error}");
    let other = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default());
    let error = import(&bare, Description::Settings(&other)).unwrap_err().to_string();
    assert!(error.starts_with("nn/~/b0: expected F32 [4], found F32 [3]"), "{error}");
    let error = import(&bare, Description::Settings(&LearnedOptimizerConfig::LearnableAdam)).unwrap_err().to_string();
    assert!(
        error.contains("lacking \"log_epsilon\"") && error.contains("\"nn/~/w0\"") && error.contains("besides"),
        "{error}"
    );
}

/// A golden file with the first occurrence of some bytes replaced by as many.
fn patched(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|piece| piece == from).expect("it holds them");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let optimizer = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default());
    let bytes = write_flax(&fresh(&optimizer, "run-7", 9)).unwrap().theta;
    let refused = |bytes: &[u8], description: Description<'_>, words: &[&str]| {
        let error = import(bytes, description).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{error:?} should say {word:?}");
        }
    };
    let told = Description::Settings(&optimizer);
    refused(&patched(&bytes, b"\xa2b1", b"\xa2b7"), told, &["lacking \"nn/~/b1\"", "with \"nn/~/b7\" besides"]);
    refused(
        &patched(&bytes, b"\xa2b1", b"\xa2b0"),
        told,
        &["byte 1", "(nn/~): expected a key once, found \"b0\" again"],
    );
    refused(&patched(&bytes, b"float32", b"float16"), told, &["(adafactor_decays): expected float32", "\"float16\""]);
    refused(&patched(&bytes, b"\xa2b1", b"\xa2b\xff"), told, &["not UTF-8"]);
    refused(
        &patched(&bytes, b"\xa2nn\x81", b"\xa2nn\x92"),
        told,
        &["(nn): expected a dictionary, found an array of 2"],
    );
    refused(&bytes[..bytes.len() - 1], told, &["byte", "(step)"][..1]);
    refused(&[&bytes[..], b"\xc0"].concat(), told, &["expected the end, found 1 more bytes"]);
    refused(&[], told, &["byte 0: expected an item, 1 bytes more, found the end"]);
    let wider = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig { hidden_size: 5, ..AdafacMlpConfig::default() });
    refused(&bytes, Description::Settings(&wider), &["(nn/~/b0): expected shape [5], found shape [4]"]);
    refused(&bytes, Description::Settings(&LearnedOptimizerConfig::LearnableAdam), &["the 4 tensors", "\"nn\""]);
    assert!(matches!(import(&bytes, Description::None), Err(Error::OptimizerUntold { .. })));

    refused(&bytes, Description::Gin("a = 3"), &["gin: expected a binding of run_train.lopt"]);
    refused(&bytes, Description::Gin("run_train.lopt = @Sonnet()"), &["AdafacMLPLOpt", "\"Sonnet\""]);
    let gin = |line: &str| format!("{line}\nrun_train.lopt = @AdafacMLPLOpt()");
    for (line, words) in [
        ("AdafacMLPLOpt.hidden_sizes = 4", &["gin line 1 (AdafacMLPLOpt.hidden_sizes)", "does not have"][..]),
        ("AdafacMLPLOpt.hidden_size = 4.5", &["AdafacMLPLOpt", "4.5"]),
        ("AdafacMLPLOpt.hidden_size = @f", &["gin line 1", "found @f"]),
        ("AdafacMLPLOpt.hidden_size = 5", &["expected shape [5], found shape [4]"]),
        ("AdafacMLPLOpt.hidden_size = 5000", &["hidden_size", "5000"]),
    ] {
        refused(&bytes, Description::Gin(&gin(line)), words);
    }
}

#[test]
fn bindings_of_others_are_reported_and_harmless() {
    let optimizer = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default());
    let bytes = write_flax(&fresh(&optimizer, "run-7", 9)).unwrap().theta;
    let gin = "import x.y\nTruncatedPES.sigma = 0.01\nHyperV2.lstm_hidden_size = 3\nother/AdafacMLPLOpt.hidden_size = 9\n\
               AdafacMLPLOpt.initial_rms_decays = [0.999]\nrun_train.num_steps = %N\nrun_train.lopt = @AdafacMLPLOpt";
    let imported = import(&bytes, Description::Gin(gin)).unwrap();
    assert_eq!(imported.optimizer, optimizer);
    let ignored =
        ["TruncatedPES.sigma", "HyperV2.lstm_hidden_size", "other/AdafacMLPLOpt.hidden_size", "run_train.num_steps"];
    assert_eq!(imported.ignored, ignored);
}

#[test]
fn a_theta_that_is_not_finite_is_refused() {
    let optimizer = LearnedOptimizerConfig::LearnableAdam;
    let mut checkpoint = fresh(&optimizer, "run-7", 9);
    checkpoint.state = OuterState::new(checkpoint.state.theta);
    checkpoint.state.theta.values_mut()[2] = f32::NAN;
    let bytes = write_flax(&checkpoint).unwrap().theta;
    let error = import(&bytes, Description::Settings(&optimizer)).unwrap_err().to_string();
    assert!(error.contains("(one_minus_beta1): expected finite numbers, found NaN at index 0"), "{error}");
}

/// Settings of every kind with a class in the reference, none with only its defaults.
const EVERY_KIND: [&str; 16] = [
    r#"{"kind":"learnable_sgd"}"#,
    r#"{"kind":"learnable_sgdm"}"#,
    r#"{"kind":"learnable_adam"}"#,
    r#"{"kind":"nn_adam","lstm_hidden_size":5,"decay_strength":0.25,"initial_beta2":0.99}"#,
    r#"{"kind":"mlp","hidden_size":3,"exp_mult":0.1}"#,
    r#"{"kind":"rnn_mlp","hidden_layer":1,"lstm_to_ff":3,"decays":[0.1,0.2,0.3,0.4,0.7]}"#,
    r#"{"kind":"adafac_mlp","hidden_size":3,"hidden_layers":3,"initial_rms_decays":[0.95],"step_mult":0.33333334}"#,
    r#"{"kind":"adafac_mlp","hidden_size":3,"weights":"scalars"}"#,
    r#"{"kind":"mlp_nominal","hidden_size":2,"exp_mult":[0.1,0.2,0.3],"nominal_grad_estimator":"sgdm","nominal_controller":true}"#,
    r#"{"kind":"hyper_v2","lstm_hidden_size":3,"param_inits":2,"clip_param_scale_amount":0.05,"mix_layers":false}"#,
    r#"{"kind":"hyper_v2","lstm_hidden_size":3,"param_inits":2,"with_validation_feature_dim":true,"rnn_state_decay":1e-7}"#,
    r#"{"kind":"hyper_v2","lstm_hidden_size":3,"param_inits":2,"ff_mult":1,"with_rms":false}"#,
    r#"{"kind":"celo","lstm_hidden_size":3,"param_inits":2,"train_phase":2,"with_p":false}"#,
    r#"{"kind":"celo2","form":"base","orthogonalize":true,"rule":{"ff_hidden_size":3,"mlp_activation":"tanh","ns_iters":3}}"#,
    r#"{"kind":"celo2","form":"meta","regex_1d":"/b$|\\d'x","adam_b2":0.95,"rule":{"with_fac_rms":false}}"#,
    r#"{"kind":"celo2","form":"shipped","learning_rate":0.001,"orthogonalize":false}"#,
];

#[test]
fn every_kind_leaves_as_flax_with_gin_and_comes_back() {
    for settings in EVERY_KIND {
        let optimizer: LearnedOptimizerConfig = serde_json::from_str(settings).unwrap();
        let original = fresh(&optimizer, "run-7", 9);
        let flax = write_flax(&original).unwrap();
        let shipped = settings.contains("shipped");
        assert_eq!(flax.gin.is_none(), shipped, "only the chain that users write has no class");
        let gin = flax.gin.as_deref().unwrap_or_default();
        let description = if shipped { Description::Settings(&optimizer) } else { Description::Gin(gin) };
        let back = import(&flax.theta, description).unwrap_or_else(|error| panic!("{settings}: {error}\n{gin}"));
        assert_eq!(back.optimizer, optimizer, "{gin}");
        assert_eq!(back.theta, original.state.theta, "{settings}");
        assert!(back.ignored.is_empty(), "{:?}", back.ignored);
        if settings.contains("celo") {
            assert_eq!((flax.name, back.source), ("theta.state", Source::Flax(Form::Theta)));
        } else {
            assert_eq!((flax.name, back.run.as_str(), back.outer_step), ("params", "run-7", 9));
        }
        assert_eq!(
            gin.contains("ff_mult"),
            settings.contains("ff_mult"),
            "a fork's setting is written where it matters"
        );
        assert_eq!(write_flax(&checkpoint(back)).unwrap(), flax);
    }
}

/// A recipe's defaults and the reference's are the same, so a setting left out means the same in both.
#[test]
fn what_a_gin_file_leaves_out_is_what_a_recipe_leaves_out() {
    for settings in EVERY_KIND.iter().filter(|settings| !settings.contains("shipped")) {
        let optimizer: LearnedOptimizerConfig = serde_json::from_str(settings).unwrap();
        let mut value = serde_json::to_value(&optimizer).unwrap();
        value.as_object_mut().unwrap().retain(|key, _| key == "kind" || key == "form");
        let defaults: LearnedOptimizerConfig = serde_json::from_value(value).unwrap();
        let flax = write_flax(&fresh(&defaults, "run-7", 9)).unwrap();
        let gin = flax.gin.unwrap();
        let reference = gin.lines().last().unwrap();
        assert!(reference.starts_with("run_train.lopt = @"), "{reference}");
        assert_eq!(import(&flax.theta, Description::Gin(reference)).unwrap().optimizer, defaults);
    }
}

#[test]
fn the_fork_of_hyper_v2_has_its_own_default() {
    let settings = r#"{"kind":"hyper_v2","lstm_hidden_size":3,"param_inits":2}"#;
    let optimizer: LearnedOptimizerConfig = serde_json::from_str(settings).unwrap();
    let theta = write_flax(&fresh(&optimizer, "run-7", 9)).unwrap().theta;
    let gin = "HyperV2.lstm_hidden_size = 3\nHyperV2.param_inits = 2\nrun_train.lopt = @HyperV2()";
    let ff_mult = |gin: &str| match import(&theta, Description::Gin(gin)).unwrap().optimizer {
        LearnedOptimizerConfig::HyperV2(config) => config.ff_mult,
        other => panic!("{other:?}"),
    };
    assert_eq!(ff_mult(gin), 100.0);
    assert_eq!(ff_mult(&format!("from celo.optimizers import velo\n{gin}")), 1.0);
}

#[derive(Deserialize)]
struct CeloCase {
    file: String,
    num_steps: u32,
    steps: usize,
    config: serde_json::Map<String, serde_json::Value>,
    theta_state: Option<String>,
}

/// Files of the Celo family say nothing but theta: Celo is known by its shapes, Celo2's form must be told.
#[test]
fn imported_thetas_of_the_celo_family_follow_their_trajectories() {
    let folder = crate::golden_folder("celo");
    let cases: Vec<CeloCase> = golden::cases(&folder);
    let mut followed = 0;
    for CeloCase { file, num_steps, steps, mut config, theta_state } in cases {
        let Some(name) = theta_state else { continue };
        let bytes = std::fs::read(folder.join(&name)).unwrap();
        let class = config.remove("optimizer").unwrap();
        let imported = if class == "Celo" {
            import(&bytes, Description::None).unwrap()
        } else {
            assert!(matches!(import(&bytes, Description::None), Err(Error::OptimizerUntold { .. })), "{name}");
            let form = if class == "Celo2Base" { "base" } else { "meta" };
            config.extend([("kind".to_owned(), "celo2".into()), ("form".to_owned(), form.into())]);
            let settings: LearnedOptimizerConfig = serde_json::from_value(config.into()).unwrap();
            import(&bytes, Description::Settings(&settings)).unwrap()
        };
        let optimizer = imported.optimizer.build().unwrap().bind(imported.theta.clone()).unwrap();
        let stored = golden::read(&folder.join(&file));
        let golden::Followed { parameter, change, .. } =
            golden::follow(optimizer.as_ref(), &stored, num_steps, steps, &file);
        assert!(parameter.value <= PARAMETER_TOLERANCE, "{:e}: {}", parameter.value, parameter.place);
        assert!(change.value <= CHANGE_TOLERANCE, "{:e}: {}", change.value, change.place);
        crate::announce(&format!("imported {name}: worst parameter difference {:.1e}", parameter.value));

        let again = write_flax(&checkpoint(imported.clone())).unwrap();
        assert_eq!(again.name, "theta.state");
        assert!(again.theta == bytes, "{name} differs when it is exported again");
        let described = import(&again.theta, Description::Gin(&again.gin.unwrap())).unwrap();
        assert_eq!(described.optimizer, imported.optimizer, "the form travels beside theta");
        followed += 1;
    }
    assert!(followed > 0, "{} holds no theta.state", folder.display());
}
