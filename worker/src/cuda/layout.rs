//! How a lane lies in the device's memory.
//!
//! ```text
//!  lane of parameters   tensor 0 │ tensor 1 │ …                                    as many floats as the layout
//!  lane of slots        m ×3, rms, v_row ×3, v_col ×3 of tensor 0 │ … of tensor 1  in the order of `OptState::slots`
//!                       │ what a learned optimizer keeps of no tensor                 (a loss buffer, an LSTM's state)
//!  tensors              offset, size, factored axes, …, first slot of each         ten words, `Tensor` of tensor.cuh
//! ```

use std::sync::Arc;

use paceline_optimizer_core::learned::factored_axes;
use paceline_optimizer_core::optimizer::{OptState, Slot};
use paceline_optimizer_core::{Layout, Params};

use super::NotOnDevice;

/// Threads of a block that updates or trains. Part of the numerics: it decides the order of sums.
pub const THREADS: u32 = 256;

/// Timescales of momenta and of factored second moments.
const TIMESCALES: usize = 3;

/// Where the tensors of one lane lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanePlan {
    /// `Tensor` of `kernels/tensor.cuh`, one a tensor.
    pub tensors: Vec<[u32; 10]>,
    /// Parameters of a lane.
    pub size: usize,
    /// Floats of optimizer state of a lane.
    pub slot_size: usize,
    /// Row and column values of the tensor that has most of them.
    pub most_lines: usize,
}

impl LanePlan {
    /// The plan of a layout.
    ///
    /// # Errors
    /// [`NotOnDevice`] for a tensor of rank 2 or more without values, or a lane of 2³⁰ floats.
    pub fn new(layout: &Layout) -> Result<Self, NotOnDevice> {
        let mut plan = Self { tensors: Vec::new(), size: 0, slot_size: 0, most_lines: 0 };
        for tensor in layout.tensors() {
            let (shape, size) = (tensor.shape(), tensor.size());
            let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
            let (axes, [rows, cols], matrix) = match factored_axes(shape) {
                Some(_) if size == 0 => {
                    return Err(NotOnDevice::Shape { name: tensor.name().to_owned(), shape: shape.to_vec() });
                }
                Some([d0, d1]) => {
                    let axes = [shape[d0], stride(d0), shape[d1], stride(d1)];
                    (axes, [size / shape[d0], size / shape[d1]], shape[shape.len() - 2] * shape[shape.len() - 1])
                }
                None => ([0; 4], [0; 2], size),
            };
            let [d0, d0_stride, d1, d1_stride] = axes;
            let words = [plan.size, size, d0, d0_stride, d1, d1_stride, rows, cols, matrix, plan.slot_size];
            plan.tensors.push(words.map(|word| word as u32));
            let second = if rows > 0 { rows + cols } else { size };
            plan.size += size;
            plan.slot_size += (TIMESCALES + 1) * size + TIMESCALES * second;
            plan.most_lines = plan.most_lines.max(rows + cols);
            if plan.slot_size >= 1 << 30 {
                return Err(NotOnDevice::TooLarge);
            }
        }
        Ok(plan)
    }

    /// With this many floats of optimizer state behind those of the tensors.
    ///
    /// # Errors
    /// [`NotOnDevice::TooLarge`] for a lane of 2³⁰ floats.
    pub fn with_own_slots(self, own: usize) -> Result<Self, NotOnDevice> {
        let slot_size = self.slot_size + own;
        if slot_size >= 1 << 30 { Err(NotOnDevice::TooLarge) } else { Ok(Self { slot_size, ..self }) }
    }

    /// Parameters (or gradients) lane by lane.
    pub fn pack_params(params: &Params) -> Vec<f32> {
        let tensors = 0..params.layout().len();
        let lane = |lane| tensors.clone().flat_map(move |tensor| params.lane(tensor, lane).iter().copied());
        (0..params.lanes()).flat_map(lane).collect()
    }

    /// The reverse of [`LanePlan::pack_params`].
    ///
    /// # Panics
    /// If `packed` is not as long.
    pub fn unpack_params(layout: &Arc<Layout>, lanes: usize, packed: &[f32]) -> Params {
        let mut params = Params::zeros(layout, lanes);
        assert_eq!(packed.len(), lanes * layout.size(), "packed parameters must be those of all lanes");
        let mut rest = packed;
        for lane in 0..lanes {
            for tensor in 0..layout.len() {
                let to = params.lane_mut(tensor, lane);
                let (from, later) = rest.split_at(to.len());
                to.copy_from_slice(from);
                rest = later;
            }
        }
        params
    }

