// The standard normal density and distribution function, accurate far into the lower tail; see
// kernels/cpu/gaussian.py.

#pragma once

namespace gaussian {

constexpr double SQRT_HALF = 0x1.6a09e667f3bcdp-1;
constexpr double SQRT_HALF_HEAD = 0x1.6a09e6p-1;
constexpr double SQRT_HALF_TAIL = SQRT_HALF - SQRT_HALF_HEAD - 4.833646656726457e-17;
constexpr double SQRT_PI = 1.7724538509055159;
constexpr double SQRT_2PI = 2.5066282746310002;

// e^(-x^2 / 2) / sqrt(2 pi).
__device__ inline double density(double x) {
    if (fabs(x) > 40) return 0;
    double head = (float)x;
    return exp(-0.5 * head * head) * exp(-0.5 * (x - head) * (x + head)) / SQRT_2PI;
}

// Phi(x) = erfc(y) / 2 with y = -x / sqrt(2), for x <= 0.
//
// The rounding error of y enters to first order. `y` must be the rounded product wherever it
// stands: contracted into the difference below, the multiplication would undo the correction.
__device__ inline double below(double x) {
    if (x < -40) return 0;
    double y = -x * SQRT_HALF;
    double head = (float)-x;
    double tail = -x - head;
    double error = (head * SQRT_HALF_HEAD - y) + head * SQRT_HALF_TAIL + tail * SQRT_HALF;
    return 0.5 * erfc(y) - error * exp(-y * y) / SQRT_PI;
}

}  // namespace gaussian
