// Sigmoid, SiLU and softplus: value, derivative and average; kernels/cpu/logistic.py explains them.

#include "elementwise.cuh"
#include "exponential.cuh"
#include "segment.cuh"

namespace logistic {

// Sigmoid of |x| and of -|x|.
struct Sides {
    real near, far;
};

// In `real`, by CUDA's own exponential, which is right to 2 ulps: the sides are right to 3.
__device__ inline Sides sides(real x) {
    real small = ::exp(-fabs(x));
    return {1 / (1 + small), small / (1 + small)};
}

__device__ inline double sigmoid(double a, double b) {
    using namespace exponential;
    Parts end_a = split_exp(at_least(-fabs(a), -1400));
    Parts end_b = split_exp(at_least(-fabs(b), -1400));
    double scale_a = power_of_two(at_least(end_a.power, -1000));
    double scale_b = power_of_two(at_least(end_b.power, -1000));
    double one_plus = 1 + (scale_a + scale_a * end_a.rest);
    double both_one_plus = one_plus + one_plus * (scale_b + scale_b * end_b.rest);
    auto [power, rest] = a * b > 0 ? (fabs(a) < fabs(b) ? end_a : end_b) : Parts{0, 0};
    double quarter_gap = fabs(0.25 * b - 0.25 * a);
    double drop = -exponential::expm1(-4 * quarter_gap);
    drop = quarter_gap > 0 ? drop : 4;
    quarter_gap = quarter_gap > 0 ? quarter_gap : 1;
    double mean = (drop + drop * rest) / (quarter_gap * both_one_plus);
    double half_power = round_to_integer(0.5 * power);
    mean *= power_of_two(half_power);
    return 0.25 * (mean * power_of_two(power - half_power));
}

}  // namespace logistic

extern "C" __global__ void sigmoid(const real* x, real* out, int64 count) {
    FOR_ELEMENTS(i, count) {
        auto [near, far] = logistic::sides(x[i]);
        out[i] = x[i] < 0 ? far : near;
    }
}

extern "C" __global__ void sigmoid_backward(const real* grad, const real* out, real* x_grad,
                                            int64 count) {
    FOR_ELEMENTS(i, count) x_grad[i] = grad[i] * (out[i] * (1 - out[i]));
}

DIVIDED_DIFFERENCE(sigmoid, logistic::sigmoid)

namespace logistic {

// (e^x - 1) / x for x <= 0.
__device__ inline double expm1_over(double x) { return x == 0 ? 1 : ::expm1(x) / x; }

// SiLU for low <= high <= 0, e^high factored out: twice its root, as it underflows first.
__device__ inline double silu_below(double low, double high) {
    if (high < -2000) return 0;
    double gap = gap_of(low, high);
    double slope = ::exp(-gap) + high * expm1_over(-gap) / (1 + ::exp(high));
    double root = ::exp(0.5 * high);
    return root * (root * (slope / (1 + ::exp(low))));
}

__device__ inline double silu(double a, double b) {
    if (a != a || b != b) return QUIET_NAN;
    auto [low, high] = order(a, b);
    if (high <= 0) return silu_below(low, high);
    if (low >= 0) return 1 - silu_below(-high, -low);
    auto [above, below] = shares(low, high);
    double exp_low = ::exp(low);
    return above / (1 + ::exp(-high)) + below * (exp_low / (1 + exp_low));
}

}  // namespace logistic

extern "C" __global__ void silu(const real* x, real* out, int64 count) {
    FOR_ELEMENTS(i, count) {
        auto [near, far] = logistic::sides(x[i]);
        out[i] = x[i] * (x[i] < 0 ? far : near);
    }
}

extern "C" __global__ void silu_backward(const real* grad, const real* x, real* x_grad,
                                         int64 count) {
    FOR_ELEMENTS(i, count) {
        auto [near, far] = logistic::sides(x[i]);
        real share = x[i] < 0 ? far : near, rest = x[i] < 0 ? near : far;
        x_grad[i] = grad[i] * (share * (1 + x[i] * rest));
    }
}

DIVIDED_DIFFERENCE(silu, logistic::silu)

namespace logistic {

// Softplus for low <= high <= 0.
__device__ inline double softplus_below(double low, double high) {
    double gap = gap_of(low, high);
    double weight = ::exp(high) / (1 + ::exp(low));
    double growth = -weight * ::expm1(-gap);
    return growth > 1e-290 ? ::log1p(growth) / gap : weight * expm1_over(-gap);
}

__device__ inline double softplus(double a, double b) {
    auto [low, high] = order(a, b);
    auto [above, below] = shares(low, high);
    double left = softplus_below(at_most(low, 0), at_most(high, 0));
    double right = 1 - softplus_below(at_most(-high, 0), at_most(-low, 0));
    return below * left + above * right;
}

}  // namespace logistic

DIVIDED_DIFFERENCE(softplus, logistic::softplus)
