//! A plain feed-forward classifier, layer by layer: what a device needs to train the tasks of a family by itself.
//!
//! ```text
//!  example [height, width, channels] ─► layer ─► [height, width, channels] ─► … ─► [1, 1, classes] ─► cross-entropy
//!
//!  image_mlp    Linear ─► … ─► Linear
//!  image_conv   Convolution ─► Convolution (─► MaxPool) ─► … ─► SpatialMean ─► Linear
//! ```
//!
//! Images are channels last, one behind the other.

use crate::Seed;

/// A feed-forward network with relu behind its convolutions and behind all linear layers but the last, and a softmax
/// cross-entropy behind that one, on examples that all tasks of a family share.
pub struct FeedForward<'a> {
    /// Height, width and channels of an example.
    pub input: [usize; 3],
    /// From the first to the one whose outputs are the logits.
    pub layers: Vec<Layer>,
    /// Examples in a batch.
    pub batch_size: usize,
    /// Training examples, `[examples, height, width, channels]`.
    pub images: &'a [f32],
    /// The class of each.
    pub labels: &'a [u32],
    /// The examples, by number, of a training batch of the task of a seed.
    pub batch: Box<dyn Fn(Seed, u64) -> Vec<u32> + Send + Sync + 'a>,
}

/// One layer. Tensors are named by their index in the family's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Square windows of the image, inside a border of zeros, times the weights, plus the bias.
    Convolution {
        /// The tensor of the weights, `[window, window, channels, outputs]`.
        weight: usize,
        /// The tensor of the bias, `[outputs]`.
        bias: usize,
        /// Channels out.
        outputs: usize,
        /// Height and width of a window, in pixels.
        window: usize,
        /// Pixels between two windows.
        stride: usize,
        /// Zeros on each side.
        padding: usize,
    },
    /// The largest value of square windows side by side; pixels that fill no window are left out. Of equal values the
    /// first in row-major order gets the gradient.
    MaxPool {
        /// Height and width of a window, in pixels.
        window: usize,
    },
    /// The mean over height and width.
    SpatialMean,
    /// All values of the image times the weights, plus the bias.
    Linear {
        /// The tensor of the weights, `[height · width · channels, outputs]`.
        weight: usize,
        /// The tensor of the bias, `[outputs]`.
        bias: usize,
        /// Outputs.
        outputs: usize,
    },
}

impl Layer {
    /// Height, width and channels behind the layer; `None` if no window fits into the image.
    pub fn output(&self, [height, width, channels]: [usize; 3]) -> Option<[usize; 3]> {
        let along = |side: usize, window: usize, stride: usize, padding: usize| {
            let room = padding.checked_mul(2)?.checked_add(side)?.checked_sub(window)?;
            Some(room.checked_div(stride)? + 1)
        };
        match *self {
            Self::Convolution { outputs, window, stride, padding, .. } => {
                Some([along(height, window, stride, padding)?, along(width, window, stride, padding)?, outputs])
            }
            Self::MaxPool { window } => {
                Some([along(height, window, window, 0)?, along(width, window, window, 0)?, channels])
            }
            Self::SpatialMean => Some([1, 1, channels]),
            Self::Linear { outputs, .. } => Some([1, 1, outputs]),
        }
    }
}

impl std::fmt::Debug for FeedForward<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { input, layers, batch_size, labels, .. } = self;
        let examples = labels.len();
        f.debug_struct("FeedForward")
            .field("input", input)
            .field("layers", layers)
            .field("batch_size", batch_size)
            .field("examples", &examples)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convolution(window: usize, stride: usize, padding: usize) -> Layer {
        Layer::Convolution { weight: 0, bias: 1, outputs: 7, window, stride, padding }
    }

    #[test]
    fn shapes_follow_the_layers() {
        for (layer, input, output) in [
            (convolution(3, 1, 1), [16, 9, 3], Some([16, 9, 7])),
            (convolution(3, 2, 1), [16, 9, 3], Some([8, 5, 7])),
            (convolution(3, 2, 1), [1, 1, 3], Some([1, 1, 7])),
            (convolution(3, 1, 0), [2, 9, 3], None),
            (convolution(3, 0, 1), [9, 9, 3], None),
            (Layer::MaxPool { window: 2 }, [5, 4, 3], Some([2, 2, 3])),
            (Layer::MaxPool { window: 2 }, [1, 4, 3], None),
            (Layer::MaxPool { window: 0 }, [1, 4, 3], None),
            (Layer::SpatialMean, [5, 4, 3], Some([1, 1, 3])),
            (Layer::Linear { weight: 0, bias: 1, outputs: 10 }, [5, 4, 3], Some([1, 1, 10])),
        ] {
            assert_eq!(layer.output(input), output, "{layer:?} of {input:?}");
        }
    }
}
