//! Which learned optimizers the kernels know, and their settings as the kernels read them.

use paceline_optimizer_core::Layout;
use paceline_optimizer_core::learned::{
    AdafacMlpConfig, Celo2Base, Celo2Config, Celo2Rule, LearnedOptimizer, LearnedOptimizerConfig, WeightLayout,
};

use super::NotOnDevice;
use super::layout::THREADS;

mod hyper_v2;

/// A learned optimizer whose update is a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceRule {
    /// Of the kernels: `NAME_update`, `NAME_window`.
    pub name: &'static str,
    /// Units of a hidden layer.
    units: usize,
    /// Element channels.
    channels: usize,
    /// Floats of `Workspace` in `kernels/network.cuh`.
    workspace: usize,
    /// `Settings` of the kernel.
    pub settings: Vec<f32>,
    /// Where what the kernel reads of theta stands within a lane of it.
    pub place: Vec<u32>,
    /// Of a hypernetwork, if there is one.
    hyper: Option<hyper_v2::HyperSizes>,
}

/// Floats that a lane needs because of its learned optimizer, beside what each tensor needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Slots that belong to no tensor, behind those of the tensors.
    pub slots: usize,
    /// What the tensors are told in a step.
    pub advice: usize,
    /// Room while a step begins.
    pub scratch: usize,
}

impl DeviceRule {
    /// The kernel of this optimizer with its settings.
    ///
    /// # Errors
    /// [`NotOnDevice::Optimizer`] if there is none.
    pub fn new(optimizer: &dyn LearnedOptimizer) -> Result<Self, NotOnDevice> {
        match optimizer.config() {
            Some(LearnedOptimizerConfig::AdafacMlp(config)) => adafac_mlp(&config, optimizer.layout()),
            Some(LearnedOptimizerConfig::Celo2(Celo2Config::Base(config))) => celo2(&config, optimizer.layout()),
            Some(LearnedOptimizerConfig::HyperV2(config)) => hyper_v2::rule(&config, optimizer.layout()),
            Some(_) | None => refuse("the kernels know adafac_mlp, hyper_v2, and celo2 in its base form only"),
        }
    }

    /// For lanes of this layout: a hypernetwork is told how many axes of each tensor are longer than one.
    pub fn for_lanes(mut self, layout: &Layout) -> Self {
        if self.hyper.is_some() {
            let long = |shape: &[usize]| shape.iter().filter(|&&axis| axis > 1).count() as u32;
            self.place.extend(layout.tensors().iter().map(|tensor| long(tensor.shape())));
        }
        self
    }

    /// Floats of tables for a matrix of this many row and column values together.
    pub fn table_floats(&self, lines: usize) -> usize {
        (3 + self.units) * lines
    }

    /// Floats of what a block shares: the lane's optimizer.
    pub fn workspace_floats(&self) -> usize {
        self.workspace
    }

    /// What a lane of this many tensors needs beside them.
    pub fn kept(&self, tensors: usize) -> Kept {
        self.hyper.map(|sizes| sizes.kept(tensors)).unwrap_or_default()
    }

    /// Floats in which a block sums: all channels, of all threads.
    pub fn scratch_floats(&self) -> usize {
        (self.channels + 12) * THREADS as usize
    }

    /// A rule of a network `inputs-units-units-outputs` with `channels` element channels.
    fn sized(name: &'static str, [inputs, units, outputs, channels]: [usize; 4], settings: Vec<f32>) -> Self {
        let network = (inputs + 1) * units + (units + 1) * units + (units + 1) * outputs;
        // Decays (two floats each of seven), the step's bias, folded weights of channels and of moments, norms.
        let workspace = network + 14 + units + units * channels + units * 6 + channels + 12;
        Self { name, units, channels, workspace, settings, place: Vec::new(), hyper: None }
    }

    /// With the places of these tensors of theta, in this order.
    fn reading<'a>(mut self, layout: &Layout, tensors: impl IntoIterator<Item = &'a str>) -> Self {
        for name in tensors {
            let index = layout.index_of(name).expect("the layout was made from these settings");
            let first = layout.offset(index) as u32;
            self.place.extend(first..first + layout.tensors()[index].size() as u32);
        }
        self
    }
}

fn refuse<T>(why: &'static str) -> Result<T, NotOnDevice> {
    Err(NotOnDevice::Optimizer { why })
}

