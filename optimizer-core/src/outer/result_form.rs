//! How a slot's result travels: as reports from which the coordinator rebuilds perturbations, or summed by the worker.
//!
//! ```text
//!  seed-coded   32 bytes a pair ──► redraw ε, weigh, add       costs normals and products, bytes hardly count
//!  dense        4·D bytes a slot ─► add                        costs bytes, on the wire and in the journal
//! ```
//!
//! What is cheaper for the coordinator is a pure function of sizes, so that worker, coordinator and whoever checks a recipe
//! decide alike. They must: a dense result is rounded to f32, so it folds to other bits than its seeds. The arithmetic is
//! sums, products and quotients in f64, which are the same on every host.

use std::fmt;

use super::{OuterConfig, Report};
use crate::estimator::EstimatorConfig;
use crate::params::Layout;
use crate::perturbation::TermCost;

/// Most values of a dense result: it is one message, of at most 16 MiB.
pub const MOST_DENSE_VALUES: usize = 4 << 20;

/// What the coordinator's work costs, in nanoseconds of one core of an AMD EPYC with AVX-512. `paceline bench fold` prints
/// the rates of normals and products on any machine.
///
/// Changing one may change what `auto` chooses: worker and coordinator must be of one release.
struct Price;

impl Price {
    /// One normal, drawn again.
    const NORMAL: f64 = 3.4;
    /// One multiply-add into a sum as long as theta, while its block is in cache: what a dense fold takes beyond its
    /// normals.
    const ADD: f64 = 0.15;
    /// One multiply-add inside a product of low-rank columns, or inside a Gram matrix.
    const PRODUCT: f64 = 0.05;
    /// One byte of a dense result, journalled: encoded, cut into sled's chunks with checksums, flushed. 9 to 18 on a busy
    /// machine (`cargo run --release -p paceline-coordinator --example journal_timing`).
    const JOURNALLED_BYTE: f64 = 15.0;
    /// One byte on the wire, at 1 Gbit/s; assumed, not measured.
    const SENT_BYTE: f64 = 8.0;
    /// One value of a dense result, checked and added to a sum in memory; a guess that hardly counts beside its bytes.
    const DENSE_VALUE: f64 = 1.0;
}

/// Bytes of one pair's report: four numbers.
const PAIR_BYTES: f64 = 32.0;

/// How the results of a run travel, and what either form costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResultForm {
    /// Whether results travel dense.
    pub dense: bool,
    /// What the recipe asks for.
    pub asked: Report,
    /// Nanoseconds of the coordinator for one seed-coded slot.
    pub seed_coded_cost: f64,
    /// Nanoseconds of the coordinator for one dense slot.
    pub dense_cost: f64,
    /// Whether theta is too long for a dense result.
    pub too_long: bool,
}

impl ResultForm {
    /// For a run of these settings, with a theta of this layout.
    pub fn of(outer: &OuterConfig, estimator: &EstimatorConfig, layout: &Layout) -> Self {
        let (pairs, size) = (f64::from(outer.pairs_per_slot), layout.size() as f64);
        let byte = Price::JOURNALLED_BYTE + Price::SENT_BYTE;
        let terms = estimator.kind.mean_terms(estimator.horizon.min(), estimator.horizon.max());
        let TermCost { normals, adds, products } = estimator.noise.term_cost(outer.pairs_per_slot, layout);
        let redraw = normals * Price::NORMAL + adds * Price::ADD + products * Price::PRODUCT;
        let seed_coded_cost = pairs * (PAIR_BYTES * byte + terms * redraw);
        let dense_cost = size * (4.0 * byte + Price::DENSE_VALUE);
        let too_long = layout.size() > MOST_DENSE_VALUES;
        let dense = match outer.report {
            // Seeds travel when both cost the same.
            Report::Auto => dense_cost < seed_coded_cost && !too_long,
            Report::SeedCoded => false,
            Report::Dense => true,
        };
        Self { dense, asked: outer.report, seed_coded_cost, dense_cost, too_long }
    }

    /// The name of the form.
    pub fn name(&self) -> &'static str {
        if self.dense { "dense" } else { "seed-coded" }
    }
}