    /// Optimizer state lane by lane.
    pub fn pack_slots(state: &OptState) -> Vec<f32> {
        let lane = |lane| state.slots.iter().flat_map(move |slot| slot.lane(lane).iter().copied());
        (0..state.lanes()).flat_map(lane).collect()
    }

    /// The reverse of [`LanePlan::pack_slots`], into slots of the same shapes.
    ///
    /// # Panics
    /// If `packed` is not as long.
    pub fn unpack_slots(slots: &mut [Slot], lanes: usize, packed: &[f32]) {
        let mut rest = packed;
        for lane in 0..lanes {
            for slot in &mut *slots {
                let to = slot.lane_mut(lane);
                let (from, later) = rest.split_at(to.len());
                to.copy_from_slice(from);
                rest = later;
            }
        }
        assert!(rest.is_empty(), "packed slots must be those of all lanes");
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::TensorSpec;
    use paceline_optimizer_core::learned::{AdafacMlpConfig, LearnedOptimizerConfig};
    use paceline_optimizer_core::{Seed, noise};

    use super::*;

    fn layout(shapes: &[&[usize]]) -> Arc<Layout> {
        let tensors = shapes.iter().enumerate().map(|(index, shape)| TensorSpec::new(format!("t{index}"), *shape));
        Layout::new(tensors.collect()).unwrap()
    }

    #[test]
    fn tensors_and_slots_lie_one_after_the_other() {
        let plan = LanePlan::new(&layout(&[&[4, 2], &[3], &[]])).unwrap();
        // 8 parameters: 3·8 + 8 + 3·2 + 3·4 slots; 3 parameters: 3·3 + 3 + 3·3; 1 parameter: 7.
        let expected =
            [[0, 8, 4, 2, 2, 1, 2, 4, 8, 0], [8, 3, 0, 0, 0, 0, 0, 0, 3, 50], [11, 1, 0, 0, 0, 0, 0, 0, 1, 71]];
        assert_eq!(plan.tensors, expected);
        assert_eq!((plan.size, plan.slot_size, plan.most_lines), (12, 78, 6));
    }

    #[test]
    fn what_is_packed_comes_back() {
        let layout = layout(&[&[4, 2], &[3], &[]]);
        let optimizer = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()).build().unwrap();
        let bound = optimizer.bind(optimizer.init_theta(Seed::new(1))).unwrap();
        let mut state = bound.init(Params::zeros(&layout, 2), &[5, 5]).unwrap();
        let plan = LanePlan::new(&layout).unwrap();
        let (mut params, mut slots) = (vec![0.0; 2 * plan.size], vec![0.0; 2 * plan.slot_size]);
        noise::normals(Seed::new(2), 0, &mut params);
        noise::normals(Seed::new(3), 0, &mut slots);
        state.params = LanePlan::unpack_params(&layout, 2, &params);
        LanePlan::unpack_slots(&mut state.slots, 2, &slots);
        assert_eq!(LanePlan::pack_params(&state.params), params);
        assert_eq!(LanePlan::pack_slots(&state), slots);
        assert_eq!(state.params.lane(1, 1), &params[plan.size + 8..plan.size + 11]);
    }

    #[test]
    fn a_convolution_is_factored_along_its_largest_axes() {
        let plan = LanePlan::new(&layout(&[&[3, 3, 1, 16], &[5, 2, 3]])).unwrap();
        // 16 outputs, then kernel width: 3 · 3 · 1 rows and 3 · 1 · 16 columns. 5 then 3: 2 · 3 rows and 5 · 2 columns.
        let slots = 4 * 144 + 3 * (9 + 48);
        assert_eq!(plan.tensors, [[0, 144, 16, 1, 3, 16, 9, 48, 16, 0], [144, 30, 5, 6, 3, 1, 6, 10, 6, slots]]);
        assert_eq!((plan.slot_size as u32, plan.most_lines), (slots + 4 * 30 + 3 * 16, 57));
    }

    #[test]
    fn slots_are_as_long_as_those_of_the_optimizers() {
        let layout = layout(&[&[3, 3, 2, 4], &[2, 40, 3, 40], &[5, 2, 3], &[4, 4, 1, 1], &[7], &[]]);
        let optimizer = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()).build().unwrap();
        let bound = optimizer.bind(optimizer.init_theta(Seed::new(1))).unwrap();
        let state = bound.init(Params::zeros(&layout, 1), &[5]).unwrap();
        assert_eq!(LanePlan::new(&layout).unwrap().slot_size, LanePlan::pack_slots(&state).len());
    }

    #[test]
    fn tensors_without_values_stay_on_the_cpu() {
        let refused = LanePlan::new(&layout(&[&[3], &[3, 0]])).unwrap_err().to_string();
        assert!(refused.contains("t1") && refused.contains("[3, 0]"), "{refused}");
    }
}
