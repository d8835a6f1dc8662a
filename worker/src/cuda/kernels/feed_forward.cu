// Loss and gradient of many lanes on one batch each: one block a lane.
#include "feed_forward.cuh"

// params, grads [lanes, size], losses [lanes], batches [lanes / lanes_per_task, batch]: the examples' numbers,
// activations [lanes, activation_size]. Shared memory: sixteen floats a thread to sum in, and one more.
KERNEL feed_forward_gradient(const Layer* layers, u32 count, u32 batch, u32 size, u32 activation_size,
                             const float* images, const u32* labels, const u32* batches, u32 lanes_per_task,
                             const float* params, float* losses, float* grads, float* activations) {
    SHARED_MEMORY(memory);
    Network net = {layers, count, batch};
    u32 lane = blockIdx.x;
    const u32* numbers = batches + (u64)(lane / lanes_per_task) * batch;
    float* total = memory + QUAD * QUAD * blockDim.x;
    u64 first = (u64)lane * size;
    float loss = loss_and_gradient(net, params + first, images, labels, numbers,
                                   activations + (u64)lane * activation_size, memory, total, grads + first);
    if (threadIdx.x == 0) {
        losses[lane] = loss;
    }
}
