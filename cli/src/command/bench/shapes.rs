//! Lists of tensors that an optimizer's step is timed on.
//!
//! Matrices are `[in, out]`, as everywhere here. Sources: Dosovitskiy et al., arXiv 2010.11929, table 1 (ViT-B/16);
//! Radford et al., 2019, with the released vocabulary (GPT-2 124M).

use std::sync::Arc;

use paceline_optimizer_core::{Layout, TensorSpec};

use super::named::unknown;
use crate::failure::Failure;

type Shapes = Vec<(String, Vec<usize>)>;

/// A list's name, and what it holds.
type List = (&'static str, fn() -> Shapes);

const LISTS: [List; 4] =
    [("square", square), ("vit_b16", vit_b16), ("gpt2_124m", gpt2_124m), ("many_small", many_small)];

/// The list of this name.
pub(super) fn layout(name: &str) -> Result<Arc<Layout>, Failure> {
    let Some((_, list)) = LISTS.iter().find(|(known, _)| *known == name) else {
        return Err(unknown("shapes", name, LISTS.iter().map(|(known, _)| *known)));
    };
    let tensors = list().into_iter().map(|(name, shape)| TensorSpec::new(name, shape)).collect();
    Ok(Layout::new(tensors)?)
}

/// One matrix of 2^20 values.
fn square() -> Shapes {
    vec![("w".into(), vec![1024, 1024])]
}

/// Images of 224, patches of 16, a thousand classes.
fn vit_b16() -> Shapes {
    let width = 768;
    let mut shapes = vec![
        ("class_token".into(), vec![1, 1, width]),
        ("position".into(), vec![1, 197, width]),
        ("patch/w".into(), vec![16, 16, 3, width]),
        ("patch/b".into(), vec![width]),
    ];
    (0..12).for_each(|block| shapes.extend(transformer_block(&format!("block_{block}"), width)));
    shapes.extend([
        ("norm/scale".into(), vec![width]),
        ("norm/bias".into(), vec![width]),
        ("head/w".into(), vec![width, 1000]),
        ("head/b".into(), vec![1000]),
    ]);
    shapes
}

/// The smallest GPT-2; its head is its embedding.
fn gpt2_124m() -> Shapes {
    let width = 768;
    let mut shapes = vec![("token".into(), vec![50_257, width]), ("position".into(), vec![1024, width])];
    (0..12).for_each(|block| shapes.extend(transformer_block(&format!("block_{block}"), width)));
    shapes.extend([("norm/scale".into(), vec![width]), ("norm/bias".into(), vec![width])]);
    shapes
}

/// Attention of joint queries, keys and values; a network of four times the width.
fn transformer_block(name: &str, width: usize) -> Shapes {
    let parts = [
        ("norm_1/scale", vec![width]),
        ("norm_1/bias", vec![width]),
        ("attention/w", vec![width, 3 * width]),
        ("attention/b", vec![3 * width]),
        ("projection/w", vec![width, width]),
        ("projection/b", vec![width]),
        ("norm_2/scale", vec![width]),
        ("norm_2/bias", vec![width]),
        ("widen/w", vec![width, 4 * width]),
        ("widen/b", vec![4 * width]),
        ("narrow/w", vec![4 * width, width]),
        ("narrow/b", vec![width]),
    ];
    parts.into_iter().map(|(part, shape)| (format!("{name}/{part}"), shape)).collect()
}

/// 200 tensors of 64 to 4096 values, vectors and matrices in turn: what a call costs, not a value.
fn many_small() -> Shapes {
    let shape = |index: usize| {
        let size = 64 << (index / 2 % 7);
        if index.is_multiple_of(2) { vec![size] } else { vec![size / 8, 8] }
    };
    (0..200).map(|index| (format!("tensor_{index:03}"), shape(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_long_as_the_models() {
        let size = |name| layout(name).unwrap().size();
        assert_eq!(size("square"), 1 << 20);
        assert_eq!(size("vit_b16"), 86_567_656);
        assert_eq!(size("gpt2_124m"), 124_439_808);
        let small = layout("many_small").unwrap();
        let sizes: Vec<usize> = small.tensors().iter().map(TensorSpec::size).collect();
        assert_eq!((sizes.len(), sizes.iter().min(), sizes.iter().max()), (200, Some(&64), Some(&4096)));
    }
}
