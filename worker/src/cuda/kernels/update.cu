// One update of many lanes: each block has one tensor of one lane, so that tensors as well as lanes spread over the
// device. A tensor as large as a whole device's work is still one block's: that case waits for a kernel of its own.
#include "adafac_mlp.cuh"
#include "celo2.cuh"
#include "hyper_v2.cuh"

// The block's tensor moves, all that it needs being in the workspace.
template <class Rule>
DEVICE void move_tensor(const Tensor* tensors, const typename Rule::Settings& rule, u32 size, u32 slot_size,
                        u32 table_size, float* grads, float* slots, float* params, float* tables, const float* told,
                        Workspace<Rule>& space, float* scratch) {
    u32 lane = blockIdx.x;
    Tensor tensor = tensors[blockIdx.y];
    if (tensor.size == 0) {
        return;
    }
    float* p = params + (u64)lane * size + tensor.offset;
    float* g = grads + (u64)lane * size + tensor.offset;
    Slots own = slots_of(tensor, slots + (u64)lane * slot_size);
    Tables own_tables = tables_of<Rule>(tensor, tables + ((u64)lane * gridDim.y + blockIdx.y) * table_size);
    update_tensor<Rule>(tensor, p, g, own, own_tables, space, rule, told, scratch);
}

// blockIdx.x: lane, blockIdx.y: tensor. params, grads [lanes, size], slots [lanes, slot_size], thetas [lanes, theta_size],
// steps [lanes], tables [lanes, tensors, table_size]; shared memory: Workspace, then (CHANNELS + 12) · blockDim.x floats.
template <class Rule>
DEVICE void update(const Tensor* tensors, const float* settings, const u32* place, u32 size, u32 slot_size,
                   u32 theta_size, u32 table_size, const float* thetas, const u32* steps, float* grads, float* slots,
                   float* params, float* tables, float* memory) {
    u32 lane = blockIdx.x;
    Workspace<Rule>& space = *(Workspace<Rule>*)memory;
    float* scratch = memory + sizeof(Workspace<Rule>) / sizeof(float);
    const typename Rule::Settings& rule = *(const typename Rule::Settings*)settings;
    Rule::load(thetas + (u64)lane * theta_size, place, rule, space);
    __syncthreads();
    Moment now = {};
    now.step = steps[lane];
    Rule::begin_step(now, rule, space);
    __syncthreads();
    move_tensor<Rule>(tensors, rule, size, slot_size, table_size, grads, slots, params, tables, (const float*)0, space,
                      scratch);
}

KERNEL adafac_mlp_update(const Tensor* tensors, const float* settings, const u32* place, u32 size, u32 slot_size,
                         u32 theta_size, u32 table_size, const float* thetas, const u32* steps, float* grads,
                         float* slots, float* params, float* tables) {
    SHARED_MEMORY(memory);
    update<AdafacMlp>(tensors, settings, place, size, slot_size, theta_size, table_size, thetas, steps, grads, slots,
                      params, tables, memory);
}

KERNEL celo2_update(const Tensor* tensors, const float* settings, const u32* place, u32 size, u32 slot_size,
                    u32 theta_size, u32 table_size, const float* thetas, const u32* steps, float* grads, float* slots,
                    float* params, float* tables) {
    SHARED_MEMORY(memory);
    update<Celo2>(tensors, settings, place, size, slot_size, theta_size, table_size, thetas, steps, grads, slots, params,
                  tables, memory);
}

// First of two launches, one block a lane: the losses [lanes] enter, and `advice` [lanes, tensors, ADVICE] is written.
KERNEL hyper_v2_advise(const Tensor* tensors, u32 count, const float* settings, const u32* place, u32 size,
                       u32 slot_size, u32 theta_size, const float* thetas, const u32* steps, const u32* horizons,
                       const float* losses, const float* params, float* slots, float* advice) {
    SHARED_MEMORY(memory);
    u64 lane = blockIdx.x;
    Moment now = {steps[lane], horizons[lane], losses[lane], tensors, count, slot_size, params + lane * size,
                  slots + lane * slot_size, thetas + lane * theta_size, place, advice + lane * count * HyperV2::ADVICE,
                  memory};
    HyperV2::advise(now, *(const HyperV2::Settings*)settings);
}

// Second, as the updates above.
KERNEL hyper_v2_update(const Tensor* tensors, const float* settings, u32 size, u32 slot_size, u32 table_size,
                       const float* advice, float* grads, float* slots, float* params, float* tables) {
    SHARED_MEMORY(memory);
    Workspace<HyperV2>& space = *(Workspace<HyperV2>*)memory;
    float* scratch = memory + sizeof(Workspace<HyperV2>) / sizeof(float);
    const HyperV2::Settings& rule = *(const HyperV2::Settings*)settings;
    const float* told = advice + ((u64)blockIdx.x * gridDim.y + blockIdx.y) * HyperV2::ADVICE;
    HyperV2::load((const float*)0, (const u32*)0, rule, space);
    HyperV2::begin_tensor(told, space);
    __syncthreads();
    move_tensor<HyperV2>(tensors, rule, size, slot_size, table_size, grads, slots, params, tables, told, space, scratch);
}
