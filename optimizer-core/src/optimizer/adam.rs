//! Adam and AdamW (optax semantics; with the reference library's `epsilon_root` for Adam).
//!
//! ```text
//!  m ← β1 m + (1−β1) g        m̂ = m / (1 − β1ⁿ)
//!  v ← β2 v + (1−β2) g²       v̂ = v / (1 − β2ⁿ)        p ← p − lr · ( m̂ / (√(v̂ + eps_root) + eps) + wd · p )
//! ```

use serde::{Deserialize, Serialize};

use super::decay::Decay;
use super::rule::{Buffer, Moment, Rule};
use super::{OptState, Schedule, TensorSlots, moments, settings};
use crate::Result;
use crate::parallel::{Split, by_grains, grains, is_shared};
use crate::params::{Params, TensorSpec};
use crate::simd::{Kernel, Simd, WIDTH, dispatch};

/// Two slots a tensor: `m/NAME` and `v/NAME`.
pub(crate) const MOMENTS: TensorSlots = TensorSlots { prefixes: &["m", "v"] };

/// All numbers of one Adam step, for one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamRule {
    /// Step size.
    pub(crate) learning_rate: f32,
    /// First moment.
    pub(crate) beta1: Decay,
    /// Second moment.
    pub(crate) beta2: Decay,
    /// Added to the root.
    pub(crate) eps: f32,
    /// Added inside the root.
    pub(crate) eps_root: f32,
    /// Decoupled decay, times the learning rate.
    pub(crate) weight_decay: f32,
}

impl AdamRule {
    /// Updates one lane of a state whose slots are [`MOMENTS`]. Does not count the step.
    pub(crate) fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize) {
        let count = state.step[lane].saturating_add(1);
        for index in 0..grads.layout().len() {
            let [m, v] = &mut state.slots[2 * index..2 * index + 2] else { unreachable!("a slice of two slots") };
            let (m, v) = (m.lane_mut(lane), v.lane_mut(lane));
            self.update_tensor(count, state.params.lane_mut(index, lane), grads.lane(index, lane), m, v);
        }
    }

    /// Update number `count` (from 1) of one tensor.
    pub(crate) fn update_tensor(&self, count: u32, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let size = p.len();
        let nothing = &mut vec![(); grains(size)][..];
        by_grains(Elements { p, g, m, v }, nothing, is_shared(size), &|elements, _, (): &mut ()| {
            dispatch(Update { rule: self, count, elements });
        });
    }
}

/// Some elements of a tensor.
struct Elements<'a> {
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Split for Elements<'_> {
    fn split_at(self, middle: usize) -> (Self, Self) {
        let (p, p_behind) = self.p.split_at_mut(middle);
        let (g, g_behind) = self.g.split_at(middle);
        let (m, m_behind) = self.m.split_at_mut(middle);
        let (v, v_behind) = self.v.split_at_mut(middle);
        (Self { p, g, m, v }, Self { p: p_behind, g: g_behind, m: m_behind, v: v_behind })
    }
}

/// One division and one root for sixteen elements: bias corrections are multiplied in, as reciprocals.
struct Update<'r, 'a> {
    rule: &'r AdamRule,
    count: u32,
    elements: Elements<'a>,
}

impl Kernel for Update<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rule, count, elements: Elements { p, g, m, v } } = self;
        let numbers = Numbers {
            keep1: s.splat(rule.beta1.keep),
            take1: s.splat(rule.beta1.take),
            keep2: s.splat(rule.beta2.keep),
            take2: s.splat(rule.beta2.take),
            correction1: s.splat(1.0 / rule.beta1.collected(count)),
            correction2: s.splat(1.0 / rule.beta2.collected(count)),
            eps: s.splat(rule.eps),
            eps_root: s.splat(rule.eps_root),
            decay: s.splat(rule.weight_decay),
            back: s.splat(-rule.learning_rate),
        };
        // Arrays of a known length, so that nothing is masked.
        let (p, p_rest) = p.as_chunks_mut::<WIDTH>();
        let (g, g_rest) = g.as_chunks::<WIDTH>();
        let (m, m_rest) = m.as_chunks_mut::<WIDTH>();
        let (v, v_rest) = v.as_chunks_mut::<WIDTH>();
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let (new_p, new_m, new_v) = numbers.moved(s, s.load(p), s.load(g), s.load(m), s.load(v));
            s.store(new_p, p);
            s.store(new_m, m);
            s.store(new_v, v);
        }
        let (old_p, old_g) = (s.load_part(p_rest), s.load_part(g_rest));
        let (new_p, new_m, new_v) = numbers.moved(s, old_p, old_g, s.load_part(m_rest), s.load_part(v_rest));
        s.store_part(new_p, p_rest);
        s.store_part(new_m, m_rest);
        s.store_part(new_v, v_rest);
    }
}

