// What a dense layer does beside its products, in one pass over memory each.
//
// Where arrays are read and others written, __restrict__ says that these are not those: else a loop
// that is unrolled could load nothing before the last element has been stored.
//
// Evaluated in `real`, by CUDA's own exponentials, which keep what they need of a fused
// multiplication and addition; kernels/cpu/dense.py explains the formulas.

#include "grid.cuh"
#include "reduction.cuh"

namespace dense {

// A block is so many columns wide. Neighbouring threads take neighbouring columns, and each column
// has LANES threads, which share its rows.
constexpr unsigned WIDTH = 16;
constexpr unsigned LANES = THREADS / WIDTH;
constexpr int64 ROWS = 128;  // that a block sums up, as dense.py says

// Calls act(i, column) for each element i of an array of so many rows and columns.
template <typename Act>
__device__ inline void for_each(int64 rows, int64 columns, Act act) {
    int64 first_column = (int64)blockIdx.x * WIDTH + threadIdx.x % WIDTH;
    int64 first_row = (int64)blockIdx.y * LANES + threadIdx.x / WIDTH;
    for (int64 row = first_row; row < rows; row += (int64)gridDim.y * LANES)
        for (int64 column = first_column; column < columns; column += (int64)gridDim.x * WIDTH)
            act(row * columns + column, column);
}

// Sums value(i) over ROWS rows at a time: `sums` is (chunks, columns).
//
// The order is that of lanes, then of a tree over them: every kernel that sums has it.
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

struct ReLU {
    static __device__ real value(real x) { return x <= 0 ? 0 : x; }  // NaN passes

    static __device__ real pull(real grad, real out) { return out > 0 ? grad : 0; }

    // The slope is the share of the segment above zero, a ratio of lengths.
    static __device__ real average_pull(real grad, real a, real f_a, real b, real f_b) {
        real size_a = fabs(a), size_b = fabs(b);
        real scale = size_a > real(1e38) || size_b > real(1e38) ? 0.5 : 1;
        real above = scale * f_a + scale * f_b;
        real whole = scale * size_a + scale * size_b;
        real share = above == whole ? 1 : above / whole;
        return grad * (whole == 0 ? 0 : share);
    }
};

struct Tanh {
    static __device__ real value(real x) { return ::tanh(x); }

    static __device__ real pull(real grad, real out) { return grad * (1 - out * out); }

    // 2 / (1 + e^-2|x|) is 1 + |tanh x|. The root of e^-2|x| stands twice: the square underflows
    // before the result does.
    static __device__ real average_pull(real grad, real a, real f_a, real b, real f_b) {
        real size_a = fabs(a), size_b = fabs(b);
        real root = (a > 0) == (b > 0) ? ::exp(-(size_a < size_b ? size_a : size_b)) : 1;
        real half_gap = fabs(b / 2 - a / 2);
        bool apart = half_gap > 0;
        real drop = apart ? -::expm1(-4 * half_gap) : 4;
        real mean = drop / (apart ? half_gap : 1);
        mean *= (1 + fabs(f_a)) / 2 * ((1 + fabs(f_b)) / 2);
        return grad * (mean * root * root);
    }
};

}  // namespace dense

extern "C" __global__ void add_bias(real* z, const real* bias, int64 rows, int64 columns) {
    dense::for_each(rows, columns, [=](int64 i, int64 column) { z[i] += bias[column]; });
}

extern "C" __global__ void sum_rows(const real* values, real* sums, int64 rows, int64 columns,
                                    int64 chunks) {
    dense::sum_chunks(rows, columns, chunks, sums, [=](int64 i) { return values[i]; });
}

extern "C" __global__ void midpoint(const real* a, const real* b, real* middle, int64 count) {
    FOR_ELEMENTS(i, count) middle[i] = (a[i] + b[i]) / 2;
}

using Read = const real* __restrict__;
using Write = real* __restrict__;

#define ACTIVATION(name, Formulas)                                                               \
    extern "C" __global__ void name##_forward(Read x, Write out, int64 count) {                  \
        FOR_ELEMENTS(i, count) out[i] = dense::Formulas::value(x[i]);                            \
    }                                                                                            \
    extern "C" __global__ void name##_backward(Read grad, Read out, Write x_grad, int64 count) { \
        FOR_ELEMENTS(i, count) x_grad[i] = dense::Formulas::pull(grad[i], out[i]);               \
    }                                                                                            \
    extern "C" __global__ void name##_average_backward(                                          \
        Read grad, Read a, Read f_a, Read b, Read f_b, Write x_grad, int64 count) {              \
        FOR_ELEMENTS(i, count)                                                                   \
        x_grad[i] = dense::Formulas::average_pull(grad[i], a[i], f_a[i], b[i], f_b[i]);          \
    }                                                                                            \
    extern "C" __global__ void name##_forward_biased(                                            \
        Write z, Read bias, Write out, int64 rows, int64 columns) {                              \
        dense::for_each(rows, columns, [=](int64 i, int64 column) {                              \
            real x = z[i] + bias[column];                                                        \
            z[i] = x;                                                                            \
            out[i] = dense::Formulas::value(x);                                                  \
        });                                                                                      \
    }                                                                                            \
    extern "C" __global__ void name##_forward_in_place(                                          \
        Write z, Read bias, int64 rows, int64 columns) {                                         \
        dense::for_each(rows, columns, [=](int64 i, int64 column) {                              \
            z[i] = dense::Formulas::value(z[i] + bias[column]);                                  \
        });                                                                                      \
    }                                                                                            \
    extern "C" __global__ void name##_backward_biased(                                           \
        Read grad, Read out, Write z_grad, Write sums, int64 rows, int64 columns, int64 chunks) {\
        dense::sum_chunks(rows, columns, chunks, sums, [=](int64 i) {                            \
            return z_grad[i] = dense::Formulas::pull(grad[i], out[i]);                           \
        });                                                                                      \
    }                                                                                            \
    extern "C" __global__ void name##_average_backward_biased(                                   \
        Read grad, Read a, Read f_a, Read b, Read f_b, Write z_grad, Write sums, int64 rows,     \
        int64 columns, int64 chunks) {                                                           \
        dense::sum_chunks(rows, columns, chunks, sums, [=](int64 i) {                            \
            z_grad[i] = dense::Formulas::average_pull(grad[i], a[i], f_a[i], b[i], f_b[i]);      \
            return z_grad[i];                                                                    \
        });                                                                                      \
    }

ACTIVATION(relu, ReLU)
ACTIVATION(tanh, Tanh)
