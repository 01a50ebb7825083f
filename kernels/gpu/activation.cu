// ReLU and tanh: value, derivative and average, alone and with a dense layer's bias.
//
// Evaluated in `real`, by CUDA's own exponentials; kernels/cpu/activation.py explains the formulas.

#include "dense.cuh"

namespace activation {

struct ReLU {
    static __device__ real value(real x) { return x <= 0 ? 0 : x; }  // NaN passes

    static __device__ real backward(real grad, real out) { return out > 0 ? grad : 0; }

    // The slope is the share of the segment above zero, a ratio of lengths.
    static __device__ real average_backward(real grad, real a, real f_a, real b, real f_b) {
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

    static __device__ real backward(real grad, real out) { return grad * (1 - out * out); }

    // As on the CPU, with the root of e^-2|x| as a factor twice: its square would underflow before
    // the result does.
    static __device__ real average_backward(real grad, real a, real f_a, real b, real f_b) {
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

}  // namespace activation

// The arrays written are never those read. __restrict__ says so: otherwise an unrolled loop could
// load nothing before the last element has been stored.
using Read = const real* __restrict__;
using Write = real* __restrict__;

#define ACTIVATION(name, Formulas)                                                               \
    extern "C" __global__ void name##_forward(Read x, Write out, int64 count) {                  \
        FOR_ELEMENTS(i, count) out[i] = Formulas::value(x[i]);                                   \
    }                                                                                            \
    extern "C" __global__ void name##_backward(Read grad, Read out, Write x_grad, int64 count) { \
        FOR_ELEMENTS(i, count) x_grad[i] = Formulas::backward(grad[i], out[i]);                  \
    }                                                                                            \
    extern "C" __global__ void name##_average_backward(                                          \
        Read grad, Read a, Read f_a, Read b, Read f_b, Write x_grad, int64 count) {              \
        FOR_ELEMENTS(i, count)                                                                   \
        x_grad[i] = Formulas::average_backward(grad[i], a[i], f_a[i], b[i], f_b[i]);             \
    }                                                                                            \
    extern "C" __global__ void name##_forward_biased(                                            \
        Write z, Read bias, Write out, int64 rows, int64 columns) {                              \
        dense::for_each(rows, columns, [=](int64 i, int64 column) {                              \
            real x = z[i] + bias[column];                                                        \
            z[i] = x;                                                                            \
            out[i] = Formulas::value(x);                                                         \
        });                                                                                      \
    }                                                                                            \
    extern "C" __global__ void name##_forward_in_place(                                          \
        Write z, Read bias, int64 rows, int64 columns) {                                         \
        dense::for_each(rows, columns, [=](int64 i, int64 column) {                              \
            z[i] = Formulas::value(z[i] + bias[column]);                                         \
        });                                                                                      \
    }                                                                                            \
    extern "C" __global__ void name##_backward_biased(                                           \
        Read grad, Read out, Write z_grad, Write sums, int64 rows, int64 columns, int64 chunks) {\
        dense::sum_chunks(rows, columns, chunks, sums, [=](int64 i) {                            \
            return z_grad[i] = Formulas::backward(grad[i], out[i]);                              \
        });                                                                                      \
    }                                                                                            \
    extern "C" __global__ void name##_average_backward_biased(                                   \
        Read grad, Read a, Read f_a, Read b, Read f_b, Write z_grad, Write sums, int64 rows,     \
        int64 columns, int64 chunks) {                                                           \
        dense::sum_chunks(rows, columns, chunks, sums, [=](int64 i) {                            \
            z_grad[i] = Formulas::average_backward(grad[i], a[i], f_a[i], b[i], f_b[i]);         \
            return z_grad[i];                                                                    \
        });                                                                                      \
    }

ACTIVATION(relu, activation::ReLU)
ACTIVATION(tanh, activation::Tanh)
