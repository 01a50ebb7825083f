// Averages of activations with one formula below zero and another above;
// kernels/cpu/piecewise.py explains them.

#include "divided_difference.cuh"
#include "elementwise.cuh"
#include "segment.cuh"

namespace piecewise {

__device__ inline double leaky_relu(double a, double b, double negative_slope) {
    auto [above, below] = shares(a, b);
    return above + negative_slope * below;
}

__device__ inline double elu(double a, double b, double alpha) {
    auto [above, below] = shares(a, b);
    return above + below * (alpha * divided_difference::exp(at_most(a, 0), at_most(b, 0)));
}

__device__ inline double selu(double a, double b) {
    return 1.0507009873554805 * elu(a, b, 1.6732632423543772);
}

__device__ inline double softsign(double a, double b) {
    auto [low, high] = order(a, b);
    if (low >= 0 || high <= 0) return 1 / (1 + fabs(low)) / (1 + fabs(high));
    if (low == -INF && high == INF) return 0;
    auto [above, below] = shares(low, high);
    return above / (1 + high) + below / (1 - low);
}

}  // namespace piecewise

DIVIDED_DIFFERENCE_WITH_PARAMETER(elu, piecewise::elu)
DIVIDED_DIFFERENCE_WITH_PARAMETER(leaky_relu, piecewise::leaky_relu)
DIVIDED_DIFFERENCE(selu, piecewise::selu)
DIVIDED_DIFFERENCE(softsign, piecewise::softsign)
