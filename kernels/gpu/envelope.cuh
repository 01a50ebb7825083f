// The upper envelope of lines from (0, start(i)) to (1, end(i)): which one is highest, and when.
//
// `Lines` is any type with `size`, `start(i)` and `end(i)`.

#pragma once

#include "grid.cuh"
#include "segment.cuh"

struct Overtaking {
    int64 line;
    double time;
};

// The line that leads first: of the highest, the one that ends highest; -1 if any is NaN.
template <typename Lines>
__device__ inline int64 first_leader(const Lines& lines) {
    int64 leader = 0;
    for (int64 i = 0; i < lines.size; ++i) {
        double start = lines.start(i), end = lines.end(i);
        if (start != start || end != end) return -1;
        double most = lines.start(leader);
        if (start > most || (start == most && end > lines.end(leader))) leader = i;
    }
    return leader;
}

// When a line from a to b is overtaken by one that starts no higher and ends higher.
__device__ inline double crossing(double a, double b, double a_other, double b_other) {
    if (a == a_other) return 0;
    // Halved, finite numbers have finite differences.
    double lead = 0.5 * a - 0.5 * a_other;
    double trail = 0.5 * b_other - 0.5 * b;
    if (fabs(lead) == INF && fabs(trail) == INF) return 0.5;
    return 1 / (1 + trail / lead);
}

// The line that is next to overtake the leader, and when; the leader and 1 if none does.
template <typename Lines>
__device__ inline Overtaking next_leader(const Lines& lines, int64 leader, double time) {
    Overtaking next{leader, 1};
    double a = lines.start(leader), b = lines.end(leader);
    for (int64 i = 0; i < lines.size; ++i) {
        double end = lines.end(i);
        if (!(end > b)) continue;
        double at = larger(time, crossing(a, b, lines.start(i), end));
        if (at < next.time || (at == next.time && end > lines.end(next.line))) next = {i, at};
    }
    return next;
}
