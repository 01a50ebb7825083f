// Ends, length and shares of the segment from a to b, for the formulas of divided differences.

#pragma once

// NVRTC has no header that defines them.
#define INF __longlong_as_double(0x7ff0000000000000)
#define QUIET_NAN __longlong_as_double(0x7ff8000000000000)

struct Segment {
    double low, high;
};

struct Shares {
    double above, below;
};

// These three pass on a NaN in x, which fmin and fmax would drop.
__device__ inline double at_least(double x, double low) { return x < low ? low : x; }

__device__ inline double at_most(double x, double high) { return x > high ? high : x; }

__device__ inline double larger(double x, double y) { return y > x ? y : x; }

// The lower and the higher end; NaN is kept.
__device__ inline Segment order(double a, double b) {
    return a < b ? Segment{a, b} : Segment{b, a};
}

// high - low, 0 also for equal infinities.
__device__ inline double gap_of(double low, double high) { return low == high ? 0 : high - low; }

// A factor by which a and b can be scaled so that their difference does not overflow.
__device__ inline double halving(double a, double b) {
    return larger(fabs(a), fabs(b)) > 1e300 ? 0.5 : 1;
}

// The fractions of the segment above and below zero; the point zero is below.
__device__ inline Shares shares(double a, double b) {
    auto [low, high] = order(a, b);
    double above = high <= 0 ? 0 : high;  // NaN passes
    double below = low >= 0 ? 0 : -low;
    bool mostly_above = above > below;
    double longer = mostly_above ? above : below;
    double shorter = mostly_above ? below : above;
    double ratio = longer != 0 ? shorter / longer : shorter;
    double most = 1 / (1 + ratio);
    return mostly_above ? Shares{most, ratio * most} : Shares{ratio * most, most};
}
