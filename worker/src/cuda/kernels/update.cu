// One update of many lanes: each block has one tensor of one lane, so that tensors as well as lanes spread over the
// device. A tensor as large as a whole device's work is still one block's: that case waits for a kernel of its own.
#include "adafac_mlp.cuh"
#include "celo2.cuh"

// blockIdx.x: lane, blockIdx.y: tensor. params, grads [lanes, size], slots [lanes, slot_size], thetas [lanes, theta_size],
// steps [lanes], tables [lanes, tensors, table_size]; shared memory: Workspace, then (CHANNELS + 12) · blockDim.x floats.
template <class Rule>
DEVICE void update(const Tensor* tensors, const float* settings, const u32* place, u32 size, u32 slot_size,
                   u32 theta_size, u32 table_size, const float* thetas, const u32* steps, float* grads, float* slots,
                   float* params, float* tables, float* memory) {
    u32 lane = blockIdx.x;
    Tensor tensor = tensors[blockIdx.y];
    Workspace<Rule>& space = *(Workspace<Rule>*)memory;
    float* scratch = memory + sizeof(Workspace<Rule>) / sizeof(float);
    const typename Rule::Settings& rule = *(const typename Rule::Settings*)settings;
    Rule::load(thetas + (u64)lane * theta_size, place, rule, space);
    __syncthreads();
    Rule::begin_step(steps[lane], space);
    __syncthreads();
    if (tensor.size == 0) {
        return;
    }
    float* p = params + (u64)lane * size + tensor.offset;
    float* g = grads + (u64)lane * size + tensor.offset;
    Slots own = slots_of(tensor, slots + (u64)lane * slot_size);
    Tables own_tables = tables_of<Rule>(tensor, tables + ((u64)lane * gridDim.y + blockIdx.y) * table_size);
    update_tensor<Rule>(tensor, p, g, own, own_tables, space, rule, scratch);
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
