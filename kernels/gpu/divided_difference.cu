// Divided differences, two arrays in and one out; kernels/cpu/divided_difference.py explains them.
//
// All is evaluated in double precision and rounded once to `real`.

#include "elementary_difference.cuh"
#include "exponential.cuh"
#include "gaussian.cuh"
#include "grid.cuh"
#include "segment.cuh"

namespace divided_difference {

// Piecewise linear ---------------------------------------------------------------------------

__device__ inline double relu(double a, double b) { return shares(a, b).above; }

__device__ inline double leaky_relu(double a, double b, double negative_slope) {
    auto [above, below] = shares(a, b);
    return above + negative_slope * below;
}

__device__ inline double clip(double a, double b, double lower, double upper) {
    auto [low, high] = order(a, b);
    if (low != low || high != high) return QUIET_NAN;
    if (low == high) return lower <= low && low <= upper;
    double start = larger(low, lower);
    double end = at_most(high, upper);
    if (start >= end) return 0;
    if (fabs(start) == INF || fabs(end) == INF) {
        bool infinite_outside = (low < start && low == -INF) || (high > end && high == INF);
        return infinite_outside ? QUIET_NAN : 1;
    }
    double scale = halving(low, high);
    return (scale * end - scale * start) / (scale * high - scale * low);
}

__device__ inline double softsign(double a, double b) {
    auto [low, high] = order(a, b);
    if (low >= 0 || high <= 0) return 1 / (1 + fabs(low)) / (1 + fabs(high));
    if (low == -INF && high == INF) return 0;
    auto [above, below] = shares(low, high);
    return above / (1 + high) + below / (1 - low);
}

// Exponentials -------------------------------------------------------------------------------

// (e^x - 1) / x for x <= 0.
__device__ inline double expm1_over(double x) { return x == 0 ? 1 : ::expm1(x) / x; }

__device__ inline double tanh(double a, double b) {
    using namespace exponential;
    Parts end_a = split_exp(at_least(-2 * fabs(a), -1400));
    Parts end_b = split_exp(at_least(-2 * fabs(b), -1400));
    double scale_a = power_of_two(at_least(end_a.power, -1000));
    double scale_b = power_of_two(at_least(end_b.power, -1000));
    double one_plus = 1 + (scale_a + scale_a * end_a.rest);
    double both_one_plus = one_plus + one_plus * (scale_b + scale_b * end_b.rest);
    auto [power, rest] = a * b > 0 ? (fabs(a) < fabs(b) ? end_a : end_b) : Parts{0, 0};
    double half_gap = fabs(0.5 * b - 0.5 * a);
    double drop = -exponential::expm1(-4 * half_gap);
    drop = half_gap > 0 ? drop : 4;
    half_gap = half_gap > 0 ? half_gap : 1;
    double mean = (drop + drop * rest) / (half_gap * both_one_plus);
    double half_power = round_to_integer(0.5 * power);
    mean *= power_of_two(half_power);
    return mean * power_of_two(power - half_power);
}

// The same product, in the range of double precision, where nothing underflows.
__device__ inline double tanh(float single_a, float single_b) {
    double a = single_a, b = single_b;
    double exp_a = exponential::exp_to_single(-2 * fabs(a));
    double exp_b = exponential::exp_to_single(-2 * fabs(b));
    double nearest = a * b > 0 ? larger(exp_a, exp_b) : 1;
    double half_gap = fabs(0.5 * b - 0.5 * a);
    double drop = -exponential::expm1_to_single(-4 * half_gap);
    drop = half_gap > 0 ? drop : 4;
    half_gap = half_gap > 0 ? half_gap : 1;
    return drop * nearest / (half_gap * ((1 + exp_a) * (1 + exp_b)));
}

__device__ inline double sigmoid(double a, double b) { return 0.25 * tanh(0.5 * a, 0.5 * b); }

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

__device__ inline double elu(double a, double b, double alpha) {
    auto [above, below] = shares(a, b);
    return above + below * (alpha * exp(at_most(a, 0), at_most(b, 0)));
}

__device__ inline double selu(double a, double b) {
    return 1.0507009873554805 * elu(a, b, 1.6732632423543772);
}

// SiLU for low <= high <= 0, e^high in front: twice its root, for it underflows first.
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

// Gaussian -----------------------------------------------------------------------------------

// The mean of the normal density for low <= high <= 0: by Gauss-Legendre of its ratio to that at
// high, or, where little cancels, by the distribution function.
__device__ inline double mean_density(double low, double high) {
    constexpr double nodes[] = {0.013046735741414128, 0.06746831665550773, 0.16029521585048778,
                                0.2833023029353764,   0.4255628305091844,  0.5744371694908156,
                                0.7166976970646236,   0.8397047841495122,  0.9325316833444923,
                                0.9869532642585859};
    constexpr double weights[] = {0.03333567215434407, 0.0747256745752902,  0.109543181257991,
                                  0.13463335965499826, 0.1477621123573764,  0.1477621123573764,
                                  0.13463335965499826, 0.109543181257991,   0.0747256745752902,
                                  0.03333567215434407};
    double gap = gap_of(low, high);
    if (gap * (-low - high) > 8) return (gaussian::below(high) - gaussian::below(low)) / gap;
    double ratio = 0;
    for (int i = 0; i < 10; ++i) {
        double x = gap * nodes[i];
        ratio += weights[i] * ::exp(-x * (0.5 * x - high));
    }
    return ratio * gaussian::density(high);
}

__device__ inline double gelu_below(double low, double high) {
    return high < -40 ? 0 : gaussian::below(low) + high * mean_density(low, high);
}

__device__ inline double gelu(double a, double b) {
    if (a != a || b != b) return QUIET_NAN;
    auto [low, high] = order(a, b);
    if (high <= 0) return gelu_below(low, high);
    if (low >= 0) return 1 - gelu_below(-high, -low);
    auto [above, below] = shares(low, high);
    return above * (1 - gaussian::below(-high)) + below * gaussian::below(low);
}

}  // namespace divided_difference

