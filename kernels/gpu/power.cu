// Divided differences of x^y in either input, for an array of values of the other.
//
// An array of one element is broadcast: its step is 0.

#include "divided_difference.cuh"
#include "grid.cuh"

// base^a log(base) expm1(s) / s for s = (b - a) log(base); the plain quotient if s is large.
__device__ inline double exponential_difference(double a, double b, double base) {
    if (base == 0 && a == b) return a >= 0 ? 0 : -INF;
    double logarithm = log(base);
    double step = (b - a) * logarithm;
    if (fabs(step) > 1) return (pow(base, b) - pow(base, a)) / (b - a);
    double slope = step != 0 ? expm1(step) / step : 1;
    return pow(base, a) * logarithm * slope;
}

extern "C" __global__ void in_base(const real* a, const real* b, const real* exponent, real* out,
                                   int64 count, int64 a_step, int64 b_step, int64 exponent_step) {
    FOR_ELEMENTS(i, count) {
        out[i] = divided_difference::power(a[i * a_step], b[i * b_step],
                                           exponent[i * exponent_step]);
    }
}

extern "C" __global__ void in_exponent(const real* a, const real* b, const real* base, real* out,
                                       int64 count, int64 a_step, int64 b_step, int64 base_step) {
    FOR_ELEMENTS(i, count) {
        out[i] = exponential_difference(a[i * a_step], b[i * b_step], base[i * base_step]);
    }
}