impl fmt::Display for ResultForm {
    /// The form and why, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |cost: f64| cost / 1e6;
        let (seeds, dense) = (milliseconds(self.seed_coded_cost), milliseconds(self.dense_cost));
        write!(f, "{}: ", self.name())?;
        match self.asked {
            Report::SeedCoded | Report::Dense => write!(f, "the recipe says so")?,
            Report::Auto if self.too_long => write!(f, "theta is too long for one message")?,
            Report::Auto => write!(f, "cheaper for the coordinator")?,
        }
        write!(f, " (about {seeds:.3} ms a slot from seeds, {dense:.3} ms dense)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimator::{EstimatorKind, MetaLoss};
    use crate::outer::ThetaOptimizer;
    use crate::params::TensorSpec;
    use crate::perturbation::Noise;
    use crate::schedule::HorizonSchedule;

    const WHOLE: EstimatorKind = EstimatorKind::FullEs { loss: MetaLoss::Average };
    const PES: EstimatorKind = EstimatorKind::Pes { window: 50 };

    fn form(report: Report, pairs_per_slot: u32, kind: EstimatorKind, noise: Noise, shape: &[usize]) -> ResultForm {
        let outer = OuterConfig {
            steps: 1,
            slots: 1,
            pairs_per_slot,
            optimizer: ThetaOptimizer::default(),
            clip: None,
            clip_norm: None,
            accumulation: 1,
            report,
        };
        let horizon = HorizonSchedule::LogUniform { min: 500, max: 2000 };
        let estimator = EstimatorConfig { noise, ..EstimatorConfig::new(kind, 0.01, horizon) };
        let layout = crate::Layout::new(vec![TensorSpec::new("m", shape)]).unwrap();
        ResultForm::of(&outer, &estimator, &layout)
    }

    #[test]
    fn the_cheaper_form_travels() {
        let large = [1024, 2048];
        let dense = |pairs, kind, noise, shape: &[usize]| form(Report::Auto, pairs, kind, noise, shape).dense;
        // A few pairs of Full ES are cheap to rebuild, many are not, and neither are the many terms of PES …
        assert!(!dense(8, WHOLE, Noise::Dense, &large) && dense(64, WHOLE, Noise::Dense, &large));
        assert!(dense(8, PES, Noise::Dense, &large));
        // … unless they are low-rank. Orthogonal ones cost the more the more pairs there are.
        assert!(!dense(64, PES, Noise::LowRank { rank: 1 }, &large));
        assert!(dense(20, WHOLE, Noise::Orthogonal, &large) && !dense(20, WHOLE, Noise::Dense, &large));
        // A theta of few values, whatever its estimator.
        assert!(dense(16, WHOLE, Noise::Dense, &[7]) && !dense(1, WHOLE, Noise::Dense, &[1000]));
        // No message holds it.
        assert!(form(Report::Auto, 64, WHOLE, Noise::Dense, &[5 << 20]).to_string().contains("too long"));
        assert!(!dense(64, WHOLE, Noise::Dense, &[5 << 20]));
    }

    #[test]
    fn a_recipe_has_the_last_word_and_a_line_says_why() {
        let asked = |report| form(report, 16, PES, Noise::Dense, &[1024, 2048]);
        assert!(asked(Report::Dense).dense && !asked(Report::SeedCoded).dense);
        assert_eq!(asked(Report::SeedCoded).name(), "seed-coded");
        assert!(asked(Report::SeedCoded).to_string().starts_with("seed-coded: the recipe says so"));
        let line = asked(Report::Auto).to_string();
        assert!(line.starts_with("dense: cheaper for the coordinator (about "), "{line}");
    }

    #[test]
    fn costs_add_up() {
        let got = form(Report::Auto, 4, WHOLE, Noise::Dense, &[1000]);
        assert!((got.seed_coded_cost - 4.0 * (32.0 * 23.0 + 1000.0 * 3.55)).abs() < 1e-6, "{got:?}");
        assert!((got.dense_cost - 1000.0 * 93.0).abs() < 1e-6, "{got:?}");
        let got = form(Report::Auto, 4, WHOLE, Noise::LowRank { rank: 2 }, &[100, 200]);
        let redraw = 600.0 * 3.4 + 40_000.0 * 0.05;
        assert!((got.seed_coded_cost - 4.0 * (32.0 * 23.0 + redraw)).abs() < 1e-6, "{got:?}");
        // Each raw vector is drawn for the Gram matrix and again for the sum.
        let got = form(Report::Auto, 4, WHOLE, Noise::Orthogonal, &[1000]);
        let redraw = 2000.0 * 3.4 + 1000.0 * 0.15 + 2.5 * 1000.0 * 0.05;
        assert!((got.seed_coded_cost - 4.0 * (32.0 * 23.0 + redraw)).abs() < 1e-6, "{got:?}");
        // Windows of 50 in trajectories around 1250: 25 windows, 13 terms on average.
        let many = form(Report::Auto, 4, PES, Noise::Dense, &[1000]).seed_coded_cost;
        assert!((many - 4.0 * (32.0 * 23.0 + 13.0 * 1000.0 * 3.55)).abs() < 1e-6, "{many}");
    }
}
