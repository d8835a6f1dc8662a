//! Complex-valued layers: pairs of real numbers, on the real layers underneath.
//!
//! ```text
//!  activation z = x + jy, C channels     one real tensor    [lanes, batch, …, x₀ … x_C₋₁ y₀ … y_C₋₁]
//!  parameter w                           two real tensors   w.re, w.im: [lanes, …, in, out] each
//!
//!                 ┌           ┐
//!   [x.re x.im] · │ w.re  w.im│ = [y.re y.im]     a complex product is ONE real product of twice the width
//!                 │-w.im  w.re│
//!                 └           ┘
//!   conv2d, linear ─► activate │ modrelu ─► max_pool2d │ average_pool2d ─► batch norm ─► … ─► modulus ─► cross-entropy
//! ```
//!
//! **Gradients.** A loss L is real, so its gradient for z is the pair of its partial derivatives, as one number
//! g = ∂L/∂x + j ∂L/∂y = 2 ∂L/∂z̄: the direction of steepest ascent, and what PyTorch calls `grad` (JAX has its
//! conjugate). With Wirtinger's ∂/∂z = (∂/∂x − j ∂/∂y)/2 and ∂/∂z̄ = (∂/∂x + j ∂/∂y)/2, a function w = f(z) takes the
//! gradient G of w to
//!
//! ```text
//!   g = conj(∂f/∂z) · G + (∂f/∂z̄) · conj(G)        (1)
//! ```
//!
//! which is the transpose of f's real 2×2 Jacobian, applied to the pair. Descending along −g is descent on the pair, so
//! an optimizer sees two real tensors of one shape, whose names say that they belong together.
//!
//! **Modulus.** |z| is √(x² + y² + 10⁻²⁰) wherever it is divided by or differentiated, so that 0 has a gradient. Angles
//! are never formed.
//!
//! The functions follow Trabelsi et al., "Deep Complex Networks" (arXiv 1705.09792), and Agrawal (arXiv 2510.09926).

mod activation;
mod batch_norm;
mod conv;
mod init;
mod inverse_root;
mod linear;
mod loss;
mod modrelu;
mod moments;
mod pair;
mod pool;
mod wirtinger;

#[cfg(test)]
mod checks;
#[cfg(test)]
mod golden;

pub use activation::{ComplexActivation, activate};
pub use batch_norm::{Whitening, batch_norm_eval, batch_norm_train};
pub use conv::{ComplexConv2d, conv2d};
pub use init::{ComplexInit, Fans};
pub use linear::linear;
pub use loss::{cross_entropy_of_modulus, mean_squared_distance, modulus};
pub use modrelu::{modrelu, modrelu_derivatives};
pub use moments::{Moments, RunningRule};
pub use pair::{ComplexTensor, Pair};
pub use pool::{average_pool2d, max_pool2d};
pub use wirtinger::Wirtinger;