// Kernels ------------------------------------------------------------------------------------

#define ELEMENTWISE(name)                                                                        \
    extern "C" __global__ void name##_over_arrays(const real* a, const real* b, real* out,       \
                                                  int64 count) {                                 \
        FOR_ELEMENTS(i, count) out[i] = divided_difference::name(a[i], b[i]);                    \
    }

#define ELEMENTWISE_WITH_ONE(name)                                                               \
    extern "C" __global__ void name##_over_arrays(const real* a, const real* b, real* out,       \
                                                  int64 count, double parameter) {               \
        FOR_ELEMENTS(i, count) out[i] = divided_difference::name(a[i], b[i], parameter);         \
    }

#define ELEMENTWISE_WITH_TWO(name)                                                               \
    extern "C" __global__ void name##_over_arrays(const real* a, const real* b, real* out,       \
                                                  int64 count, double first, double second) {    \
        FOR_ELEMENTS(i, count) out[i] = divided_difference::name(a[i], b[i], first, second);     \
    }

ELEMENTWISE(absolute)
ELEMENTWISE_WITH_TWO(clip)
ELEMENTWISE(cos)
ELEMENTWISE_WITH_ONE(elu)
ELEMENTWISE(exp)
ELEMENTWISE(gelu)
ELEMENTWISE_WITH_ONE(leaky_relu)
ELEMENTWISE(log)
ELEMENTWISE(log1p)
ELEMENTWISE_WITH_ONE(power)
ELEMENTWISE(reciprocal)
ELEMENTWISE(relu)
ELEMENTWISE(selu)
ELEMENTWISE(sigmoid)
ELEMENTWISE(silu)
ELEMENTWISE(sin)
ELEMENTWISE(softplus)
ELEMENTWISE(softsign)
ELEMENTWISE(sqrt)
ELEMENTWISE(square)
ELEMENTWISE(tanh)
