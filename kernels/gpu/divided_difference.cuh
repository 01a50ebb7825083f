// Divided differences of the elementary functions; kernels/cpu/divided_difference.py explains them.
//
// The names hide CUDA's own functions, which are written with :: in front.

#pragma once

#include "segment.cuh"

namespace divided_difference {

__device__ inline double absolute(double a, double b) {
    auto [low, high] = order(a, b);
    if (low >= 0 || high <= 0) {
        double sum = low + high;
        return sum > 0 ? 1 : sum < 0 ? -1 : sum;  // NaN passes
    }
    if ((low == -INF) != (high == INF)) return high == INF ? 1 : -1;
    double scale = halving(low, high);
    return (scale * low + scale * high) / (scale * high - scale * low);
}

__device__ inline double exp(double a, double b) {
    auto [low, high] = order(a, b);
    double gap = gap_of(low, high);
    if (gap == 0) return ::exp(high);
    double drop = -::expm1(-gap);
    if (high <= 0) return ::exp(high) * (drop / gap);
    if (high < 700) return ::exp(high) * drop / gap;
    if (high > 1500 && low > -INF) return INF;
    double root = ::exp(0.5 * high);  // e^h overflows before e^h / d
    return root * (root * drop / gap);
}

__device__ inline double square(double a, double b) { return a + b; }

__device__ inline double sqrt(double a, double b) { return 1 / (::sqrt(a) + ::sqrt(b)); }

__device__ inline double reciprocal(double a, double b) {
    double product = a * b;
    double size = fabs(product);
    if ((1e-290 < size && size < 1e290) || product != product) return -1 / product;
    int exponent_a, exponent_b;
    double mantissa_a = ::frexp(a, &exponent_a);
    double mantissa_b = ::frexp(b, &exponent_b);
    return ::ldexp(-1 / (mantissa_a * mantissa_b), -exponent_a - exponent_b);
}

__device__ inline double log(double a, double b) {
    auto [low, high] = order(a, b);
    if (!(low >= 0)) return QUIET_NAN;
    if (high == INF) return low > 0 ? 0 : QUIET_NAN;
    double gap = high - low;
    if (gap == 0) return 1 / low;
    double ratio = gap / low;
    // or too far apart for anything to cancel
    if (ratio == INF) return (::log(high) - ::log(low)) / gap;
    return ::log1p(ratio) / gap;
}

__device__ inline double log1p(double a, double b) {
    auto [low, high] = order(a, b);
    if (!(low >= -1)) return QUIET_NAN;
    if (high == INF) return low > -1 ? 0 : QUIET_NAN;
    double gap = high - low;
    if (gap == 0) return 1 / (1 + low);
    double ratio = gap / (1 + low);
    if (ratio == INF) return (::log1p(high) - ::log1p(low)) / gap;
    return ::log1p(ratio) / gap;
}

// log(y / x) for x, y > 0.
__device__ inline double log_ratio(double x, double y) {
    double ratio = y / x;
    if (0.5 < ratio && ratio < 2) return ::log1p((y - x) / x);
    if (1e-300 < ratio && ratio < 1e300) return ::log(ratio);
    return ::log(y) - ::log(x);
}

// Powers of a, b >= 0.
__device__ inline double power_above(double a, double b, double exponent) {
    auto [low, high] = order(a, b);
    double main = exponent > 0 ? high : low;
    double other = exponent > 0 ? low : high;
    if (a == b) return exponent * ::pow(main, exponent - 1);
    if (main == 0) return other == INF ? QUIET_NAN : -INF;
    if (main == INF) return ::pow(main, exponent - 1);
    if (other == INF) return 0;
    double growth = ::expm1(exponent * log_ratio(main, other));
    double whole = ::pow(main, exponent);
    if (1e-280 < whole && whole < 1e280) return whole * growth / (other - main);
    double root = ::pow(main, 0.5 * exponent);
    return root * (root * growth / (other - main));
}

__device__ inline double power(double a, double b, double exponent) {
    if (a != a || b != b) return QUIET_NAN;
    if (exponent == 0) return 0;
    if (exponent == 1) return 1;
    if (a >= 0 && b >= 0) return power_above(a, b, exponent);
    if (exponent != ::floor(exponent)) return QUIET_NAN;
    bool even = ::fmod(exponent, 2) == 0;
    if (a <= 0 && b <= 0) {
        double mean = power_above(-a, -b, exponent);
        return even ? -mean : mean;
    }
    if (even) return a == -b ? 0 : absolute(a, b) * power_above(fabs(a), fabs(b), exponent);
    if (exponent > 0) {
        auto [above, below] = shares(a, b);
        double power_a = ::pow(larger(a, b), exponent - 1);
        double power_b = ::pow(larger(-a, -b), exponent - 1);
        return above * power_a + below * power_b;
    }
    double root_a = ::pow(fabs(a), 0.5 * exponent);
    double root_b = ::pow(fabs(b), 0.5 * exponent);
    double gap = fabs(b - a);
    return root_a * (root_a / gap) + root_b * (root_b / gap);
}

struct Sum {
    double total, rest;
};

// The rounded sum and its rounding error (Knuth).
__device__ inline Sum two_sum(double x, double y) {
    double total = x + y;
    double part = total - x;
    return {total, (x - (total - part)) + (y - part)};
}

__device__ inline double sine(Sum x) {
    return ::sin(x.total) * ::cos(x.rest) + ::cos(x.total) * ::sin(x.rest);
}

__device__ inline double cosine(Sum x) {
    return ::cos(x.total) * ::cos(x.rest) - ::sin(x.total) * ::sin(x.rest);
}

// sin(d / 2) / (d / 2).
__device__ inline double sine_over_halfgap(double a, double b) {
    Sum half = two_sum(0.5 * b, -0.5 * a);
    return half.total == 0 ? 1 : sine(half) / half.total;
}

// The mean slope of a wave with an infinite end.
__device__ inline double far_mean(double a, double b) {
    return a == b || a != a || b != b ? QUIET_NAN : 0;
}

__device__ inline double sin(double a, double b) {
    if (fabs(a) == INF || fabs(b) == INF) return far_mean(a, b);
    return cosine(two_sum(0.5 * a, 0.5 * b)) * sine_over_halfgap(a, b);
}

__device__ inline double cos(double a, double b) {
    if (fabs(a) == INF || fabs(b) == INF) return far_mean(a, b);
    return -sine(two_sum(0.5 * a, 0.5 * b)) * sine_over_halfgap(a, b);
}

}  // namespace divided_difference
