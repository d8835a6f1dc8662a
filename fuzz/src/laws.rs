//! What must hold of every reader, whatever the bytes: it returns, and what it accepts it can write and read again.

use std::sync::LazyLock;

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::checkpoint::Checkpoint;
use paceline_optimizer_core::interchange::{
    Description, Form, Imported, Source, import, write_flax, write_safetensors,
};
use paceline_optimizer_core::learned::LearnedOptimizerConfig;

/// A reader and the laws it keeps.
pub type Law = fn(&[u8]);

/// The three readers by name.
pub const LAWS: [(&str, Law); 3] = [("msgpack", msgpack), ("gin", gin), ("safetensors", safetensors)];

/// Optimizers whose theta is looked for.
static OPTIMIZERS: LazyLock<Vec<LearnedOptimizerConfig>> = LazyLock::new(|| {
    let settings = [
        r#"{"kind":"learnable_adam"}"#,
        r#"{"kind":"adafac_mlp","hidden_size":1,"hidden_layers":1}"#,
        r#"{"kind":"adafac_mlp"}"#,
        r#"{"kind":"hyper_v2","lstm_hidden_size":1,"param_inits":1,"ff_hidden_size":1,"ff_hidden_layers":1}"#,
        r#"{"kind":"hyper_v2","lstm_hidden_size":16,"param_inits":8}"#,
        r#"{"kind":"mlp","hidden_size":1,"hidden_layers":1}"#,
        r#"{"kind":"celo2","form":"base"}"#,
        r#"{"kind":"celo2","form":"shipped","learning_rate":0.001}"#,
    ];
    settings.iter().map(|text| serde_json::from_str(text).expect("settings of an optimizer")).collect()
});

/// A flax file, told to be of each optimizer, and of none.
pub fn msgpack(bytes: &[u8]) {
    let told = OPTIMIZERS.iter().map(Description::Settings);
    for description in told.chain([Description::None]) {
        if let Ok(imported) = import(bytes, description) {
            comes_back(imported);
        }
    }
}

/// A gin file beside a whole theta.
pub fn gin(bytes: &[u8]) {
    static THETA: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let optimizer = OPTIMIZERS[0].clone();
        let theta = optimizer.build().expect("built").init_theta(Seed::new(1));
        let (source, run, outer_step) = (Source::Safetensors, String::new(), 0);
        let whole = checkpoint(Imported { source, optimizer, theta, run, outer_step, ignored: vec![] });
        write_flax(&whole).expect("written").theta
    });
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(imported) = import(&THETA, Description::Gin(text)) {
        comes_back(imported);
    }
}

/// A checkpoint, or a plain theta told to be of each optimizer, and of none.
pub fn safetensors(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::from_bytes(bytes) {
        let again = checkpoint.to_bytes().expect("what was read can be written");
        assert!(Checkpoint::from_bytes(&again).expect("and read") == checkpoint, "a checkpoint came back changed");
    }
    msgpack(bytes);
}

/// An imported theta leaves in every form and comes back the same.
fn comes_back(imported: Imported) {
    let (optimizer, theta) = (imported.optimizer.clone(), imported.theta.clone());
    let original = checkpoint(imported);
    let flax = write_flax(&original).expect("what was imported can be exported");
    let plain = write_safetensors(&original).expect("and as safetensors");
    let described = flax.gin.as_deref().map_or(Description::Settings(&optimizer), Description::Gin);
    for (bytes, description) in [(&flax.theta, described), (&plain, Description::None)] {
        let again = import(bytes, description).expect("and imported again");
        assert!(again.optimizer == optimizer && again.theta == theta, "a theta came back changed");
        let named = again.source != Source::Flax(Form::Theta);
        assert!(!named || again.outer_step == original.state.outer_step, "a step came back changed");
        assert!(!named || again.run == original.meta.run, "a name came back changed");
    }
}

fn checkpoint(imported: Imported) -> Checkpoint {
    imported.into_checkpoint("0".repeat(64), "fuzz".into())
}
