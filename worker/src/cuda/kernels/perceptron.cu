// Loss and gradient of many lanes on one batch each: one block a lane.
#include "perceptron.cuh"

// params, grads [lanes, size], losses [lanes], batches [lanes / lanes_per_task, batch]: the examples' numbers.
// Shared memory: blockDim.x floats to sum in, then the outputs of all layers.
KERNEL perceptron_gradient(const Perceptron* plan, u32 size, const float* images, const u32* labels, const u32* batches,
                           u32 lanes_per_task, const float* params, float* losses, float* grads) {
    SHARED_MEMORY(memory);
    Perceptron net = *plan;
    u32 lane = blockIdx.x;
    const u32* numbers = batches + (u64)(lane / lanes_per_task) * net.batch;
    float* total = memory + blockDim.x;
    u64 first = (u64)lane * size;
    float loss = loss_and_gradient(net, params + first, images, labels, numbers, total + 1, memory, total, grads + first);
    if (threadIdx.x == 0) {
        losses[lane] = loss;
    }
}
