// ReLU and tanh: value, derivative and average.
//
// Evaluated in `real`, by CUDA's own exponentials; kernels/cpu/activation.py explains the formulas.

#pragma once

#include "grid.cuh"

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
