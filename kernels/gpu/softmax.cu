// Cross-entropy of the softmax of rows, one block to a row; all in double precision.

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

    // Called by all threads of a block.
    __device__ void prepare(int64 n) {
        double most = -INF;
        FOR_COLUMNS(j, n) most = larger(most, at(j));
        top = shared_max(most);
        double sum = 0;
        FOR_COLUMNS(j, n) sum += power(j);
        total = shared_sum(sum);
    }

    __device__ double softmax(int64 j) const { return power(j) / total; }

    __device__ double log_softmax(int64 j) const { return (at(j) - top) - log(total); }
};

__device__ inline Logits logits(const real* x, int64 row, int64 n) {
    return {x + row * n, x + row * n, 0, 0, 0};
}

// `weights` are the examples'; 0 leaves one out. A class out of range has the probability 0.
extern "C" __global__ void cross_entropy(const real* x, const int64* classes, const double* weights,
                                         double* losses, int64 rows, int64 n) {
    FOR_ROWS(row, rows) {
        Logits example = logits(x, row, n);
        example.prepare(n);
        if (threadIdx.x != 0) continue;
        double weight = weights[row];
        int64 label = classes[row];
        double likelihood = 0 <= label && label < n ? example.log_softmax(label) : -INF;
        losses[row] = weight == 0 ? 0 : -weight * likelihood;
    }
}

// `factors` are the gradients of the examples' losses, times their weights.
extern "C" __global__ void cross_entropy_backward(const real* x, const int64* classes,
                                                  const double* factors, real* x_grad, int64 rows,
                                                  int64 n) {
    FOR_ROWS(row, rows) {
        Logits example = logits(x, row, n);
        example.prepare(n);
        double factor = factors[row];
        FOR_COLUMNS(j, n) {
            double share = example.softmax(j) - (j == classes[row]);
            x_grad[row * n + j] = factor == 0 ? 0 : factor * share;
        }
    }
}

// Logits differ from the logarithms of their softmax by a constant, which softmax does not see.
extern "C" __global__ void cross_entropy_average_backward(const real* start, const real* end,
                                                          const int64* classes,
                                                          const double* factors, real* x_grad,
                                                          int64 rows, int64 n) {
    constexpr double lowest = -3e153;  // in place of infinities, which have no difference
    constexpr double eps = sizeof(real) == 4 ? 0x1p-23 : 0x1p-52;
    constexpr double inner = 0.223606797749979;  // sqrt(0.05): Lobatto's nodes are 0.5 +- this
    FOR_ROWS(row, rows) {
        Logits from = logits(start, row, n), to = logits(end, row, n);
        from.prepare(n);
        to.prepare(n);
        // Between the logarithms, as the logits may be infinite.
        auto y0 = [&](int64 j) { return at_least(from.log_softmax(j), lowest); };
        auto step = [&](int64 j) { return at_least(to.log_softmax(j), lowest) - y0(j); };
        double tops[2], totals[2];
        const double nodes[] = {0.5 - inner, 0.5 + inner};
        for (int k = 0; k < 2; ++k) {
            double most = -INF, sum = 0;
            FOR_COLUMNS(j, n) most = larger(most, y0(j) + nodes[k] * step(j));
            tops[k] = shared_max(most);
            FOR_COLUMNS(j, n) sum += exponential::exp_of(y0(j) + nodes[k] * step(j) - tops[k]);
            totals[k] = shared_sum(sum);
        }
        // The probabilities, for now in the memory of the gradient.
        real* p = x_grad + row * n;
        double drift = 0, level = 0, spread = 0;
        FOR_COLUMNS(j, n) {
            double y = y0(j), d = step(j);
            double mean = (from.softmax(j) + to.softmax(j)) / 12;
            for (int k = 0; k < 2; ++k) {
                mean += exponential::exp_of(y + nodes[k] * d - tops[k]) / totals[k] * 5 / 12;
            }
            p[j] = mean;
            drift += p[j] * d;
            level += p[j] * (2 * y + d);
        }
        drift = shared_sum(drift);
        level = shared_sum(level);
        FOR_COLUMNS(j, n) spread += p[j] * (step(j) - drift) * step(j);
        spread = shared_sum(spread);
        // A drift that the rounding of the loss can explain says nothing against the quadrature.
        double slope = fabs(drift) > 4 * eps * (1 - level) ? drift / spread : 0;
        double factor = factors[row];
        FOR_COLUMNS(j, n) {
            double share = p[j] * (1 - slope * (step(j) - drift)) - (j == classes[row]);
            p[j] = factor == 0 ? 0 : factor * share;
        }
    }
}
