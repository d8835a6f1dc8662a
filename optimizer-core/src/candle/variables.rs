//! Variables of a candle model as an optimizer sees them: named, each with a role, in an order of their own.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use candle_core::{DType, Shape, Tensor, Var};
use candle_nn::VarMap;

use super::Role;
use super::strided;
use crate::params::{Layout, TensorSpec};
use crate::{Error, Result};

/// Named variables and their roles.
///
/// A [`VarMap`] is sorted by name, because it iterates in an order that differs from run to run. A list stays in its
/// order. The names of a `Vec<Var>` are numbers, so an optimizer that goes by names (Celo2) needs a map, or a list with
/// names. Roles are inferred ([`Role::infer`]) unless given.
///
/// ```
/// use candle_core::{DType, Device};
/// use candle_nn::{Init, VarMap};
/// use paceline_optimizer_core::candle::{Role, Variables};
///
/// # fn main() -> candle_core::Result<()> {
/// let vars = VarMap::new();
/// for name in ["wte", "head.weight", "norm.running_mean"] {
///     vars.get((8, 8), name, Init::Const(0.), DType::F32, &Device::Cpu)?;
/// }
/// let variables = Variables::from(&vars).retain(|name| !name.contains("running_")).with_role("wte", Role::Embedding)?;
/// assert_eq!(variables.names().collect::<Vec<_>>(), ["head.weight", "wte"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Variables {
    all: Vec<Named>,
}

#[derive(Clone, Debug)]
struct Named {
    name: String,
    var: Var,
    role: Role,
}

impl From<&VarMap> for Variables {
    fn from(map: &VarMap) -> Self {
        let vars = map.data().lock().unwrap_or_else(PoisonError::into_inner);
        let mut named: Vec<_> = vars.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        Self::from(named)
    }
}

impl From<Vec<Var>> for Variables {
    fn from(vars: Vec<Var>) -> Self {
        Self::from(vars.into_iter().map(|var| (Role::infer("", var.rank()), var)).collect::<Vec<_>>())
    }
}

impl From<Vec<(String, Var)>> for Variables {
    fn from(vars: Vec<(String, Var)>) -> Self {
        let named = |(name, var): (String, Var)| Named { role: Role::infer(&name, var.rank()), name, var };
        Self { all: vars.into_iter().map(named).collect() }
    }
}

impl From<Vec<(Role, Var)>> for Variables {
    fn from(vars: Vec<(Role, Var)>) -> Self {
        let named = |(index, (role, var)): (usize, (Role, Var))| Named { name: index.to_string(), var, role };
        Self { all: vars.into_iter().enumerate().map(named).collect() }
    }
}

impl Variables {
    /// The same variables, one with another role.
    ///
    /// # Errors
    /// [`Error::Variable`] if there is none of this name, or if it has not as many axes as the role needs.
    pub fn with_role(mut self, name: &str, role: Role) -> Result<Self> {
        let named = self.all.iter_mut().find(|named| named.name == name).ok_or_else(|| {
            let reason = "there is no variable of this name".into();
            Error::Variable { name: name.into(), reason }
        })?;
        role.axes(name, named.var.rank())?;
        named.role = role;
        Ok(self)
    }

    /// Only those whose name passes: the rest is not trained (frozen layers, running statistics of batch norms).
    #[must_use]
    pub fn retain(mut self, mut keep: impl FnMut(&str) -> bool) -> Self {
        self.all.retain(|named| keep(&named.name));
        self
    }

    /// The names, in the order of everything that has one value a variable.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|named| named.name.as_str())
    }

    /// What the optimizer will work on.
    ///
    /// # Errors
    /// [`Error::Variable`] for a variable that is not f32, that stands here twice or whose role does not fit its axes.
    /// [`Error::DuplicateTensor`] if a name repeats.
    pub(super) fn leaves(self) -> Result<(Vec<Leaf>, Arc<Layout>)> {
        let mut seen = HashSet::new();
        let leaf = |Named { name, var, role }: Named| {
            let refuse = |reason: String| Error::Variable { name: name.clone(), reason };
            if var.dtype() != DType::F32 {
                return Err(refuse(format!("is {:?}, only F32 can be trained (retain() leaves it out)", var.dtype())));
            }
            if !seen.insert(var.id()) {
                return Err(refuse("is the same variable as an earlier one, which would move it twice".into()));
            }
            let axes = role.axes(&name, var.rank())?;
            let shape: Vec<usize> = axes.iter().map(|&axis| var.dims()[axis]).collect();
            Ok((TensorSpec::new(name.clone(), shape), Leaf { name, var, axes }))
        };
        let (specs, leaves): (Vec<_>, Vec<_>) =
            self.all.into_iter().map(leaf).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        Ok((leaves, Layout::new(specs)?))
    }
}

/// A variable that has been checked.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) var: Var,
    /// Axes of candle in the order of the reference.
    pub(super) axes: Vec<usize>,
}

impl Leaf {
    /// Copies a tensor of this variable's shape into the order of the reference.
    ///
    /// # Errors
    /// [`Error::Variable`] for another shape or type, [`Error::Candle`] if the device fails.
    pub(super) fn read(&self, what: &str, tensor: &Tensor, out: &mut [f32]) -> Result<()> {
        if tensor.shape() != self.var.shape() || tensor.dtype() != DType::F32 {
            let describe = |shape: &Shape, dtype: DType| format!("{dtype:?} {:?}", shape.dims());
            let expected = describe(self.var.shape(), DType::F32);
            let reason = format!("its {what} is {}, not {expected}", describe(tensor.shape(), tensor.dtype()));
            return Err(Error::Variable { name: self.name.clone(), reason });
        }
        strided::read(tensor, &self.axes, out)
    }

    /// A tensor on the variable's device from values in the order of the reference.
    ///
    /// # Errors
    /// [`Error::Candle`] if the device fails.
    pub(super) fn tensor(&self, values: &[f32]) -> Result<Tensor> {
        let values = strided::restore(values, self.var.dims(), &self.axes);
        Ok(Tensor::from_vec(values, self.var.shape(), self.var.device())?)
    }
}
