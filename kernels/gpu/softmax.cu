// Cross-entropy of the softmax of rows, one team of threads to a row; all in double precision.

#include "exponential.cuh"
#include "grid.cuh"
#include "reduction.cuh"

// A row of logits, or a point on the way from one row to another.
struct Logits {
    const real *start, *end;
    double position;
    double top, total;  // the largest, and the sum of e^(x - top)

    __device__ double at(int64 j) const {
        return position == 0 ? start[j] : start[j] + position * ((double)end[j] - start[j]);
    }

    __device__ double power(int64 j) const { return exponential::exp_of(at(j) - top); }

    // Called by all threads of a team.
    __device__ void prepare(int64 n) {
        double most = -INF;
        FOR_COLUMNS(j, n) most = larger(most, at(j));
        top = row_max(most, n);
        double sum = 0;
        FOR_COLUMNS(j, n) sum += power(j);
        total = row_sum(sum, n);
    }

    __device__ double softmax(int64 j) const { return power(j) / total; }

    __device__ double log_softmax(int64 j) const { return (at(j) - top) - log(total); }
};

__device__ inline Logits logits(const real* x, int64 row, int64 n) {
    return {x + row * n, x + row * n, 0, 0, 0};
}

// The place of the first class neither `ignored` nor in 0 to n - 1, one for each block; -1 if none.
extern "C" __global__ void first_outside(const int64* classes, int64* places, int64 count, int64 n,
                                         int64 ignored) {
    double place = -INF;
    FOR_ELEMENTS(i, count) {
        const bool inside = 0 <= classes[i] && classes[i] < n;
        if (!inside && classes[i] != ignored) place = larger(place, -(double)i);
    }
    place = block_max(place);
    if (threadIdx.x == 0) places[blockIdx.x] = place == -INF ? -1 : (int64)-place;
}