/// All numbers of a step, sixteen times each.
struct Numbers<S: Simd> {
    keep1: S::Vector,
    take1: S::Vector,
    keep2: S::Vector,
    take2: S::Vector,
    correction1: S::Vector,
    correction2: S::Vector,
    eps: S::Vector,
    eps_root: S::Vector,
    decay: S::Vector,
    /// Minus the learning rate.
    back: S::Vector,
}

impl<S: Simd> Numbers<S> {
    /// New parameters, first and second moments.
    #[inline(always)]
    fn moved(&self, s: S, p: S::Vector, g: S::Vector, m: S::Vector, v: S::Vector) -> (S::Vector, S::Vector, S::Vector) {
        let m = s.fma(self.take1, g, s.mul(self.keep1, m));
        let v = s.fma(self.take2, s.mul(g, g), s.mul(self.keep2, v));
        let root = s.sqrt(s.fma(v, self.correction2, self.eps_root));
        let direction = s.div(s.mul(m, self.correction1), s.add(root, self.eps));
        (s.fma(self.back, s.fma(self.decay, p, direction), p), m, v)
    }
}

/// Adam (Kingma, Ba, arXiv 1412.6980, Algorithm 1) with the defaults of the reference's `Adam` (optax has nothing
/// inside the root):
///
/// ```text
///  m ← β1 m + (1−β1) g        m̂ = m / (1 − β1ⁿ)
///  v ← β2 v + (1−β2) g²       v̂ = v / (1 − β2ⁿ)        p ← p − lr · m̂ / (√(v̂ + eps_root) + eps)
/// ```
///
/// Slots: `m/NAME` and `v/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// Decay of the first moment; 0.9.
    #[serde(alias = "b1")]
    pub beta1: f64,
    /// Decay of the second moment; 0.999.
    #[serde(alias = "b2")]
    pub beta2: f64,
    /// Added to the root; 1e-8.
    #[serde(alias = "eps")]
    pub epsilon: f64,
    /// Added inside the root; 1e-8.
    #[serde(alias = "eps_root")]
    pub epsilon_root: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 0.01.into(), beta1: 0.9, beta2: 0.999, epsilon: 1e-8, epsilon_root: 1e-8 }
    }
}

impl Adam {
    /// Adam with the reference's defaults and this learning rate.
    pub fn new(learning_rate: impl Into<Schedule>) -> Self {
        Self { learning_rate: learning_rate.into(), ..Self::default() }
    }
}

impl Rule for Adam {
    type Numbers = (u32, AdamRule);

    fn name(&self) -> &'static str {
        "adam"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        moments::validate(self.beta1, self.beta2)?;
        settings::non_negative("epsilon", self.epsilon)?;
        settings::non_negative("epsilon_root", self.epsilon_root)
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        moments::buffers(tensor, 0.0)
    }

    fn numbers(&self, now: Moment) -> (u32, AdamRule) {
        let rule = AdamRule {
            learning_rate: now.of(&self.learning_rate),
            beta1: Decay::literal(self.beta1),
            beta2: Decay::literal(self.beta2),
            eps: self.epsilon as f32,
            eps_root: self.epsilon_root as f32,
            weight_decay: 0.0,
        };
        (now.count(), rule)
    }

    fn update(
        &self,
        (count, rule): &(u32, AdamRule),
        _: &TensorSpec,
        p: &mut [f32],
        g: &[f32],
        buffers: &mut [&mut [f32]],
    ) {
        let [m, v] = buffers else { unreachable!("two buffers a tensor") };
        rule.update_tensor(*count, p, g, m, v);
    }
}

/// Adam with decoupled weight decay of all tensors (Loshchilov, Hutter, arXiv 1711.05101, Algorithm 2), as the
/// reference's `AdamW` (optax 0.2.8 `adamw`): [`Adam`]'s direction plus `wd · p`, both times the learning rate.
///
/// Slots: `m/NAME` and `v/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// Decay of the first moment; 0.9.
    #[serde(alias = "b1")]
    pub beta1: f64,
    /// Decay of the second moment; 0.999.
    #[serde(alias = "b2")]
    pub beta2: f64,
    /// Added to the root; 1e-8.
    #[serde(alias = "eps")]
    pub epsilon: f64,
    /// Added inside the root; 0.
    #[serde(alias = "eps_root")]
    pub epsilon_root: f64,
    /// Decay of parameters a step, times the learning rate; 1e-4.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        let Adam { learning_rate, beta1, beta2, epsilon, .. } = Adam::default();
        Self { learning_rate, beta1, beta2, epsilon, epsilon_root: 0.0, weight_decay: 1e-4 }
    }
}

