// Stacks of dense layers with activations: a block takes a few rows through all of them.
//
// No row depends on another, so no block waits for another, and nothing is launched between layers.
// The values after each activation are (rows, width) arrays, one behind the other, those of the
// inputs first; the values before them likewise, without those of the inputs. A row of weights in
// shared memory has one element more than is used, so that a warp's threads read from all banks.

#include "activation.cuh"
#include "grid.cuh"
#include "reduction.cuh"

namespace stack {

constexpr unsigned ROWS = 8;                        // of a block; the same as in stack.py
constexpr unsigned UNITS = 64;                      // whose sums it takes at a time
constexpr unsigned SHARE = ROWS * UNITS / THREADS;  // rows of a thread, which has one unit
constexpr unsigned TERMS = 32;                      // of the sums that it takes at a time

constexpr unsigned WIDTH = 16;               // columns of a block that sums rows; as in stack.py
constexpr unsigned LANES = THREADS / WIDTH;  // threads that share a column

enum Kind { NONE, RELU, TANH };  // the same as ACTIVATIONS in kernels/cpu/stack.py

__device__ inline real value(int64 kind, real z) {
    if (kind == TANH) return activation::Tanh::value(z);
    return kind == RELU ? activation::ReLU::value(z) : z;
}

__device__ inline real slope(int64 kind, real grad, real out) {
    if (kind == TANH) return activation::Tanh::backward(grad, out);
    return kind == RELU ? activation::ReLU::backward(grad, out) : grad;
}

__device__ inline real mean_slope(int64 kind, real grad, real a, real f_a, real b, real f_b) {
    if (kind == TANH) return activation::Tanh::average_backward(grad, a, f_a, b, f_b);
    return kind == RELU ? activation::ReLU::average_backward(grad, a, f_a, b, f_b) : grad;
}

// The first row of a tile, and its number of rows.
struct Tile {
    int64 top, count;

    __device__ Tile(int64 tile, int64 rows)
        : top(tile * ROWS), count(rows - top < ROWS ? rows - top : ROWS) {}
};

// Copies some columns of a tile's rows to shared memory, with zeros around them.
__device__ inline void load(real (*terms)[ROWS], const real* from, const Tile& tile, int64 first,
                            int64 width) {
    for (unsigned i = threadIdx.x; i < ROWS * TERMS; i += THREADS) {
        const unsigned row = i / TERMS, term = i % TERMS;
        const bool inside = row < tile.count && first + term < width;
        terms[term][row] = inside ? from[(tile.top + row) * width + first + term] : 0;
    }
}

// Adds TERMS products to the sums of a thread's rows.
__device__ inline void add_products(real* sums, const real (*terms)[ROWS], const real* weights,
                                    unsigned share) {
    for (unsigned term = 0; term < TERMS; ++term) {
        for (unsigned i = 0; i < SHARE; ++i) {
            sums[i] = fma(terms[term][share + i], weights[term], sums[i]);
        }
    }
}

}  // namespace stack

#define FOR_TILES(tile, rows)                                              \
    for (int64 tile = blockIdx.x; tile < ((rows) + stack::ROWS - 1) / stack::ROWS; \
         tile += gridDim.x)

// `before` is written if `keeps`.
extern "C" __global__ void stack_forward(const real* x, const real* parameters,
                                         const int64* widths, const int64* kinds, real* after,
                                         real* before, int64 layers, int64 rows, bool keeps) {
    using namespace stack;
    __shared__ real weights[UNITS][TERMS + 1];
    __shared__ real terms[TERMS][ROWS];
    const unsigned unit = threadIdx.x % UNITS, share = threadIdx.x / UNITS * SHARE;
    FOR_TILES(number, rows) {
        const Tile tile(number, rows);
        for (int64 i = threadIdx.x; i < tile.count * widths[0]; i += THREADS) {
            after[tile.top * widths[0] + i] = x[tile.top * widths[0] + i];
        }
        __syncthreads();
        const real *weight = parameters, *below = after;
        real* unactivated = before;
        for (int64 layer = 0; layer < layers; ++layer) {
            const int64 n = widths[layer], m = widths[layer + 1];
            const real* bias = weight + m * n;
            real* result = after + (below - after) + rows * n;
            for (int64 first = 0; first < m; first += UNITS) {
                real sums[SHARE] = {};
                for (int64 k = 0; k < n; k += TERMS) {
                    for (unsigned i = threadIdx.x; i < UNITS * TERMS; i += THREADS) {
                        const unsigned row = i / TERMS, term = i % TERMS;
                        const bool inside = first + row < m && k + term < n;
                        weights[row][term] = inside ? weight[(first + row) * n + k + term] : 0;
                    }
                    load(terms, below, tile, k, n);
                    __syncthreads();
                    add_products(sums, terms, weights[unit], share);
                    __syncthreads();
                }
                for (unsigned i = 0; i < SHARE && first + unit < m; ++i) {
                    if (share + i >= tile.count) continue;
                    const int64 place = (tile.top + share + i) * m + first + unit;
                    const real z = sums[i] + bias[first + unit];
                    if (keeps) unactivated[place] = z;
                    result[place] = value(kinds[layer], z);
                }
            }
            __syncthreads();
            weight = bias + m;
            below = result;
            unactivated += rows * m;
        }
    }
}