// The examples' weights, 0 for those to leave out, and their sums, one for each block.
//
// All are 1, or `class_weights` has one for each class.
extern "C" __global__ void example_weights(const int64* classes, const real* class_weights,
                                           double* weights, double* sums, int64 rows, int64 n,
                                           int64 ignored, bool weighted) {
    double sum = 0;
    FOR_ELEMENTS(row, rows) {
        const int64 label = classes[row];
        double weight = label != ignored;
        if (weighted && label != ignored) {
            weight = class_weights[label < 0 ? 0 : label < n ? label : n - 1];
        }
        weights[row] = weight;
        sum += weight;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Called by all threads of a block, which get the same sum.
__device__ inline double sum_of(const double* values, int64 count) {
    double sum = 0;
    for (int64 i = threadIdx.x; i < count; i += THREADS) sum += values[i];
    return block_sum(sum);
}

// A class out of range has the probability 0.
extern "C" __global__ void cross_entropy(const real* x, const int64* classes, const double* weights,
                                         double* losses, int64 rows, int64 n) {
    FOR_TEAM_ROWS(row, rows, n) {
        Logits example = logits(x, row, n);
        example.prepare(n);
        if (threadIdx.x % team_of(n) != 0) continue;
        double weight = weights[row];
        int64 label = classes[row];
        double likelihood = 0 <= label && label < n ? example.log_softmax(label) : -INF;
        losses[row] = weight == 0 ? 0 : -weight * likelihood;
    }
}

// What is left of losses or of their sums: their sum, over that of the weights if it is a mean.
extern "C" __global__ void total_loss(const double* losses, const double* weight_sums, real* loss,
                                      int64 count, int64 parts, bool mean) {
    const double sum = sum_of(losses, count);
    const double total = mean ? sum_of(weight_sums, parts) : 1;
    if (threadIdx.x == 0) *loss = sum / total;
}

// The sums of losses, one for each block.
extern "C" __global__ void sum_losses(const double* losses, double* sums, int64 count) {
    double sum = 0;
    FOR_ELEMENTS(i, count) sum += losses[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

enum Reduction { EACH, SUM, MEAN };  // the same as _REDUCTIONS in softmax.py

// The gradients of the examples' own losses: those of the results, times the weights.
struct Factors {
    const double* weights;
    const real* grads;  // one for each example if there is no `reduction`, otherwise a single one
    int64 reduction;
    double scale;

    // Called by all threads of a block.
    __device__ Factors(const double* weights, const double* sums, const real* grads, int64 parts,
                       int64 reduction)
        : weights(weights), grads(grads), reduction(reduction), scale(1) {
        if (reduction != EACH) scale = grads[0];
        if (reduction == MEAN) scale /= larger(sum_of(sums, parts), 0x1p-1022);
    }

    __device__ double at(int64 row) const {
        return weights[row] * (reduction == EACH ? (double)grads[row] : scale);
    }
};

extern "C" __global__ void cross_entropy_backward(const real* x, const int64* classes,
                                                  const double* weights, const double* sums,
                                                  const real* grads, real* x_grad, int64 rows,
                                                  int64 n, int64 parts, int64 reduction) {
    const Factors factors(weights, sums, grads, parts, reduction);
    FOR_TEAM_ROWS(row, rows, n) {
        Logits example = logits(x, row, n);
        example.prepare(n);
        double factor = factors.at(row);
        FOR_COLUMNS(j, n) {
            double share = example.softmax(j) - (j == classes[row]);
            x_grad[row * n + j] = factor == 0 ? 0 : factor * share;
        }
    }
}

// A row's step, between the logarithms of softmax, as the logits may be infinite. They differ from
// the logits by a constant, which softmax does not see.
struct Move {
    Logits from, to;

    __device__ double y(int64 j) const { return finite(from.log_softmax(j)); }

    __device__ double step(int64 j) const { return finite(to.log_softmax(j)) - y(j); }

    // Infinities have no difference.
    __device__ static double finite(double y) { return at_least(y, -3e153); }
};

// Multiply probabilities by e^(-beta step), with the beta for which their mean step is 0. See
// `_tilt` in kernels/cpu/softmax.py. Called by all threads of a team.
__device__ inline void tilt(real* p, const Move& move, int64 n, double eps) {
    double beta = 0, low = -INF, high = INF;
    for (int k = 0; k < 100; ++k) {
        auto power = [&](int64 j, double d) { return log((double)p[j] * fabs(d)) - beta * d; };
        double top_up = log(eps), top_down = log(eps);
        FOR_COLUMNS(j, n) {
            double d = move.step(j);
            if (p[j] > 0 && d > 0) top_up = larger(top_up, power(j, d));
            if (p[j] > 0 && d < 0) top_down = larger(top_down, power(j, d));
        }
        top_up = row_max(top_up, n);
        top_down = row_max(top_down, n);
        double up = 0, down = 0, up_slope = 0, down_slope = 0;
        FOR_COLUMNS(j, n) {
            double d = move.step(j);
            if (p[j] > 0 && d > 0) {
                double share = exponential::exp_of(power(j, d) - top_up);
                up += share;
                up_slope += share * d;
            }
            if (p[j] > 0 && d < 0) {
                double share = exponential::exp_of(power(j, d) - top_down);
                down += share;
                down_slope -= share * d;
            }
        }
        up = row_sum(up, n) + exponential::exp_of(log(eps) - top_up);
        down = row_sum(down, n) + exponential::exp_of(log(eps) - top_down);
        up_slope = row_sum(up_slope, n);
        down_slope = row_sum(down_slope, n);
        double gap = (top_down - top_up) + log(down / up);
        if (fabs(gap) <= 1e-15 * (fabs(top_up) + fabs(top_down) + 10)) break;
        double next = beta - gap / (up_slope / up + down_slope / down);
        if (next == beta) break;
        (gap < 0 ? low : high) = beta;
        beta = low < next && next < high ? next : low / 2 + high / 2;
    }
    double top = -INF, total = 0;
    FOR_COLUMNS(j, n) {
        if (p[j] > 0) top = larger(top, log((double)p[j]) - beta * move.step(j));
    }
    top = row_max(top, n);
    auto tilted = [&](int64 j) {
        return p[j] > 0 ? exponential::exp_of(log((double)p[j]) - beta * move.step(j) - top) : 0;
    };
    FOR_COLUMNS(j, n) total += tilted(j);
    total = row_sum(total, n);
    FOR_COLUMNS(j, n) p[j] = tilted(j) / total;
}

// Write the softmax averaged from one row to another to p. See `average_softmax` in softmax.py.
// Called by all threads of a team.
__device__ inline void average(const real* start, const real* end, real* p, int64 n) {
    constexpr double eps = sizeof(real) == 4 ? 0x1p-23 : 0x1p-52;
    constexpr double inner = 0.223606797749979;  // sqrt(0.05): Lobatto's nodes are 0.5 +- this
    constexpr double slight = 1. / 1024;  // up to which 1 - u may stand for e^-u
    Move move = {{start, start, 0, 0, 0}, {end, end, 0, 0, 0}};
    move.from.prepare(n);
    move.to.prepare(n);
    double tops[2], totals[2];
    const double nodes[] = {0.5 - inner, 0.5 + inner};
    for (int k = 0; k < 2; ++k) {
        double most = -INF, sum = 0;
        FOR_COLUMNS(j, n) most = larger(most, move.y(j) + nodes[k] * move.step(j));
        tops[k] = row_max(most, n);
        FOR_COLUMNS(j, n) {
            sum += exponential::exp_of(move.y(j) + nodes[k] * move.step(j) - tops[k]);
        }
        totals[k] = row_sum(sum, n);
    }
    double drift = 0, level = 0, spread = 0, farthest = 0;
    FOR_COLUMNS(j, n) {
        double y = move.y(j), d = move.step(j);
        double mean = (move.from.softmax(j) + move.to.softmax(j)) / 12;
        for (int k = 0; k < 2; ++k) {
            mean += exponential::exp_of(y + nodes[k] * d - tops[k]) / totals[k] * 5 / 12;
        }
        p[j] = mean;
        drift += p[j] * d;
        level += p[j] * (2 * y + d);
    }
    drift = row_sum(drift, n);
    level = row_sum(level, n);
    FOR_COLUMNS(j, n) {
        double d = move.step(j);
        spread += p[j] * (d - drift) * d;
        farthest = larger(farthest, fabs(d - drift));
    }
    spread = row_sum(spread, n);
    farthest = row_max(farthest, n);
    // A drift that the rounding of the loss can explain says nothing against the quadrature.
    double slope = fabs(drift) > 4 * eps * (1 - level) ? drift / spread : 0;
    if (fabs(slope) * farthest > slight) {
        tilt(p, move, n, eps);
    } else {
        FOR_COLUMNS(j, n) p[j] *= 1 - slope * (move.step(j) - drift);
    }
}

extern "C" __global__ void average_softmax(const real* start, const real* end, real* out,
                                           int64 rows, int64 n) {
    FOR_TEAM_ROWS(row, rows, n) average(start + row * n, end + row * n, out + row * n, n);
}

extern "C" __global__ void cross_entropy_average_backward(const real* start, const real* end,
                                                          const int64* classes,
                                                          const double* weights,
                                                          const double* sums, const real* grads,
                                                          real* x_grad, int64 rows, int64 n,
                                                          int64 parts, int64 reduction) {
    const Factors factors(weights, sums, grads, parts, reduction);
    FOR_TEAM_ROWS(row, rows, n) {
        // The probabilities, for now in the memory of the gradient.
        real* p = x_grad + row * n;
        average(start + row * n, end + row * n, p, n);
        double factor = factors.at(row);
        FOR_COLUMNS(j, n) {
            p[j] = factor == 0 ? 0 : factor * ((double)p[j] - (j == classes[row]));
        }
    }
}
