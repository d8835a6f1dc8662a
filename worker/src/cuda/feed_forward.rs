//! A feed-forward network as the kernels read it.
//!
//! ```text
//!  Layer (optimizer-core)                    Layer (kernels/layer.cuh)            activations of a lane
//!  Convolution ─────────────► affine ─┐
//!  Linear ── image of 1 × 1 ─► affine ┼─► fifteen words: shapes, tensors, parts   outputs of layer 0 │ of layer 1 │ …
//!  MaxPool, SpatialMean ──────────────┘
//! ```

use paceline_optimizer_core::feed_forward::{FeedForward, Layer};

use super::NotOnDevice;
use super::layout::{LanePlan, THREADS};

/// Values that lie together, and sides of a thread's tile of weights (`QUAD` of `kernels/layer.cuh`).
const QUAD: usize = 4;

/// What joining the parts of a tile costs a thread, in pixels it could sum instead.
const JOINING: usize = 8;

/// The network as the kernels read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedForwardPlan {
    /// `Layer` of `kernels/layer.cuh`, one a layer.
    pub layers: Vec<[u32; 15]>,
    /// Examples of a batch.
    pub batch: usize,
    /// Floats of the outputs of all layers on one batch.
    pub activations: usize,
}

/// The numbers of `Kind` in `kernels/layer.cuh`.
#[derive(Clone, Copy)]
enum Kind {
    Affine = 0,
    MaxPool = 1,
    SpatialMean = 2,
}

/// Windows of a layer, `window` pixels a side, and the parameters of one that has some.
struct Shape {
    kind: Kind,
    window: usize,
    stride: usize,
    padding: usize,
    tensors: Option<[usize; 2]>,
}

impl Shape {
    fn of(layer: Layer) -> Self {
        let (kind, window, stride, padding, tensors) = match layer {
            Layer::Convolution { weight, bias, window, stride, padding, .. } => {
                (Kind::Affine, window, stride, padding, Some([weight, bias]))
            }
            Layer::Linear { weight, bias, .. } => (Kind::Affine, 1, 1, 0, Some([weight, bias])),
            Layer::MaxPool { window } => (Kind::MaxPool, window, window, 0, None),
            Layer::SpatialMean => (Kind::SpatialMean, 1, 1, 0, None),
        };
        Self { kind, window, stride, padding, tensors }
    }
}

/// So many values, and those that fill the last quad.
pub(super) fn quads(values: usize) -> usize {
    values.next_multiple_of(QUAD)
}

impl FeedForwardPlan {
    /// The plan of a network whose tensors lie as `lane` says.
    ///
    /// # Errors
    /// [`NotOnDevice::Task`] for a network whose layers or tensors do not fit each other, or that does not end in a linear
    /// layer; [`NotOnDevice::TooLarge`] for 2³⁰ activations.
    pub fn new(net: &FeedForward<'_>, lane: &LanePlan) -> Result<Self, NotOnDevice> {
        let Some((Layer::Linear { .. }, _)) = net.layers.split_last() else {
            return Err(NotOnDevice::Task { why: "the kernels know networks that end in a linear layer" });
        };
        let mut plan = Self { layers: Vec::new(), batch: net.batch_size, activations: 0 };
        let mut input = net.input;
        for (index, &layer) in net.layers.iter().enumerate() {
            let unfit = NotOnDevice::Task { why: "a layer has larger windows than images" };
            let output = layer.output(input).ok_or(unfit)?;
            // A linear layer takes the image as one pixel.
            let image = if let Layer::Linear { .. } = layer { [1, 1, input.iter().product()] } else { input };
            let relu = index + 1 < net.layers.len();
            plan.layers.push(plan.words(layer, image, output, relu, lane)?);
            plan.activations += quads(net.batch_size * output.iter().product::<usize>());
            if plan.activations >= 1 << 30 {
                return Err(NotOnDevice::TooLarge);
            }
            input = output;
        }
        Ok(plan)
    }

    /// The words of the next layer.
    fn words(
        &self,
        layer: Layer,
        image: [usize; 3],
        output: [usize; 3],
        relu: bool,
        lane: &LanePlan,
    ) -> Result<[u32; 15], NotOnDevice> {
        let Shape { kind, window, stride, padding, tensors } = Shape::of(layer);
        let ([height, width, channels], [out_height, out_width, outputs]) = (image, output);
        let taps = window * window;
        let (mut places, mut parts) = ([0; 2], 1);
        if let Some(tensors) = tensors {
            for ((place, tensor), size) in places.iter_mut().zip(tensors).zip([taps * channels * outputs, outputs]) {
                let found = lane.tensors.get(tensor).filter(|[_, found, ..]| *found as usize == size);
                let unfit = NotOnDevice::Task { why: "a layer has weights of another shape than its tensor" };
                *place = found.ok_or(unfit)?[0] as usize;
            }
            let tiles = (taps * channels.div_ceil(QUAD) + 1) * outputs.div_ceil(QUAD);
            parts = parts_of_a_sum(tiles, self.batch * out_height, out_width);
        }
        let relu = usize::from(relu && tensors.is_some());
        let [weight, bias] = places;
        #[rustfmt::skip]
        let words = [
            kind as usize, height, width, channels, out_height, out_width, outputs, window, stride, padding, relu, weight,
            bias, parts, self.activations,
        ];
        Ok(words.map(|word| word as u32))
    }
}

