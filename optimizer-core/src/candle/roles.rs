//! Which axis is which: candle's order of axes, and the one that learned optimizers were trained with.
//!
//! ```text
//!  role        candle                     reference (Haiku)         axes
//!  Linear      [out, in]                  [in, out]                 1 0
//!  Conv1d      [out, in, width]           [width, in, out]          2 1 0
//!  Conv2d      [out, in, height, width]   [height, width, in, out]  2 3 1 0
//!  Embedding   [vocabulary, dim]          the same
//!  AsIs        any                        the same
//! ```
//!
//! A transposed convolution has the first two axes exchanged in both worlds (candle `[in, out, …]`, Haiku
//! `[…, out, in]`), so its axes are those of a convolution.
//!
//! Everything a learned optimizer computes is the same in both orders but one thing: which of two axes *of equal
//! length* is the row and which the column of a factored second moment. The two meet different weights, so a square
//! matrix in the wrong order is trained by another optimizer than the one that was meta-trained.

use crate::{Error, Result};

/// What a variable is in its layer, which tells the order of its axes. The reference is Haiku, whose shapes learned
/// optimizers were meta-trained on; a transposed convolution has `in` and `out` exchanged in both worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weight of a linear layer, `[out, in]`; `[in, out]` in the reference.
    Linear,
    /// Weight of a one-dimensional convolution, plain or transposed, `[out, in, width]`; `[width, in, out]` in the
    /// reference.
    Conv1d,
    /// Weight of a two-dimensional convolution, plain, grouped or transposed, `[out, in, height, width]`;
    /// `[height, width, in, out]` in the reference.
    Conv2d,
    /// A table of vectors, `[vocabulary, dim]`, as in the reference.
    Embedding,
    /// Axes are already in the order of the reference, or there is none: biases, norms, scalars.
    AsIs,
}

impl Role {
    /// The role that name and rank suggest:
    ///
    /// | rank | role |
    /// |---|---|
    /// | 2, and the name contains "embed" | [`Role::Embedding`] |
    /// | 2 | [`Role::Linear`] |
    /// | 3 | [`Role::Conv1d`] |
    /// | 4 | [`Role::Conv2d`] |
    /// | else | [`Role::AsIs`] |
    ///
    /// (Celo2 goes by "embed" as well.) Where that is wrong (a table called `wte`, a linear layer within `time_embed`),
    /// say so with [`super::Variables::with_role`].
    pub fn infer(name: &str, rank: usize) -> Self {
        match rank {
            2 if name.contains("embed") => Self::Embedding,
            2 => Self::Linear,
            3 => Self::Conv1d,
            4 => Self::Conv2d,
            _ => Self::AsIs,
        }
    }

    /// The rank that variables of this role have, if only one.
    fn rank(self) -> Option<usize> {
        match self {
            Self::Linear | Self::Embedding => Some(2),
            Self::Conv1d => Some(3),
            Self::Conv2d => Some(4),
            Self::AsIs => None,
        }
    }

    /// Axes of candle in the order of the reference.
    ///
    /// # Errors
    /// [`Error::Variable`] if a variable of this rank cannot have this role.
    pub(super) fn axes(self, name: &str, rank: usize) -> Result<Vec<usize>> {
        if let Some(expected) = self.rank()
            && expected != rank
        {
            let reason = format!("{self:?} needs {expected} axes, it has {rank}");
            return Err(Error::Variable { name: name.into(), reason });
        }
        Ok(match self {
            Self::Linear => vec![1, 0],
            Self::Conv1d => vec![2, 1, 0],
            Self::Conv2d => vec![2, 3, 1, 0],
            Self::Embedding | Self::AsIs => (0..rank).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ranks_suggest_roles() {
        for (name, rank, role) in [
            ("layers.0.weight", 2, Role::Linear),
            ("model.embed_tokens.weight", 2, Role::Embedding),
            ("bert.embeddings.position.weight", 2, Role::Embedding),
            ("Embed.weight", 2, Role::Linear),
            ("rnn.weight_hh_l0", 2, Role::Linear),
            ("stem.weight", 3, Role::Conv1d),
            ("stem.weight", 4, Role::Conv2d),
            ("patch_embed.proj.weight", 4, Role::Conv2d),
            ("embeddings.norm.weight", 1, Role::AsIs),
            ("scale", 0, Role::AsIs),
            ("volume.weight", 5, Role::AsIs),
        ] {
            assert_eq!(Role::infer(name, rank), role, "{name} of rank {rank}");
        }
    }

    #[test]
    fn a_role_needs_its_rank() {
        assert_eq!(Role::Conv2d.axes("k", 4).unwrap(), [2, 3, 1, 0]);
        assert_eq!(Role::AsIs.axes("v", 6).unwrap(), [0, 1, 2, 3, 4, 5]);
        let said = Role::Conv1d.axes("w", 2).unwrap_err().to_string();
        assert!(said.contains("\"w\"") && said.contains("Conv1d needs 3 axes, it has 2"), "{said}");
    }
}
