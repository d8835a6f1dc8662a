//! The thetas that the lanes of some pairs run under, told instead of made.

use super::Perturbation;
use crate::{Error, Result, Theta};

/// `theta + sigma ε` and `theta − sigma ε` of each ε, in order: what a lane needs to make its own.
///
/// One theta and a few numbers a pair, where the thetas themselves are as many vectors as there are lanes.
///
/// ```
/// use paceline_optimizer_core::perturbation::{Antithetic, Noise, Perturbation};
/// use paceline_optimizer_core::{Layout, Seed, TensorSpec, Theta};
///
/// let layout = Layout::new(vec![TensorSpec::new("w", [3, 2]), TensorSpec::new("b", [2])])?;
/// let epsilon = |pair| Perturbation::new(Seed::new(7), Noise::Dense, &layout, 0, 3, pair);
/// let lanes = Antithetic::new(&Theta::zeros(&layout, 1), vec![epsilon(0)?, epsilon(1)?], 0.5)?;
/// assert_eq!(lanes.lanes(), 4);
/// assert_eq!(lanes.made()?.lane(3)[1], -0.5 * epsilon(1)?.whole()[1]);
/// # Ok::<(), paceline_optimizer_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Antithetic {
    theta: Theta,
    pairs: Vec<Perturbation>,
    sigma: f32,
}

impl Antithetic {
    /// Around `theta`, which has one lane; the perturbations are of one kind.
    ///
    /// # Errors
    /// [`Error::Lanes`] if theta has more than one lane, [`Error::LayoutMismatch`] if an ε is another theta's,
    /// [`Error::Setting`] if one has other parts than the first.
    pub fn new(theta: &Theta, pairs: Vec<Perturbation>, sigma: f32) -> Result<Self> {
        belong_to(theta, &pairs)?;
        if let Some(place) = pairs.iter().position(|epsilon| epsilon.parts() != pairs[0].parts()) {
            let reason = "must be of one kind for all pairs of a lease";
            return Err(Error::setting("estimator.noise", reason, format!("another one for pair {place}")));
        }
        Ok(Self { theta: theta.clone(), pairs, sigma })
    }

    /// What is perturbed, one lane.
    pub fn theta(&self) -> &Theta {
        &self.theta
    }

    /// The ε of each pair.
    pub fn pairs(&self) -> &[Perturbation] {
        &self.pairs
    }

    /// How far.
    pub fn sigma(&self) -> f32 {
        self.sigma
    }

    /// Two a pair.
    pub fn lanes(&self) -> usize {
        2 * self.pairs.len()
    }

    /// All thetas, a lane each.
    ///
    /// # Errors
    /// As [`Theta::antithetic`].
    pub fn made(&self) -> Result<Theta> {
        let mut values = Vec::with_capacity(self.lanes() * self.theta.layout().size());
        for epsilon in &self.pairs {
            values.extend_from_slice(self.theta.antithetic(self.sigma, &epsilon.whole())?.values());
        }
        Theta::new(self.theta.layout(), self.lanes(), values)
    }

    /// One tensor of all thetas, `[lanes, size]`.
    pub fn tensor(&self, index: usize) -> Vec<f32> {
        let theta = self.theta.tensor(0, index);
        let mut values = Vec::with_capacity(self.lanes() * theta.len());
        for epsilon in &self.pairs {
            let epsilon = epsilon.tensor(index);
            values.extend(theta.iter().zip(&epsilon).map(|(value, e)| value + self.sigma * e));
            values.extend(theta.iter().zip(&epsilon).map(|(value, e)| value - self.sigma * e));
        }
        values
    }
}

/// Whether these ε can perturb this theta.
///
/// # Errors
/// [`Error::Lanes`] if theta has more than one lane, [`Error::LayoutMismatch`] if an ε is another theta's.
pub(crate) fn belong_to(theta: &Theta, pairs: &[Perturbation]) -> Result<()> {
    if theta.lanes() != 1 {
        return Err(Error::Lanes { what: "theta to perturb".into(), expected: 1, got: theta.lanes() });
    }
    if let Some(other) = pairs.iter().find(|epsilon| epsilon.layout() != theta.layout()) {
        return Err(Error::LayoutMismatch {
            what: "perturbation".into(),
            expected: theta.layout().clone(),
            got: other.layout().clone(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perturbation::Noise;
    use crate::{Layout, Seed, TensorSpec, noise};

    fn theta(rows: usize) -> Theta {
        let specs = vec![TensorSpec::new("b", [5]), TensorSpec::new("w", [rows, 9])];
        let layout = Layout::new(specs).unwrap();
        let mut values = vec![0.0; layout.size()];
        noise::normals(Seed::new(3), 0, &mut values);
        Theta::new(&layout, 1, values).unwrap()
    }

    fn epsilon(theta: &Theta, noise: Noise, pair: u32) -> Perturbation {
        Perturbation::new(Seed::new(7), noise, theta.layout(), 4, 1, pair).unwrap()
    }

    #[test]
    fn a_tensor_is_that_of_the_thetas_made() {
        let theta = theta(13);
        for noise in [Noise::Dense, Noise::Orthogonal, Noise::LowRank { rank: 2 }] {
            let lanes =
                Antithetic::new(&theta, (0..3).map(|pair| epsilon(&theta, noise, pair)).collect(), 0.1).unwrap();
            let made = lanes.made().unwrap();
            for pair in 0..3 {
                let whole = epsilon(&theta, noise, pair as u32).whole();
                let alone = theta.antithetic(0.1, &whole).unwrap();
                assert_eq!(alone.values(), [made.lane(2 * pair), made.lane(2 * pair + 1)].concat(), "{noise:?}");
            }
            for index in 0..2 {
                let of_lanes: Vec<f32> = (0..6).flat_map(|lane| made.tensor(lane, index)).copied().collect();
                assert_eq!(lanes.tensor(index), of_lanes, "{noise:?}");
            }
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (small, large) = (theta(13), theta(14));
        let low_rank = Noise::LowRank { rank: 1 };
        let two = small.antithetic(0.1, &epsilon(&small, low_rank, 0).whole()).unwrap();
        assert!(matches!(Antithetic::new(&two, vec![], 0.1), Err(Error::Lanes { .. })));
        let of = |theta, pairs| Antithetic::new(theta, pairs, 0.1);
        assert!(matches!(of(&large, vec![epsilon(&small, low_rank, 0)]), Err(Error::LayoutMismatch { .. })));
        let mixed = vec![epsilon(&small, low_rank, 0), epsilon(&small, Noise::Dense, 1)];
        let refused = of(&small, mixed).unwrap_err().to_string();
        assert!(refused.contains("pair 1"), "{refused}");
    }
}
