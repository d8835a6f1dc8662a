//! Wirtinger derivatives of a complex function, and how a gradient goes back through it.

use num_complex::Complex64;

/// ∂f/∂z and ∂f/∂z̄ at one point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wirtinger {
    /// ∂f/∂z = (∂f/∂x − j ∂f/∂y) / 2.
    pub dz: Complex64,
    /// ∂f/∂z̄ = (∂f/∂x + j ∂f/∂y) / 2; 0 where f is holomorphic.
    pub dzbar: Complex64,
}

impl Wirtinger {
    /// Of a holomorphic function with this derivative.
    pub(super) fn holomorphic(derivative: Complex64) -> Self {
        Self { dz: derivative, dzbar: Complex64::ZERO }
    }

    /// Of p(x) + j q(y), with p' and q'.
    pub(super) fn split(of_re: f64, of_im: f64) -> Self {
        Self { dz: ((of_re + of_im) / 2.0).into(), dzbar: ((of_re - of_im) / 2.0).into() }
    }

    /// Of s(r) z, r = |z|, with s and s': ds = s' dr and dr = Re(conj(e) dz) for e = z/r.
    pub(super) fn radial(polar: Polar, s: f64, slope: f64) -> Self {
        let Polar { r, e } = polar;
        Self { dz: (s + slope * r * e.norm_sqr() / 2.0).into(), dzbar: e * e * (slope * r / 2.0) }
    }

    /// Equation (1): the gradient for z of the gradient `g` for f(z).
    pub fn pull_back(self, g: Complex64) -> Complex64 {
        self.dz.conj() * g + self.dzbar * g.conj()
    }
}

/// Modulus and direction, defined at 0 too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Polar {
    /// √(x² + y² + 10⁻²⁰). In f64 this neither overflows nor vanishes for any f32.
    pub(super) r: f64,
    /// z / r: of modulus 1, but 0 at 0.
    pub(super) e: Complex64,
}

impl Polar {
    pub(super) fn of(z: Complex64) -> Self {
        let r = (z.norm_sqr() + 1e-20).sqrt();
        Self { r, e: z / r }
    }
}
