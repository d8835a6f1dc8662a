// One tensor of a lane, and where its accumulators lie, as in optimizer-core/src/learned/{axes,accumulators}.rs.
//
//   d0: the largest axis (the later of equals), d1: the second largest; all others (kernel height, width) stay
//   v_row: mean over d0, one value an index of the rest     v_col: mean over d1, likewise
//   slots of the tensor in a lane:  m [3, size] │ rms [size] │ v_row [3, rows] │ v_col [3, cols]     rank 2 and more
//                                   m [3, size] │ rms [size] │ v_diag [3, size]                      rank 0 and 1
//
// Without one axis, an element's index is that of the line along the axis on which it lies:
//
//   element  outer · (size · stride) + along · stride + inner   ─►   line  outer · stride + inner
#ifndef TENSOR_CUH
#define TENSOR_CUH
#include "platform.cuh"

// An axis of a tensor.
struct Axis {
    u32 size;
    // From one index of it to the next.
    u32 stride;
};

// Ten words, as `LanePlan` of src/cuda/layout.rs writes them.
struct Tensor {
    // Where its parameters begin within a lane, and how many there are.
    u32 offset, size;
    // The factored axes, and how many row and column values they leave; all 0 below rank 2.
    Axis d0, d1;
    u32 rows, cols;
    // Elements of a matrix of the last two axes; all of them below rank 2.
    u32 matrix;
    // Where its slots begin within a lane.
    u32 slots;
};

DEVICE bool is_factored(const Tensor& tensor) {
    return tensor.rows > 0;
}

// The line along an axis on which an element lies. Divisions are slow: for a matrix half of them are by 1 or give 0, for
// all threads alike.
DEVICE u32 line_of(Axis axis, u32 element) {
    u32 block = axis.size * axis.stride;
    u32 outer = element < block ? 0 : element / block;
    return outer * axis.stride + (axis.stride == 1 ? 0 : element % axis.stride);
}

// The first element of a line along an axis.
DEVICE u32 first_of(Axis axis, u32 line) {
    return line / axis.stride * (axis.size * axis.stride) + line % axis.stride;
}

// Which row and column value belong to an element.
struct Place {
    u32 row, col;
};

DEVICE Place place_of(const Tensor& tensor, u32 element) {
    Place place = {0, 0};
    if (is_factored(tensor)) {
        place.row = line_of(tensor.d0, element);
        place.col = line_of(tensor.d1, element);
    }
    return place;
}

// d1 as an axis of the row values.
DEVICE Axis d1_of_rows(const Tensor& tensor) {
    // Equal strides: an axis of one index is beside the other, and nothing to divide by.
    bool behind = tensor.d1.stride <= tensor.d0.stride;
    Axis axis = {tensor.d1.size, behind ? tensor.d1.stride : tensor.d1.stride / tensor.d0.size};
    return axis;
}

// Elements that are normalised by themselves, one after the other, and the row and column values they meet: a whole
// tensor, or one matrix of its last two axes.
struct Slice {
    u32 first, size;
    u32 first_row, rows, first_col, cols;
};

// Lines along an axis that `size` elements meet, if they are a slice: the axis lies inside it, or has one index there.
DEVICE u32 lines_of(Axis axis, u32 size) {
    return axis.size * axis.stride <= size ? size / axis.size : size;
}

DEVICE Slice slice_of(const Tensor& tensor, u32 first, u32 size) {
    Place place = place_of(tensor, first);
    Slice slice = {first, size, place.row, 0, place.col, 0};
    if (is_factored(tensor)) {
        slice.rows = lines_of(tensor.d0, size);
        slice.cols = lines_of(tensor.d1, size);
    }
    return slice;
}

// A tensor's slots.
struct Slots {
    float *m, *rms, *row, *col, *diag;
};

DEVICE Slots slots_of(const Tensor& tensor, float* lane) {
    float* first = lane + tensor.slots;
    float* second = first + 4 * tensor.size;
    Slots slots = {first, first + 3 * tensor.size, second, second + 3 * tensor.rows, second};
    return slots;
}

#endif
