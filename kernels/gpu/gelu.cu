// GELU and erf: values and averages; kernels/cpu/gelu.py explains the formulas.

#include "elementwise.cuh"
#include "exponential.cuh"
#include "segment.cuh"

namespace gaussian {

constexpr double SQRT_2 = 0x1.6a09e667f3bcdp+0;
constexpr double SQRT_HALF = 0x1.6a09e667f3bcdp-1;
constexpr double SQRT_HALF_HEAD = 0x1.6a09e6p-1;
constexpr double SQRT_HALF_TAIL = SQRT_HALF - SQRT_HALF_HEAD - 4.833646656726457e-17;
constexpr double SQRT_PI = 1.7724538509055159;
constexpr double SQRT_2PI = 2.5066282746310002;

// e^(-x^2 / 2), from the exact square of a head of 24 bits and a small rest.
__device__ inline double bell(double x) {
    double head = (float)x;
    auto [n, minus_one] = exponential::split_exp(at_least(-0.5 * head * head, -700));
    double power = exponential::power_of_two(n);
    double rest = 0.5 * (x - head) * (x + head);
    double whole = (power + power * minus_one) * (1 - rest * (1 - rest / 2 * (1 - rest / 3)));
    return fabs(x) < 37 ? whole : 0;
}

// Phi(x), from `bell` at x.
__device__ inline double distribution(double x, double bell) {
    constexpr double mills[] = {
        -0.0011845146849972508, 0.003128763705770617,  -0.0009445569848677524,
        -0.004976809874676629,  0.0047059996737141225, 0.004357963550901405,
        -0.008283724457629399,  -0.002572715357948674, 0.012113143703489903,
        0.0007339558424115504,  -0.017993133524085544, -0.000488562844069399,
        0.029580102738213026,   0.008534039510029954,  -0.052186189120590434,
        -0.055675077994264896,  0.060321511707720064,  0.2415862995655165,
        0.37304371591952096,    0.38713740074220454,   0.30394832098594554,
        0.18882128260393788,
    };
    double t = 4 / (4 + fabs(x));
    double series = 0;
    for (double coefficient : mills) series = fma(series, t - 0.5, coefficient);
    double tail = bell * (t * series);
    return x <= 0 ? tail : 1 - tail;
}

}  // namespace gaussian

extern "C" __global__ void gelu(const real* x, real* out, int64 count) {
    FOR_ELEMENTS(i, count) {
        double value = x[i];
        out[i] = value * gaussian::distribution(value, gaussian::bell(value));
    }
}

extern "C" __global__ void gelu_derivative(const real* x, real* out, int64 count) {
    FOR_ELEMENTS(i, count) {
        double value = x[i];
        double density = gaussian::bell(value);
        out[i] = gaussian::distribution(value, density) + value * (density / gaussian::SQRT_2PI);
    }
}

extern "C" __global__ void erf_of(const real* x, real* out, int64 count) {
    FOR_ELEMENTS(i, count) { out[i] = ::erf((double)x[i]); }
}

namespace gaussian {

// e^(-x^2 / 2) / sqrt(2 pi).
__device__ inline double normal_density(double x) {
    if (fabs(x) > 40) return 0;
    double head = (float)x;
    return exp(-0.5 * head * head) * exp(-0.5 * (x - head) * (x + head)) / SQRT_2PI;
}

// Phi(x) = erfc(y) / 2 with y = -x / sqrt(2), for x <= 0.
//
// The rounding error of y enters to first order. `y` must be the rounded product wherever it is
// used: contracting the multiplication into the difference below would undo the correction.
__device__ inline double normal_below(double x) {
    if (x < -40) return 0;
    double y = -x * SQRT_HALF;
    double head = (float)-x;
    double tail = -x - head;
    double error = (head * SQRT_HALF_HEAD - y) + head * SQRT_HALF_TAIL + tail * SQRT_HALF;
    return 0.5 * erfc(y) - error * exp(-y * y) / SQRT_PI;
}

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
    if (gap * (-low - high) > 8) return (normal_below(high) - normal_below(low)) / gap;
    double ratio = 0;
    for (int i = 0; i < 10; ++i) {
        double x = gap * nodes[i];
        ratio += weights[i] * ::exp(-x * (0.5 * x - high));
    }
    return ratio * normal_density(high);
}

__device__ inline double gelu_below(double low, double high) {
    return high < -40 ? 0 : normal_below(low) + high * mean_density(low, high);
}

__device__ inline double gelu(double a, double b) {
    if (a != a || b != b) return QUIET_NAN;
    auto [low, high] = order(a, b);
    if (high <= 0) return gelu_below(low, high);
    if (low >= 0) return 1 - gelu_below(-high, -low);
    auto [above, below] = shares(low, high);
    return above * (1 - normal_below(-high)) + below * normal_below(low);
}

__device__ inline double erf(double a, double b) {
    if (a != a || b != b) return QUIET_NAN;
    auto [low, high] = order(a, b);
    if (low > 28 || high < -28) return 0;
    double smaller = at_most(fabs(low), fabs(high)), larger = at_least(fabs(low), fabs(high));
    if ((low < 0 && 0 < high) || smaller < at_most(1, 0.5 * larger)) {
        return (::erf(high) - ::erf(low)) / (high - low);
    }
    double far = high <= 0 ? low : -high, near = high <= 0 ? high : -low;
    return 2 * SQRT_2 * mean_density(SQRT_2 * far, SQRT_2 * near);
}

}  // namespace gaussian

DIVIDED_DIFFERENCE(erf, gaussian::erf)
DIVIDED_DIFFERENCE(gelu, gaussian::gelu)