fn adafac_mlp(config: &AdafacMlpConfig, layout: &Layout) -> Result<DeviceRule, NotOnDevice> {
    if (config.hidden_size, config.hidden_layers, config.weights) != (4, 2, WeightLayout::Matrices) {
        return refuse("the kernel of adafac_mlp has two hidden layers of 4 units, and weights in matrices");
    }
    // As the CPU encodes them: rounded after the logarithm.
    let encoded = |decay: &f32| f64::from(1.0 - decay).ln() as f32 / 10.0;
    let momenta = config.initial_momentum_decays.iter();
    let decays = momenta.chain(&config.initial_rms_decays).chain(&config.initial_adafactor_decays);
    let settings = decays.map(encoded).chain([config.exp_mult, config.step_mult]).collect();
    let tensors = ["momentum_decays", "rms_decays", "adafactor_decays"];
    let network = ["nn/~/w0", "nn/~/b0", "nn/~/w1", "nn/~/b1", "nn/~/w2", "nn/~/b2"];
    Ok(DeviceRule::sized("adafac_mlp", [39, 4, 2, 16], settings).reading(layout, tensors.into_iter().chain(network)))
}

fn celo2(config: &Celo2Base, layout: &Layout) -> Result<DeviceRule, NotOnDevice> {
    let Celo2Base { step_mult, weight_decay, orthogonalize, rule } = config;
    let known = Celo2Rule {
        initial_momentum_decays: rule.initial_momentum_decays,
        initial_rms_decays: rule.initial_rms_decays,
        initial_adafactor_decays: rule.initial_adafactor_decays,
        exp_mult: rule.exp_mult,
        rmsmult: rule.rmsmult,
        ..Celo2Rule::default()
    };
    if *orthogonalize || *rule != known {
        return refuse("the kernel of celo2 knows the default rule, not orthogonalised, with other decays and factors");
    }
    let momenta = rule.initial_momentum_decays.into_iter();
    let decays = momenta.chain(rule.initial_rms_decays).chain(rule.initial_adafactor_decays);
    let settings = decays.chain([rule.exp_mult, rule.rmsmult, *step_mult, *weight_decay]).collect();
    let names: Vec<String> = (0..14)
        .map(|group| format!("w0__{group}"))
        .chain(["b0", "w1", "b1", "w2", "b2"].map(str::to_owned))
        .map(|name| format!("ff_mod_stack/~/{name}"))
        .collect();
    let rule = DeviceRule::sized("celo2", [30, 8, 3, 18], settings);
    Ok(rule.reading(layout, names.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(config: LearnedOptimizerConfig) -> Result<DeviceRule, NotOnDevice> {
        DeviceRule::new(&*config.build().unwrap())
    }

    fn celo2_base(base: Celo2Base) -> LearnedOptimizerConfig {
        LearnedOptimizerConfig::Celo2(Celo2Config::Base(base))
    }

    #[test]
    fn every_number_of_theta_is_read_once() {
        for (config, size) in [
            (LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()), 197),
            (celo2_base(Celo2Base::default()), 347),
        ] {
            let rule = rule(config).unwrap();
            let mut place = rule.place.clone();
            place.sort_unstable();
            assert_eq!(place, (0..size).collect::<Vec<u32>>(), "{}", rule.name);
        }
    }

    #[test]
    fn what_the_kernels_do_not_know_is_refused_with_the_reason() {
        let wide = AdafacMlpConfig { hidden_size: 32, ..AdafacMlpConfig::default() };
        let scalars = AdafacMlpConfig { weights: WeightLayout::Scalars, ..AdafacMlpConfig::default() };
        let orthogonal = Celo2Base { orthogonalize: true, ..Celo2Base::default() };
        let without_g = Celo2Rule { with_g: false, ..Celo2Rule::default() };
        let ablated = Celo2Base { rule: without_g, ..Celo2Base::default() };
        for (config, why) in [
            (LearnedOptimizerConfig::AdafacMlp(wide), "4 units"),
            (LearnedOptimizerConfig::AdafacMlp(scalars), "matrices"),
            (LearnedOptimizerConfig::LearnableSgd, "adafac_mlp, hyper_v2, and celo2"),
            (celo2_base(orthogonal), "not orthogonalised"),
            (celo2_base(ablated), "default rule"),
        ] {
            let refused = rule(config).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
