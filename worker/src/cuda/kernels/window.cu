// A whole window of a tiny task inside one multiprocessor: one block a lane, from the first step to the last in one launch.
//
//   shared memory   parameters │ gradients │ optimizer state │ learned optimizer │ tables │ activations, or sums
//   global memory   data set (shared by all), examples' numbers, thetas; losses out
//
// Between steps nothing leaves the multiprocessor but a loss. Where a lane does not fit into shared memory, the same arena
// lies in global memory (`spill`): same numbers, more traffic.
#include "adafac_mlp.cuh"
#include "celo2.cuh"
#include "perceptron.cuh"

// Sizes of the arena's parts in floats, and what lanes share; eight words.
struct Window {
    u32 size, slot_size, theta_size, tensors, table_size, steps, lanes_per_task, spill_size;
};

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

// params [lanes, size], slots [lanes, slot_size], thetas [lanes, theta_size], first_steps, diverged [lanes],
// losses [lanes, steps], batches [tasks, steps, batch]; blockIdx.x is the lane.
template <class Rule>
DEVICE void train(const Window& window, const Perceptron& net, const Tensor* tensors, const float* settings,
                  const u32* place, const float* images, const u32* labels, const u32* batches, const float* thetas,
                  const u32* first_steps, float* params, float* slots, u32* diverged, float* losses, float* arena) {
    u32 lane = blockIdx.x;
    float* out_params = params + (u64)lane * window.size;
    float* out_slots = slots + (u64)lane * window.slot_size;
    losses += (u64)lane * window.steps;
    batches += (u64)(lane / window.lanes_per_task) * window.steps * net.batch;
    if (diverged[lane]) {
        empty(window, 0, out_params, out_slots, losses);
        return;
    }
    float* p = arena;
    float* g = p + window.size;
    float* s = g + window.size;
    Workspace<Rule>& space = *(Workspace<Rule>*)(s + window.slot_size);
    float* tables = (float*)&space + sizeof(Workspace<Rule>) / sizeof(float);
    float* total = tables + window.table_size;
    float* scratch = total + 1;
    const typename Rule::Settings& rule = *(const typename Rule::Settings*)settings;
    Rule::load(thetas + (u64)lane * window.theta_size, place, rule, space);
    copy(p, out_params, window.size);
    copy(s, out_slots, window.slot_size);
    __syncthreads();
    for (u32 step = 0; step < window.steps; ++step) {
        // The sum of losses and the activations share the scratch with the sums of the update: never at the same time.
        float loss = loss_and_gradient(net, p, images, labels, batches + step * net.batch, scratch + blockDim.x, scratch,
                                       total, g);
        if (!is_finite(loss) || !all_finite(g, window.size, scratch, total)) {
            empty(window, step, out_params, out_slots, losses);
            diverged[lane] = 1;
            return;
        }
        if (threadIdx.x == 0) {
            losses[step] = loss;
        }
        Rule::begin_step(first_steps[lane] + step, space);
        __syncthreads();
        for (u32 t = 0; t < window.tensors; ++t) {
            Tensor tensor = tensors[t];
            if (tensor.size == 0) {
                continue;
            }
            Slots own = slots_of(tensor, s);
            Tables own_tables = tables_of<Rule>(tensor, tables);
            prepare_tensor<Rule>(tensor, p + tensor.offset, g + tensor.offset, own, own_tables, space, scratch);
            Rule::move(tensor, p + tensor.offset, g + tensor.offset, own, own_tables, space, rule, scratch);
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

KERNEL adafac_mlp_window(const Window* window, const Perceptron* net, const Tensor* tensors, const float* settings,
                         const u32* place, const float* images, const u32* labels, const u32* batches,
                         const float* thetas, const u32* first_steps, float* params, float* slots, u32* diverged,
                         float* losses, float* spill) {
    SHARED_MEMORY(memory);
    float* arena = window->spill_size > 0 ? spill + (u64)blockIdx.x * window->spill_size : memory;
    train<AdafacMlp>(*window, *net, tensors, settings, place, images, labels, batches, thetas, first_steps, params, slots,
                     diverged, losses, arena);
}

KERNEL celo2_window(const Window* window, const Perceptron* net, const Tensor* tensors, const float* settings,
                    const u32* place, const float* images, const u32* labels, const u32* batches, const float* thetas,
                    const u32* first_steps, float* params, float* slots, u32* diverged, float* losses, float* spill) {
    SHARED_MEMORY(memory);
    float* arena = window->spill_size > 0 ? spill + (u64)blockIdx.x * window->spill_size : memory;
    train<Celo2>(*window, *net, tensors, settings, place, images, labels, batches, thetas, first_steps, params, slots,
                 diverged, losses, arena);
}