/// How many threads share the sums of a tile of weights over `lines` lines of `width` pixels, so that `tiles` tiles are done
/// soonest. Few tiles would leave threads idle, many parts must be joined. Part of the numerics, as [`THREADS`] is.
fn parts_of_a_sum(tiles: usize, lines: usize, width: usize) -> usize {
    let threads = THREADS as usize;
    let duration = |parts: usize| tiles.div_ceil(threads / parts) * (lines.div_ceil(parts) * width + JOINING);
    (1..=threads.min(lines.max(1))).min_by_key(|&parts| (duration(parts), parts)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::{Layout, TensorSpec};

    use super::*;

    fn plan(layers: Vec<Layer>, shapes: &[&[usize]]) -> Result<FeedForwardPlan, NotOnDevice> {
        let tensors = shapes.iter().enumerate().map(|(index, shape)| TensorSpec::new(format!("t{index}"), *shape));
        let lane = LanePlan::new(&Layout::new(tensors.collect()).unwrap()).unwrap();
        let batch = Box::new(|_, _| vec![]);
        let net = FeedForward { input: [5, 4, 3], layers, batch_size: 2, images: &[], labels: &[], batch };
        FeedForwardPlan::new(&net, &lane)
    }

    const CONVOLUTION: Layer = Layer::Convolution { weight: 0, bias: 1, outputs: 6, window: 3, stride: 2, padding: 1 };
    const HEAD: Layer = Layer::Linear { weight: 2, bias: 3, outputs: 10 };
    const SHAPES: [&[usize]; 4] = [&[3, 3, 3, 6], &[6], &[6, 10], &[10]];

    #[test]
    fn layers_follow_one_another() {
        let plan = plan(vec![CONVOLUTION, Layer::MaxPool { window: 2 }, Layer::SpatialMean, HEAD], &SHAPES).unwrap();
        // Tiles of the convolution: 9 taps and the bias, one row of channels, two of outputs; lines: 2 · 3.
        let parts = parts_of_a_sum(20, 6, 2) as u32;
        let expected = [
            [0, 5, 4, 3, 3, 2, 6, 3, 2, 1, 1, 0, 162, parts, 0],
            [1, 3, 2, 6, 1, 1, 6, 2, 2, 0, 0, 0, 0, 1, 72],
            [2, 1, 1, 6, 1, 1, 6, 1, 1, 0, 0, 0, 0, 1, 84],
            [0, 1, 1, 6, 1, 1, 10, 1, 1, 0, 0, 168, 228, 2, 96],
        ];
        assert_eq!(plan.layers, expected);
        assert_eq!((plan.batch, plan.activations), (2, 116));
    }

    #[test]
    fn a_linear_layer_takes_the_whole_image() {
        let plan = plan(vec![Layer::Linear { weight: 0, bias: 1, outputs: 7 }], &[&[60, 7], &[7]]).unwrap();
        assert_eq!(plan.layers[0][1..7], [1, 1, 60, 1, 1, 7]);
    }

    #[test]
    fn networks_that_do_not_fit_are_refused_with_the_reason() {
        for (layers, shapes, why) in [
            (vec![], &SHAPES[..], "end in a linear layer"),
            (vec![CONVOLUTION, Layer::SpatialMean], &SHAPES, "end in a linear layer"),
            (vec![Layer::MaxPool { window: 5 }, HEAD], &SHAPES, "larger windows"),
            (vec![CONVOLUTION, HEAD], &SHAPES, "another shape"),
            (vec![CONVOLUTION, Layer::SpatialMean, HEAD], &SHAPES[..3], "another shape"),
        ] {
            let refused = plan(layers.clone(), shapes).unwrap_err().to_string();
            assert!(refused.contains(why), "{layers:?}: {refused}");
        }
    }

    #[test]
    fn few_weights_are_shared_by_many_threads() {
        for (tiles, lines, width) in [(40, 64 * 16, 16), (296, 64 * 8, 8), (24, 128, 1), (1 << 20, 128, 1), (7, 1, 1)] {
            let parts = parts_of_a_sum(tiles, lines, width);
            assert!(parts <= lines && parts <= THREADS as usize);
            // How much of the threads' time is spent on sums.
            let rounds = tiles.div_ceil(THREADS as usize / parts);
            let used = (tiles * lines) as f64 / (rounds * lines.div_ceil(parts) * THREADS as usize) as f64;
            assert!(used > 0.8 || lines == 1, "{tiles} tiles, {lines} lines: {parts} parts, {used}");
        }
    }
}
