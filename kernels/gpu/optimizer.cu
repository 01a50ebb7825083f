// Updates of the optimizers and the line search of the average gradient, one pass over memory each.
//
// Decays come in double precision: 1 - 0.999 taken in float32 would be wrong in its fourth digit.
// Numbers that change from step to step may lie on the device.

#include "grid.cuh"
#include "number.cuh"
#include "reduction.cuh"
#include "segment.cuh"

extern "C" __global__ void scale(real* out, const real* x, int64 count, Number number) {
    real factor = number.get();
    FOR_ELEMENTS(i, count) out[i] = factor * x[i];
}

extern "C" __global__ void add_scaled(real* out, const real* x, int64 count, Number number) {
    real factor = number.get();
    FOR_ELEMENTS(i, count) out[i] += factor * x[i];
}

// Whether a step goes up the slope; by the signs alone, as a product could underflow.
__device__ inline bool opposes(real step, real grad) {
    return (step > 0 && grad > 0) || (step < 0 && grad < 0);
}

extern "C" __global__ void heavy_ball(real* delta, const real* direction, real* buffer, int64 count,
                                      Number rate, real momentum, Number share, bool nesterov,
                                      bool cautious) {
    real lr = rate.get(), fresh = share.get();
    FOR_ELEMENTS(i, count) {
        real average = momentum * buffer[i] + fresh * direction[i];
        buffer[i] = average;
        real step = -lr * (nesterov ? direction[i] + momentum * average : average);
        delta[i] = cautious && opposes(step, direction[i]) ? 0 : step;
    }
}

extern "C" __global__ void rmsprop(real* delta, const real* grad, real* square_average,
                                   int64 count, Number rate, double alpha, real eps) {
    real lr = rate.get(), keep = alpha, fresh = 1 - alpha;
    FOR_ELEMENTS(i, count) {
        real g = grad[i];
        real square = keep * square_average[i] + fresh * (g * g);
        square_average[i] = square;
        delta[i] = -lr * g / (sqrt(square) + eps);
    }
}

extern "C" __global__ void centered_rmsprop(real* delta, const real* grad, real* square_average,
                                            real* grad_average, int64 count, Number rate,
                                            double alpha, real eps) {
    real lr = rate.get(), keep = alpha, fresh = 1 - alpha;
    FOR_ELEMENTS(i, count) {
        real g = grad[i];
        real square = keep * square_average[i] + fresh * (g * g);
        real average = grad_average[i] + fresh * (g - grad_average[i]);
        square_average[i] = square;
        grad_average[i] = average;
        // Rounding can make the variance of a constant gradient negative.
        real variance = at_least(square - average * average, 0);
        delta[i] = -lr * g / (sqrt(variance) + eps);
    }
}

extern "C" __global__ void adam(real* delta, const real* grad, real* average, real* square_average,
                                int64 count, Number rate, double beta1, double beta2, real eps,
                                Number correction, bool cautious) {
    real lr = rate.get(), root_correction = correction.get();
    real fresh = 1 - beta1, keep = beta2, fresh_square = 1 - beta2;
    FOR_ELEMENTS(i, count) {
        real g = grad[i];
        real mean = average[i] + fresh * (g - average[i]);
        real square = keep * square_average[i] + fresh_square * (g * g);
        average[i] = mean;
        square_average[i] = square;
        real step = -lr * mean / (sqrt(square) / root_correction + eps);
        delta[i] = cautious && opposes(step, g) ? 0 : step;
    }
}

extern "C" __global__ void amsgrad(real* delta, const real* grad, real* average,
                                   real* square_average, real* peak, int64 count, Number rate,
                                   double beta1, double beta2, real eps, Number correction,
                                   bool cautious) {
    real lr = rate.get(), root_correction = correction.get();
    real fresh = 1 - beta1, keep = beta2, fresh_square = 1 - beta2;
    FOR_ELEMENTS(i, count) {
        real g = grad[i];
        real mean = average[i] + fresh * (g - average[i]);
        real square = keep * square_average[i] + fresh_square * (g * g);
        real most = larger(peak[i], square);
        average[i] = mean;
        square_average[i] = square;
        peak[i] = most;
        real step = -lr * mean / (sqrt(most) / root_correction + eps);
        delta[i] = cautious && opposes(step, g) ? 0 : step;
    }
}

