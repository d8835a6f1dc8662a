// One tensor of a lane, and where its accumulators lie, as in optimizer-core/src/learned/{axes,accumulators}.rs.
//
//   d0: the larger axis (the later of equals), d1: the smaller one
//   v_row: mean over d0, one value an index of d1        v_col: mean over d1, one value an index of d0
//   slots of the tensor in a lane:  m [3, size] │ rms [size] │ v_row [3, d1] │ v_col [3, d0]     rank 2
//                                   m [3, size] │ rms [size] │ v_diag [3, size]                  rank 0 and 1
//
// Higher ranks stay on the CPU.
#ifndef TENSOR_CUH
#define TENSOR_CUH
#include "platform.cuh"

// Five words, as `TensorPlace` of src/cuda/layout.rs writes them.
struct Tensor {
    // Where its parameters begin within a lane, and how many there are.
    u32 offset, size;
    // Shape, both 0 below rank 2.
    u32 rows, cols;
    // Where its slots begin within a lane.
    u32 slots;
};

DEVICE bool is_matrix(const Tensor& tensor) {
    return tensor.rows > 0;
}

// d0 is the last axis.
DEVICE bool is_wide(const Tensor& tensor) {
    return tensor.cols >= tensor.rows;
}

// Number of row values, the size of d1.
DEVICE u32 row_values(const Tensor& tensor) {
    return is_wide(tensor) ? tensor.rows : tensor.cols;
}

// Number of column values, the size of d0.
DEVICE u32 col_values(const Tensor& tensor) {
    return is_wide(tensor) ? tensor.cols : tensor.rows;
}

// Which row and column value belong to an element.
struct Place {
    u32 row, col;
};

DEVICE Place place_of(const Tensor& tensor, u32 element) {
    u32 i = element / tensor.cols, j = element % tensor.cols;
    Place place = {is_wide(tensor) ? i : j, is_wide(tensor) ? j : i};
    return place;
}

// A tensor's slots.
struct Slots {
    float *m, *rms, *row, *col, *diag;
};

DEVICE Slots slots_of(const Tensor& tensor, float* lane) {
    float* first = lane + tensor.slots;
    float* second = first + 4 * tensor.size;
    Slots slots = {first, first + 3 * tensor.size, second, second + 3 * row_values(tensor), second};
    return slots;
}

#endif
