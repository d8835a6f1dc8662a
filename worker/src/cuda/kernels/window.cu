// A whole window of a tiny task inside one multiprocessor: one block a lane, from the first step to the last in one launch.
//
//   arena           sums │ learned optimizer │ tables │ advice │ parameters │ gradients │ optimizer state │ activations
//   global memory   data set (shared by all), examples' numbers, thetas; losses out
//
// As many parts of the arena as fit, from the left, lie in shared memory, the others in global memory (`spill`): same
// numbers, more traffic. Where all fit, nothing leaves the multiprocessor between steps but a loss.
#include "adafac_mlp.cuh"
#include "celo2.cuh"
#include "feed_forward.cuh"
#include "hyper_v2.cuh"

// Sizes in floats, and what lanes share; thirteen words, as `WindowPlan` of src/cuda/window.rs writes them.
struct Window {
    u32 scratch_size, size, slot_size, theta_size, table_size, activation_size;
    u32 tensors, layers, batch, steps, lanes_per_task;
    // Of the arena: how much of it lies in shared memory, and how much of it does not.
    u32 shared_size, spill_size;
};

// Memory of which parts are taken one after the other.
struct Arena {
    float *shared, *spill;
    u32 shared_size, taken;
};

// The next part, on a quad. The plan has the shared memory end where a part does.
DEVICE float* take(Arena& arena, u32 size) {
    u32 at = arena.taken;
    arena.taken += tiles_of(size, QUAD) * QUAD;
    return at < arena.shared_size ? arena.shared + at : arena.spill + (at - arena.shared_size);
}

DEVICE void copy(float* to, const float* from, u32 count) {
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
        to[i] = from[i];
    }
}

DEVICE bool all_finite(const float* values, u32 count, float* scratch, float* total) {
    bool wrong = false;
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
        wrong = wrong || !is_finite(values[i]);
    }
    return block_count(wrong, scratch, total) == 0.0f;
}

// A lane that stopped being finite: empty, its further losses NaN, as InnerLoop of optimizer-core leaves it.
DEVICE void empty(const Window& window, u32 step, float* params, float* slots, float* losses) {
    for (u32 i = threadIdx.x; i < window.size; i += blockDim.x) {
        params[i] = 0.0f;
    }
    for (u32 i = threadIdx.x; i < window.slot_size; i += blockDim.x) {
        slots[i] = 0.0f;
    }
    for (u32 i = step + threadIdx.x; i < window.steps; i += blockDim.x) {
        losses[i] = BITS_FLOAT(0x7fc00000u);
    }
}

// params [lanes, size], slots [lanes, slot_size], thetas [lanes, theta_size], first_steps, horizons,
// diverged [lanes], losses [lanes, steps], batches [tasks, steps, batch]; blockIdx.x is the lane.
template <class Rule>
DEVICE void train(const Window& window, const Layer* layers, const Tensor* tensors, const float* settings,
                  const u32* place, const float* images, const u32* labels, const u32* batches, const float* thetas,
                  const u32* first_steps, const u32* horizons, float* params, float* slots, u32* diverged, float* losses,
                  float* memory, float* spill) {
    u32 lane = blockIdx.x;
    Network net = {layers, window.layers, window.batch};
    float* out_params = params + (u64)lane * window.size;
    float* out_slots = slots + (u64)lane * window.slot_size;
    losses += (u64)lane * window.steps;
    batches += (u64)(lane / window.lanes_per_task) * window.steps * net.batch;
    if (diverged[lane]) {
        empty(window, 0, out_params, out_slots, losses);
        return;
    }
    Arena arena = {memory, spill + (u64)lane * window.spill_size, window.shared_size, 0};
    // Behind the sums the one they end in.
    float* scratch = take(arena, window.scratch_size);
    float* total = scratch + (Rule::CHANNELS + SEPARABLE) * blockDim.x;
    Workspace<Rule>& space = *(Workspace<Rule>*)take(arena, sizeof(Workspace<Rule>) / sizeof(float));
    float* tables = take(arena, window.table_size);
    float* advice = take(arena, window.tensors * Rule::ADVICE);
    float* p = take(arena, window.size);
    float* g = take(arena, window.size);
    float* s = take(arena, window.slot_size);
    float* activations = take(arena, window.activation_size);
    const typename Rule::Settings& rule = *(const typename Rule::Settings*)settings;
    Rule::load(thetas + (u64)lane * window.theta_size, place, rule, space);
    copy(p, out_params, window.size);
    copy(s, out_slots, window.slot_size);
    __syncthreads();
    for (u32 step = 0; step < window.steps; ++step) {
        float loss = loss_and_gradient(net, p, images, labels, batches + step * net.batch, activations, scratch, total, g);
        if (!is_finite(loss) || !all_finite(g, window.size, scratch, total)) {
            empty(window, step, out_params, out_slots, losses);
            diverged[lane] = 1;
            return;
        }
        if (threadIdx.x == 0) {
            losses[step] = loss;
        }
        Moment now = {first_steps[lane] + step, horizons[lane], loss, tensors, window.tensors, window.slot_size, p, s,
                      thetas + (u64)lane * window.theta_size, place, advice, scratch};
        Rule::begin_step(now, rule, space);
        __syncthreads();
        for (u32 t = 0; t < window.tensors; ++t) {
            Tensor tensor = tensors[t];
            if (tensor.size == 0) {
                continue;
            }
            Slots own = slots_of(tensor, s);
            Tables own_tables = tables_of<Rule>(tensor, tables);
            const float* told = advice + t * Rule::ADVICE;
            Rule::begin_tensor(told, space);
            update_tensor<Rule>(tensor, p + tensor.offset, g + tensor.offset, own, own_tables, space, rule, told, scratch);
            __syncthreads();
        }
        if (!all_finite(p, window.size, scratch, total)) {
            empty(window, step + 1, out_params, out_slots, losses);
            diverged[lane] = 1;
            return;
        }
    }
    copy(out_params, p, window.size);
    copy(out_slots, s, window.slot_size);
}

KERNEL adafac_mlp_window(const Window* window, const Layer* layers, const Tensor* tensors, const float* settings,
                         const u32* place, const float* images, const u32* labels, const u32* batches,
                         const float* thetas, const u32* first_steps, const u32* horizons, float* params, float* slots,
                         u32* diverged, float* losses, float* spill) {
    SHARED_MEMORY(memory);
    train<AdafacMlp>(*window, layers, tensors, settings, place, images, labels, batches, thetas, first_steps, horizons,
                     params, slots, diverged, losses, memory, spill);
}

KERNEL celo2_window(const Window* window, const Layer* layers, const Tensor* tensors, const float* settings,
                    const u32* place, const float* images, const u32* labels, const u32* batches, const float* thetas,
                    const u32* first_steps, const u32* horizons, float* params, float* slots, u32* diverged,
                    float* losses, float* spill) {
    SHARED_MEMORY(memory);
    train<Celo2>(*window, layers, tensors, settings, place, images, labels, batches, thetas, first_steps, horizons,
                 params, slots, diverged, losses, memory, spill);
}

KERNEL hyper_v2_window(const Window* window, const Layer* layers, const Tensor* tensors, const float* settings,
                       const u32* place, const float* images, const u32* labels, const u32* batches,
                       const float* thetas, const u32* first_steps, const u32* horizons, float* params, float* slots,
                       u32* diverged, float* losses, float* spill) {
    SHARED_MEMORY(memory);
    train<HyperV2>(*window, layers, tensors, settings, place, images, labels, batches, thetas, first_steps, horizons,
                   params, slots, diverged, losses, memory, spill);
}
