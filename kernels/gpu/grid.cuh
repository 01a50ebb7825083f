// The loops of all kernels: over any number of elements, whatever the size of the grid.
//
// A compiler option defines `real` as float or double. Sizes and offsets have 64 bits.

#pragma once

using int64 = long long;

// Neighbouring threads take neighbouring elements, so that their accesses coalesce.
#define FOR_ELEMENTS(i, count)                                             \
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < (count); \
         i += (int64)gridDim.x * blockDim.x)

#define FOR_ROWS(i, count) for (int64 i = blockIdx.y; i < (count); i += gridDim.y)
