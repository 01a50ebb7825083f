// Sums and maxima over a block, by a tree whose shape depends on the block's size alone.

#pragma once

#include "segment.cuh"

constexpr unsigned THREADS = 256;  // of every block; the same as in launch.py

struct Plus {
    __device__ double operator()(double x, double y) const { return x + y; }
};

struct Larger {
    __device__ double operator()(double x, double y) const { return larger(x, y); }
};

// Combines the values of a block's threads. The first thread gets the result, the others 0.
template <typename Combine>
__device__ inline double block_reduce(double value, Combine combine) {
    __shared__ double partial[THREADS];
    __syncthreads();  // an earlier result may still be read
    partial[threadIdx.x] = value;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            partial[threadIdx.x] = combine(partial[threadIdx.x], partial[threadIdx.x + half]);
        }
    }
    return threadIdx.x == 0 ? partial[0] : 0;
}

__device__ inline double block_sum(double value) { return block_reduce(value, Plus()); }

// `block_reduce` with the result for all threads.
template <typename Combine>
__device__ inline double block_share(double value, Combine combine) {
    __shared__ double shared;
    double result = block_reduce(value, combine);
    if (threadIdx.x == 0) shared = result;
    __syncthreads();
    return shared;
}

__device__ inline double shared_sum(double value) { return block_share(value, Plus()); }

__device__ inline double shared_max(double value) { return block_share(value, Larger()); }
