// Sums and maxima over a block or a warp, in an order that depends on their sizes alone.

#pragma once

#include "grid.cuh"
#include "segment.cuh"

constexpr unsigned THREADS = 256;  // of every block; the same as in launch.py
constexpr unsigned WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffff;

// The threads that share a row of n elements: a warp if it is short, otherwise a block.
__device__ inline unsigned team_of(int64 n) { return n <= 128 ? WARP : THREADS; }

// For kernels with one row to a team; `over_rows` in launch.py returns their grid.
#define FOR_TEAM_ROWS(row, rows, n)                                                         \
    for (int64 row = (int64)blockIdx.y * (THREADS / team_of(n)) + threadIdx.x / team_of(n); \
         row < (rows); row += (int64)gridDim.y * (THREADS / team_of(n)))

#define FOR_COLUMNS(j, n) for (int64 j = threadIdx.x % team_of(n); j < (n); j += team_of(n))

struct Plus {
    __device__ double operator()(double x, double y) const { return x + y; }
};

struct Larger {
    __device__ double operator()(double x, double y) const { return larger(x, y); }
};

// Combines the values of a team's threads, all of which call it and get the same result.
template <typename Combine>
__device__ inline double team_reduce(double value, unsigned team, Combine combine) {
    for (unsigned lanes = WARP / 2; lanes > 0; lanes /= 2) {
        value = combine(value, __shfl_down_sync(ALL_LANES, value, lanes));
    }
    // From one lane: where a NaN is involved, others may have found something else.
    if (team == WARP) return __shfl_sync(ALL_LANES, value, 0);
    __shared__ double partial[THREADS / WARP];
    __syncthreads();  // an earlier result may still be read
    if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = value;
    __syncthreads();
    value = partial[0];
    for (unsigned warp = 1; warp < THREADS / WARP; ++warp) value = combine(value, partial[warp]);
    return value;
}

// Over the threads of a block.
__device__ inline double block_sum(double value) { return team_reduce(value, THREADS, Plus()); }

__device__ inline double block_max(double value) { return team_reduce(value, THREADS, Larger()); }

// Over the threads that share a row of n elements.
__device__ inline double row_sum(double value, int64 n) {
    return team_reduce(value, team_of(n), Plus());
}

__device__ inline double row_max(double value, int64 n) {
    return team_reduce(value, team_of(n), Larger());
}
