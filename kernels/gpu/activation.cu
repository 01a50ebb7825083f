// ReLU and tanh: value, derivative and average, alone and with a dense layer's bias.

#include "activation.cuh"
#include "dense.cuh"

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
