//! The inverse square root of a 2×2 covariance, and the way back through it.
//!
//! ```text
//!   s = √det V,  t = √(rr + ii + 2s)      V^(−1/2) = [[ii + s, −ri], [−ri, rr + s]] / (s t)
//! ```

/// A symmetric 2×2 matrix.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Symmetric {
    pub(super) rr: f64,
    pub(super) ii: f64,
    pub(super) ri: f64,
}

impl Symmetric {
    pub(super) fn apply(self, [x, y]: [f64; 2]) -> [f64; 2] {
        [self.rr * x + self.ri * y, self.ri * x + self.ii * y]
    }

    /// Adds the gradient of `g · (self v)` for `self`.
    pub(super) fn add_gradient(&mut self, g: [f64; 2], v: [f64; 2]) {
        self.rr += g[0] * v[0];
        self.ii += g[1] * v[1];
        self.ri += g[0] * v[1] + g[1] * v[0];
    }
}

/// V^(−1/2) with what its backward pass needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct InverseRoot {
    pub(super) root: Symmetric,
    v: Symmetric,
    pub(super) s: f64,
    t: f64,
    pub(super) clamped: bool,
}

impl InverseRoot {
    /// Of a covariance rr, ii, ri to whose diagonal `epsilon` is added.
    pub(super) fn of([rr, ii, ri]: [f64; 3], epsilon: f64) -> Self {
        let v = Symmetric { rr: rr + epsilon, ii: ii + epsilon, ri };
        let (determinant, least) = (v.rr * v.ii - v.ri * v.ri, epsilon * epsilon);
        let clamped = determinant < least;
        let s = if clamped { epsilon } else { determinant.sqrt() };
        let t = (v.rr + v.ii + 2.0 * s).sqrt();
        let k = 1.0 / (s * t);
        let root = Symmetric { rr: (v.ii + s) * k, ii: (v.rr + s) * k, ri: -v.ri * k };
        Self { root, v, s, t, clamped }
    }

    /// The gradient for V of the gradient `of_root` for its inverse root.
    pub(super) fn pull_back(self, of_root: Symmetric) -> Symmetric {
        let Self { v, s, t, .. } = self;
        let k = 1.0 / (s * t);
        let of_k = of_root.rr * (v.ii + s) + of_root.ii * (v.rr + s) - of_root.ri * v.ri;
        let of_t = -of_k * k / t;
        // dt = (drr + dii + 2 ds) / 2t
        let of_s = (of_root.rr + of_root.ii) * k - of_k * k / s + of_t / t;
        // ds = (ii drr + rr dii − 2 ri dri) / 2s, but 0 where the determinant is clamped
        let of_determinant = if self.clamped { 0.0 } else { of_s / (2.0 * s) };
        Symmetric {
            rr: of_root.ii * k + of_t / (2.0 * t) + of_determinant * v.ii,
            ii: of_root.rr * k + of_t / (2.0 * t) + of_determinant * v.rr,
            ri: -of_root.ri * k - 2.0 * of_determinant * v.ri,
        }
    }
}