// `sums` holds each block's part of the sum of squares.
extern "C" __global__ void sum_of_squares(const real* values, double* sums, int64 count) {
    double sum = 0;
    FOR_ELEMENTS(i, count) sum += (double)values[i] * (double)values[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The t in [0, 1] that minimizes t * slope + t^2 * curvature; 0 if that is not finite. If both are 0,
// every t does: the update, which has other reasons, goes the whole way.
template <typename T>
__device__ inline T best_fraction(T slope, T curvature) {
    T end = slope + curvature;
    if (slope == 0 && curvature == 0) return 1;
    if (!(curvature > 0)) return -INF < end && end < 0 ? 1 : 0;
    T vertex = -slope / (curvature + curvature);
    return vertex < 0 ? 0 : vertex > 1 ? 1 : vertex;
}

// Each element's curvature is fitted over all measured steps, with the weight d^2; `weight` is their
// sum, of which earlier ones are multiplied by `smoothing`.
extern "C" __global__ void blend_curvature(const real* own_grad, real* average_grad,
                                           const real* delta, real* curvature, real* weight,
                                           int64 count, real smoothing) {
    FOR_ELEMENTS(i, count) {
        double p = own_grad[i], average = average_grad[i], d = delta[i];
        double kept = (double)smoothing * (double)weight[i];
        double total = p == 0 && average == 0 ? kept : kept + d * d;
        real fit = (kept * curvature[i] + (average - p) * d) / total;
        if (total > 0 && isfinite(fit)) {
            curvature[i] = fit;
            weight[i] = total;
        }
        if (isfinite(average)) average_grad[i] = own_grad[i] + curvature[i] * delta[i];
    }
}

extern "C" __global__ void shorten_elements(const real* grad, const real* curvature, real* delta,
                                            int64 count) {
    FOR_ELEMENTS(i, count) {
        real d = delta[i], sign = (d > 0) - (d < 0);
        delta[i] = d * best_fraction(sign * grad[i], sign * (curvature[i] * d));
    }
}

// `sums` holds each block's part of the sum of -s·pd over the elements with pd < 0, then each block's
// part of that of -pd, where p is the gradient of the measured loss.
extern "C" __global__ void search_elements(const real* grad, const real* own_grad,
                                           real* average_grad, real* delta, double* sums,
                                           int64 count) {
    double used = 0, usable = 0;
    FOR_ELEMENTS(i, count) {
        real g = grad[i], p = own_grad[i], d = delta[i];
        real sign = (d > 0) - (d < 0), rise = sign * (average_grad[i] - p);
        real t = best_fraction(sign * g, rise), s = best_fraction(sign * p, rise);
        double promise = fmax(-((double)p * (double)d), 0.0);
        usable += promise;
        used += s * promise;
        average_grad[i] = t;
        delta[i] = d * t;
    }
    used = block_sum(used);
    usable = block_sum(usable);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = used;
        sums[gridDim.x + blockIdx.x] = usable;
    }
}

// `sums` is (3, rows, blocks along a row): the parts of the sums of gd, (average - p)d and pd.
extern "C" __global__ void loss_shares(const real* grad, const real* own_grad,
                                       const real* average_grad, const real* delta, double* sums,
                                       int64 rows, int64 columns) {
    FOR_ROWS(row, rows) {
        double slope = 0, curvature = 0, own_slope = 0;
        FOR_ELEMENTS(column, columns) {
            int64 i = row * columns + column;
            double d = delta[i];
            slope += grad[i] * d;
            curvature += (average_grad[i] - own_grad[i]) * d;
            own_slope += own_grad[i] * d;
        }
        slope = block_sum(slope);
        curvature = block_sum(curvature);
        own_slope = block_sum(own_slope);
        if (threadIdx.x == 0) {
            int64 part = row * gridDim.x + blockIdx.x;
            sums[part] = slope;
            sums[rows * gridDim.x + part] = curvature;
            sums[2 * rows * gridDim.x + part] = own_slope;
        }
    }
}

// `shares` is (3, count), the totals of `loss_shares`; `sums` is as in search_elements.
extern "C" __global__ void search_groups(const double* shares, real* fractions, double* sums,
                                         int64 count) {
    double used = 0, usable = 0;
    FOR_ELEMENTS(i, count) {
        real t = best_fraction<double>(shares[i], shares[count + i]);
        double own_slope = shares[2 * count + i], promise = fmax(-own_slope, 0.0);
        double s = best_fraction<double>(own_slope, shares[count + i]);
        fractions[i] = t;
        used += s * promise;
        usable += promise;
    }
    used = block_sum(used);
    usable = block_sum(usable);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = used;
        sums[gridDim.x + blockIdx.x] = usable;
    }
}
