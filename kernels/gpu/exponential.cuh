// e^x, whole or in parts, and e^x - 1 for x <= 0, without branches; see kernels/cpu/exponential.py.

#pragma once

#include "segment.cuh"

namespace exponential {

constexpr double LOG2_E = 0x1.71547652b82fep+0;
constexpr double LN2_HIGH = 0x1.62e42feep-1;  // 32 bits, so that n * LN2_HIGH is exact
constexpr double LN2_LOW = 0x1.a39ef35793c76p-33;
constexpr double SHIFT = 0x1.8p+52;  // x + SHIFT is rounded to an integer

struct Parts {
    double power, rest;
};

__device__ inline double round_to_integer(double x) { return (x + SHIFT) - SHIFT; }

// 2^n for an integer n, -1022 <= n <= 1023.
__device__ inline double power_of_two(double n) {
    unsigned long long bits = (unsigned long long)__double_as_longlong(n + SHIFT) + 1023;
    return __longlong_as_double((long long)(bits << 52));
}

// n and e^r - 1 for x = n ln 2 + r with |r| < 0.35, where -1400 <= x <= 0.
__device__ inline Parts split_exp(double x) {
    double n = round_to_integer(x * LOG2_E);
    double head = x - n * LN2_HIGH;
    double r = head - n * LN2_LOW;
    double rounding = (head - r) - n * LN2_LOW;
    double series = fma(1.0 / 6227020800, r, 1.0 / 479001600);
    series = fma(series, r, 1.0 / 39916800);
    series = fma(series, r, 1.0 / 3628800);
    series = fma(series, r, 1.0 / 362880);
    series = fma(series, r, 1.0 / 40320);
    series = fma(series, r, 1.0 / 5040);
    series = fma(series, r, 1.0 / 720);
    series = fma(series, r, 1.0 / 120);
    series = fma(series, r, 1.0 / 24);
    series = fma(series, r, 1.0 / 6);
    series = fma(series, r, 1.0 / 2);
    return {n, (series * (r * r) + rounding) + r};
}

// e^x for x <= 0, and 0 below -708, where numbers become subnormal.
__device__ inline double exp_of(double x) {
    auto [n, rest] = split_exp(at_least(x, -708));
    double power = power_of_two(n);
    return x < -708 ? 0 : power + power * rest;
}

// e^x - 1 for x <= 0.
__device__ inline double expm1(double x) {
    auto [n, rest] = split_exp(at_least(x, -700));
    double power = power_of_two(n);
    return (power - 1) + power * rest;
}

}  // namespace exponential