impl AdamW {
    /// AdamW's settings without the decay are Adam's.
    fn adam(&self) -> Adam {
        let Self { ref learning_rate, beta1, beta2, epsilon, epsilon_root, weight_decay: _ } = *self;
        Adam { learning_rate: learning_rate.clone(), beta1, beta2, epsilon, epsilon_root }
    }
}

impl Rule for AdamW {
    type Numbers = (u32, AdamRule);

    fn name(&self) -> &'static str {
        "adam_w"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.adam().validate()?;
        settings::non_negative("weight_decay", self.weight_decay)
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        moments::buffers(tensor, 0.0)
    }

    fn numbers(&self, now: Moment) -> (u32, AdamRule) {
        let (count, rule) = self.adam().numbers(now);
        (count, AdamRule { weight_decay: self.weight_decay as f32, ..rule })
    }

    fn update(
        &self,
        (count, rule): &(u32, AdamRule),
        _: &TensorSpec,
        p: &mut [f32],
        g: &[f32],
        buffers: &mut [&mut [f32]],
    ) {
        let [m, v] = buffers else { unreachable!("two buffers a tensor") };
        rule.update_tensor(*count, p, g, m, v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use crate::simd::tests::with_instructions;
    use crate::{Seed, noise};

    const RULE: AdamRule = AdamRule {
        learning_rate: 0.03,
        beta1: Decay { keep: 0.9, take: 0.1 },
        beta2: Decay { keep: 0.999, take: 0.001 },
        eps: 1e-8,
        eps_root: 1e-8,
        weight_decay: 0.1,
    };

    fn normals(seed: u64, size: usize) -> Vec<f32> {
        let mut values = vec![0.0; size];
        noise::normals(Seed::new(seed), 0, &mut values);
        values
    }

    /// `p`, `m` and `v` after some updates, one behind the other.
    fn updated(size: usize) -> Vec<f32> {
        let (mut p, mut m, mut v) = (normals(1, size), vec![0.0; size], vec![0.0; size]);
        for count in 1..=5 {
            RULE.update_tensor(count, &mut p, &normals(10 + u64::from(count), size), &mut m, &mut v);
        }
        [p, m, v].concat()
    }

    #[test]
    fn every_length_moves_as_defined() {
        for size in [0, 1, 2, 15, 16, 17, 33, 100] {
            let (mut p, mut m, mut v) = (normals(1, size), vec![0.0_f64; size], vec![0.0_f64; size]);
            let start = p.clone();
            for count in 1..=5 {
                let g = normals(10 + u64::from(count), size);
                let [c1, c2] = [RULE.beta1, RULE.beta2].map(|beta| f64::from(beta.collected(count)));
                for i in 0..size {
                    let g = f64::from(g[i]);
                    m[i] = f64::from(RULE.beta1.keep) * m[i] + f64::from(RULE.beta1.take) * g;
                    v[i] = f64::from(RULE.beta2.keep) * v[i] + f64::from(RULE.beta2.take) * g * g;
                    let direction = m[i] / c1 / ((v[i] / c2 + 1e-8).sqrt() + 1e-8);
                    p[i] = (f64::from(p[i]) - 0.03 * (direction + 0.1 * f64::from(p[i]))) as f32;
                }
            }
            for (i, got) in updated(size)[..size].iter().enumerate() {
                // Of the way, not of the place.
                let error = ((got - start[i]) - (p[i] - start[i])).abs();
                assert!(error <= 2e-6 * (p[i] - start[i]).abs() + 5e-7, "{size}: {got} is no {}", p[i]);
            }
        }
    }

    #[test]
    fn instructions_and_threads_change_no_bit() {
        let sizes = [33, 1000, 80_000];
        let all = || sizes.map(|size| updated(size).into_iter().map(f32::to_bits).collect::<Vec<_>>());
        let expected = all();
        for set in InstructionSet::available() {
            assert!(with_instructions(set, all) == expected, "{set:?}");
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        assert!(pool.install(all) == expected);
    }
}
