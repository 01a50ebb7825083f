// The sum over a block, by a tree whose shape is that of the block.

#pragma once

constexpr unsigned THREADS = 256;  // of every block, as launch.py says

// Returns the sum of what the threads of the block have to the first of them, 0 to the others.
__device__ inline double block_sum(double value) {
    __shared__ double partial[THREADS];
    __syncthreads();  // an earlier sum may still be read
    partial[threadIdx.x] = value;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    }
    return threadIdx.x == 0 ? partial[0] : 0;
}
