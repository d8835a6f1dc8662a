//! Settings of hand-designed optimizers and wrappers, as recipes write them.

use paceline_optimizer_core::Error;
use paceline_optimizer_core::optimizer::{Adafactor, Adam, OptimizerConfig};

use crate::optimizer_laws::configs;

#[test]
fn settings_survive_a_recipe_and_unknown_ones_are_refused() {
    for config in configs() {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<OptimizerConfig>(&text).unwrap(), config, "{text}");
        let mut json = serde_json::to_value(&config).unwrap();
        assert_eq!(serde_json::from_value::<OptimizerConfig>(json.clone()).unwrap(), config);
        json["lerning_rate"] = 3.into();
        let error = serde_json::from_value::<OptimizerConfig>(json).unwrap_err();
        assert!(error.to_string().contains("lerning_rate"), "{config:?}: {error}");
    }
    let off: OptimizerConfig = toml::from_str("kind = \"adafactor\"\nclipping_threshold = false").unwrap();
    assert_eq!(toml::from_str::<OptimizerConfig>(&toml::to_string(&off).unwrap()).unwrap(), off);
    assert!(matches!(off, OptimizerConfig::Adafactor(Adafactor { clipping_threshold: None, .. })));
}

#[test]
fn absent_settings_are_those_of_the_reference() {
    let read = |kind: &str| toml::from_str::<OptimizerConfig>(&format!("kind = \"{kind}\"")).unwrap();
    assert_eq!(read("adam"), OptimizerConfig::Adam(Adam::new(0.01)));
    let OptimizerConfig::AdamW(adam_w) = read("adamw") else { panic!("adamw is adam_w") };
    assert_eq!((adam_w.epsilon_root, adam_w.weight_decay), (0.0, 1e-4));
    let OptimizerConfig::NAdamW(nadamw) = read("nadamw") else { panic!() };
    assert_eq!((nadamw.learning_rate, nadamw.use_nesterov), (1e-4.into(), true));
    let OptimizerConfig::Adafactor(adafactor) = read("adafactor") else { panic!() };
    assert_eq!((adafactor.min_dim_size_to_factor, adafactor.clipping_threshold), (128, Some(1.0)));
    let clip = "kind = \"gradient_clip\"\n[inner]\nkind = \"sgd\"";
    let OptimizerConfig::GradientClip(clip) = toml::from_str(clip).unwrap() else { panic!() };
    assert_eq!(clip.grad_clip, 3.0);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    for (recipe, field) in [
        ("kind = \"sgd\"\nlearning_rate = nan", "learning_rate"),
        ("kind = \"sgdm\"\nmomentum = 1.5", "momentum"),
        ("kind = \"adam\"\nbeta2 = 1.0", "beta2"),
        ("kind = \"adam\"\nepsilon = -1.0", "epsilon"),
        (
            "kind = \"adam\"\n[learning_rate]\nkind = \"linear\"\ninit_value = 1\nend_value = 0\nsteps = 0",
            "learning_rate.steps",
        ),
        ("kind = \"adam_w\"\nweight_decay = -0.1", "weight_decay"),
        ("kind = \"rmsprop\"\ndecay = -0.1", "decay"),
        ("kind = \"lars\"\ntrust_coefficient = 0.0", "trust_coefficient"),
        ("kind = \"radam\"\nthreshold = 4.0", "threshold"),
        ("kind = \"sm3\"\nbeta2 = 1.1", "beta2"),
        ("kind = \"adafactor\"\ndecay_rate = 0.0", "decay_rate"),
        ("kind = \"adafactor\"\nclipping_threshold = 0.0", "clipping_threshold"),
        ("kind = \"muon\"\nadam_beta1 = 2.0", "adam_beta1"),
        ("kind = \"muon\"\niterations = 1000", "iterations"),
        ("kind = \"adam_sqrt_decay_lr\"\nlearning_rate = inf", "learning_rate.peak_value"),
        ("kind = \"piecewise_linear_adam\"\ntimes = [5, 5]", "learning_rate.times"),
        ("kind = \"gradient_clip\"\ngrad_clip = 0.0\ninner = { kind = \"sgd\" }", "grad_clip"),
        ("kind = \"global_norm_clip\"\nmax_norm = -1.0\ninner = { kind = \"sgd\" }", "max_norm"),
        ("kind = \"gradient_accumulation\"\nsteps = 0\ninner = { kind = \"sgd\" }", "steps"),
        ("kind = \"weight_decay\"\nweight_decay = nan\ninner = { kind = \"sgd\" }", "weight_decay"),
        ("kind = \"extend_time\"\nwarp = -1.0\ninner = { kind = \"sgd\" }", "warp"),
        ("kind = \"extend_time\"\nwarp = 1.0\ninner = { kind = \"sgdm\", momentum = 7.0 }", "momentum"),
    ] {
        let config: OptimizerConfig = toml::from_str(recipe).unwrap();
        match config.build() {
            Err(Error::Setting { field: named, .. }) => assert_eq!(named, field, "{recipe}"),
            other => panic!("{recipe}: {other:?}"),
        }
    }
}