// The gradients of the values before the activations, and of the inputs if it `needs_x`.
//
// From layer `moved` on, the Jacobians are means over the segment between two passes.
extern "C" __global__ void stack_backward(const real* grad, const real* parameters,
                                          const real* end_parameters, const real* after,
                                          const real* before, const real* end_after,
                                          const real* end_before, const int64* widths,
                                          const int64* kinds, real* z_grads, real* x_grad,
                                          int64 layers, int64 moved, int64 rows, bool needs_x) {
    using namespace stack;
    __shared__ real weights[UNITS][TERMS + 1];
    __shared__ real terms[TERMS][ROWS];
    const unsigned unit = threadIdx.x % UNITS, share = threadIdx.x / UNITS * SHARE;
    int64 all_units = 0, all_weights = 0;
    for (int64 layer = 0; layer < layers; ++layer) {
        all_units += widths[layer + 1];
        all_weights += (widths[layer] + 1) * widths[layer + 1];
    }
    FOR_TILES(number, rows) {
        const Tile tile(number, rows);
        int64 place = rows * all_units, weight = all_weights;
        const real* source = grad;
        for (int64 layer = layers - 1; layer >= 0; --layer) {
            const int64 n = widths[layer], m = widths[layer + 1];
            place -= rows * m;
            weight -= (n + 1) * m;
            const int64 own = place + tile.top * m, out = own + rows * widths[0];
            const bool averages = layer >= moved;
            for (int64 i = threadIdx.x; i < tile.count * m; i += THREADS) {
                const real g = source[tile.top * m + i];
                z_grads[own + i] = averages
                    ? mean_slope(kinds[layer], g, before[own + i], after[out + i],
                                 end_before[own + i], end_after[out + i])
                    : slope(kinds[layer], g, after[out + i]);
            }
            __syncthreads();
            if (layer == 0 && !needs_x) continue;
            real* target = layer > 0 ? z_grads + place - rows * n : x_grad;
            for (int64 first = 0; first < n; first += UNITS) {
                real sums[SHARE] = {};
                for (int64 k = 0; k < m; k += TERMS) {
                    for (unsigned i = threadIdx.x; i < UNITS * TERMS; i += THREADS) {
                        const unsigned column = i % UNITS, term = i / UNITS;
                        const bool inside = first + column < n && k + term < m;
                        const int64 at = weight + (k + term) * n + first + column;
                        real factor = inside ? parameters[at] : 0;
                        if (inside && averages) factor = (factor + end_parameters[at]) / 2;
                        weights[column][term] = factor;
                    }
                    load(terms, z_grads + place, tile, k, m);
                    __syncthreads();
                    add_products(sums, terms, weights[unit], share);
                    __syncthreads();
                }
                for (unsigned i = 0; i < SHARE && first + unit < n; ++i) {
                    if (share + i >= tile.count) continue;
                    target[(tile.top + share + i) * n + first + unit] = sums[i];
                }
            }
            __syncthreads();
            source = target;
        }
    }
}

// The sums over rows of the gradients of the values before the activations: those of the biases.
extern "C" __global__ void stack_bias_gradients(const real* z_grads, const int64* widths,
                                                real* gradient, int64 layers, int64 rows) {
    using stack::LANES;
    using stack::WIDTH;
    __shared__ double partial[THREADS];
    const unsigned lane = threadIdx.x / WIDTH;
    FOR_ROWS(layer, layers) {
        int64 place = 0, bias = widths[0] * widths[1];
        for (int64 below = 0; below < layer; ++below) {
            place += rows * widths[below + 1];
            bias += widths[below + 1] * (1 + widths[below + 2]);
        }
        const int64 m = widths[layer + 1];
        for (int64 left = (int64)blockIdx.x * WIDTH; left < m; left += gridDim.x * WIDTH) {
            const int64 column = left + threadIdx.x % WIDTH;
            double sum = 0;
            if (column < m) {
                for (int64 row = lane; row < rows; row += LANES) {
                    sum += z_grads[place + row * m + column];
                }
            }
            __syncthreads();  // an earlier sum may still be read
            partial[threadIdx.x] = sum;
            for (unsigned half = THREADS / 2; half >= WIDTH; half /= 2) {
                __syncthreads();
                if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
            }
            if (lane == 0 && column < m) gradient[bias + column] = partial[threadIdx.x];
        }
    }
}
