// Rows normalized to mean 0 and variance 1, one team of threads to a row.
//
// kernels/cpu/normalization.py explains the formulas.

#include "grid.cuh"
#include "reduction.cuh"

// This and the functions below are called by all threads of a team.
__device__ inline double mean_of(const real* x, int64 n) {
    double sum = 0;
    FOR_COLUMNS(j, n) sum += x[j];
    return row_sum(sum, n) / n;
}

__device__ inline double variance_of(const real* x, int64 n, double mean) {
    double sum = 0;
    FOR_COLUMNS(j, n) sum += (x[j] - mean) * (x[j] - mean);
    return row_sum(sum, n) / n;
}

extern "C" __global__ void layer_norm(const real* x, const real* weight, const real* bias,
                                      real* out, int64 rows, int64 n, double eps) {
    FOR_TEAM_ROWS(row, rows, n) {
        const real* values = x + row * n;
        double mean = mean_of(values, n);
        double scale = 1 / sqrt(variance_of(values, n, mean) + eps);
        FOR_COLUMNS(j, n) {
            out[row * n + j] = (values[j] - mean) * scale * weight[j] + bias[j];
        }
    }
}

// `normalized` is x normalized, without weight and bias, for the weight's gradient.
extern "C" __global__ void layer_norm_backward(const real* grad, const real* x, const real* weight,
                                               real* x_grad, real* normalized, int64 rows, int64 n,
                                               double eps) {
    FOR_TEAM_ROWS(row, rows, n) {
        const real *values = x + row * n, *grads = grad + row * n;
        double mean = mean_of(values, n);
        double scale = 1 / sqrt(variance_of(values, n, mean) + eps);
        double g1 = 0, gc = 0;
        FOR_COLUMNS(j, n) {
            double g = (double)grads[j] * weight[j];
            g1 += g;
            gc += g * (values[j] - mean);
        }
        g1 = row_sum(g1, n) / n;
        gc = row_sum(gc, n) / n;
        FOR_COLUMNS(j, n) {
            double g = (double)grads[j] * weight[j], c = values[j] - mean;
            x_grad[row * n + j] = scale * (g - g1 - scale * scale * gc * c);
            normalized[row * n + j] = scale * c;
        }
    }
}

// Here `normalized` is the mean over both ends.
extern "C" __global__ void layer_norm_average_backward(const real* grad, const real* start,
                                                       const real* end, const real* start_weight,
                                                       const real* end_weight, real* x_grad,
                                                       real* normalized, int64 rows, int64 n,
                                                       double eps) {
    constexpr double root = 0.3872983346207417;  // sqrt(0.15)
    constexpr double positions[] = {0.5 - root, 0.5, 0.5 + root};
    constexpr double parts[] = {5.0 / 18, 8.0 / 18, 5.0 / 18};
    FOR_TEAM_ROWS(row, rows, n) {
        const real *from = start + row * n, *to = end + row * n, *grads = grad + row * n;
        double mean = mean_of(from, n), drift = 0;
        FOR_COLUMNS(j, n) drift += (double)to[j] - (double)from[j];
        drift = row_sum(drift, n) / n;
        auto centred = [&](int64 j) { return from[j] - mean; };
        auto step = [&](int64 j) { return (double)to[j] - (double)from[j] - drift; };
        auto product = [&](int64 j) {
            return grads[j] * (((double)start_weight[j] + (double)end_weight[j]) / 2);
        };
        double cc = 0, cd = 0, dd = 0, g1 = 0, gc = 0, gd = 0;
        FOR_COLUMNS(j, n) {
            double c = centred(j), d = step(j), g = product(j);
            cc += c * c;
            cd += c * d;
            dd += d * d;
            g1 += g;
            gc += g * c;
            gd += g * d;
        }
        cc = row_sum(cc, n) / n;
        cd = row_sum(cd, n) / n;
        dd = row_sum(dd, n) / n;
        g1 = row_sum(g1, n) / n;
        gc = row_sum(gc, n) / n;
        gd = row_sum(gd, n) / n;
        double along_g = 0, along_c = 0, along_d = 0;
        for (int k = 0; k < 3; ++k) {
            double t = positions[k];
            double inverse = 1 / sqrt(cc + t * (2 * cd + t * dd) + eps);
            double cube = parts[k] * inverse * inverse * inverse * (gc + t * gd);
            along_g += parts[k] * inverse;
            along_c += cube;
            along_d += t * cube;
        }
        double at_start = sqrt(cc + eps), at_end = sqrt(cc + 2 * cd + dd + eps);
        // The product of the gradient and the normalized step, without a difference that cancels.
        double change =
            gd / at_end - gc * (2 * cd + dd) / (at_start * at_end * (at_start + at_end));
        if (dd > 0) along_d -= (change - (along_g * gd - along_c * cd - along_d * dd)) / dd;
        FOR_COLUMNS(j, n) {
            double c = centred(j), d = step(j);
            x_grad[row * n + j] = along_g * (product(j) - g1) - along_c * c - along_d * d;
            normalized[row * n + j] = 0.5 / at_start * c + 0.5 / at_end * (c + d);
        }
    }
}
