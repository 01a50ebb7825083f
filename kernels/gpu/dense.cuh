// Loops over the rows and columns of a dense layer, and sums over its rows.

#pragma once

#include "grid.cuh"
#include "reduction.cuh"

namespace dense {

// A block is WIDTH columns wide. Neighbouring threads take neighbouring columns, and LANES threads
// share the rows of a column.
constexpr unsigned WIDTH = 16;
constexpr unsigned LANES = THREADS / WIDTH;
constexpr int64 ROWS = 128;  // that a block sums; the same as in dense.py

// Calls act(i, column) for each element i of an array (rows, columns).
template <typename Act>
__device__ inline void for_each(int64 rows, int64 columns, Act act) {
    int64 first_column = (int64)blockIdx.x * WIDTH + threadIdx.x % WIDTH;
    int64 first_row = (int64)blockIdx.y * LANES + threadIdx.x / WIDTH;
    for (int64 row = first_row; row < rows; row += (int64)gridDim.y * LANES)
        for (int64 column = first_column; column < columns; column += (int64)gridDim.x * WIDTH)
            act(row * columns + column, column);
}

// Sums value(i) over ROWS rows at a time into `sums`, (chunks, columns).
//
// First each lane sums its rows, then a tree sums the lanes: the same order in every kernel.
template <typename Value>
__device__ inline void sum_chunks(int64 rows, int64 columns, int64 chunks, real* sums,
                                  Value value) {
    __shared__ real partial[THREADS];
    const unsigned lane = threadIdx.x / WIDTH;
    const int64 tiles = (columns + WIDTH - 1) / WIDTH;
    FOR_ROWS(chunk, chunks) {
        const int64 stop = (chunk + 1) * ROWS < rows ? (chunk + 1) * ROWS : rows;
        for (int64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
            const int64 column = tile * WIDTH + threadIdx.x % WIDTH;
            real sum = 0;
            if (column < columns)
                for (int64 row = chunk * ROWS + lane; row < stop; row += LANES)
                    sum += value(row * columns + column);
            __syncthreads();  // an earlier sum may still be read
            partial[threadIdx.x] = sum;
            for (unsigned half = THREADS / 2; half >= WIDTH; half /= 2) {
                __syncthreads();
                if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
            }
            if (lane == 0 && column < columns)
                sums[chunk * columns + column] = partial[threadIdx.x];
        }
    }
}

}  // namespace dense
