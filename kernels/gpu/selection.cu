// Which candidate of a row is the largest while all of them move along straight lines.
//
// As in envelope.cuh, with a team of threads to a row, all of which find the same.

#include "envelope.cuh"
#include "grid.cuh"
#include "reduction.cuh"

struct Row {
    const real *starts, *ends;
    int64 size;

    __device__ real start(int64 i) const { return starts[i]; }
    __device__ real end(int64 i) const { return ends[i]; }
};

// The first column for which `holds`; the size if there is none.
template <typename Holds>
__device__ inline int64 first_column(int64 size, Holds holds) {
    double place = -(double)size;
    FOR_COLUMNS(i, size) {
        if (holds(i)) place = larger(place, -(double)i);
    }
    return (int64)-row_max(place, size);
}

__device__ inline int64 team_first_leader(const Row& lines) {
    double lacks = 0, start = -INF, end = -INF;
    FOR_COLUMNS(i, lines.size) {
        if (lines.start(i) != lines.start(i) || lines.end(i) != lines.end(i)) lacks = 1;
        start = larger(start, lines.start(i));
    }
    if (row_max(lacks, lines.size) > 0) return -1;
    start = row_max(start, lines.size);
    FOR_COLUMNS(i, lines.size) {
        if (lines.start(i) == start) end = larger(end, lines.end(i));
    }
    end = row_max(end, lines.size);
    return first_column(
        lines.size, [&](int64 i) { return lines.start(i) == start && lines.end(i) == end; });
}

__device__ inline Overtaking team_next_leader(const Row& lines, int64 leader, double time) {
    double a = lines.start(leader), b = lines.end(leader);
    auto passes_at = [&](int64 i) {
        return larger(time, crossing(a, b, lines.start(i), lines.end(i)));
    };
    double soonest = -1, highest = b;
    FOR_COLUMNS(i, lines.size) {
        if (lines.end(i) > b) soonest = larger(soonest, -passes_at(i));
    }
    soonest = -row_max(soonest, lines.size);
    FOR_COLUMNS(i, lines.size) {
        if (lines.end(i) > b && passes_at(i) == soonest) highest = larger(highest, lines.end(i));
    }
    highest = row_max(highest, lines.size);
    if (highest == b) return {leader, 1};
    int64 line = first_column(lines.size, [&](int64 i) {
        return lines.end(i) == highest && passes_at(i) == soonest;
    });
    return {line, soonest};
}

// `shares` must be zero initially.
extern "C" __global__ void average_shares(const real* start, const real* end, real* shares,
                                          int64 rows, int64 size) {
    FOR_TEAM_ROWS(row, rows, size) {
        Row lines{start + row * size, end + row * size, size};
        real* share = shares + row * size;
        int64 leader = team_first_leader(lines);
        double time = leader < 0 ? 1 : 0;
        if (leader < 0) {
            FOR_COLUMNS(i, size) share[i] = QUIET_NAN;
        }
        while (time < 1) {
            Overtaking next = team_next_leader(lines, leader, time);
            real a = lines.start(leader), b = lines.end(leader);
            auto leads = [&](int64 i) { return lines.start(i) == a && lines.end(i) == b; };
            double equals = 0;
            FOR_COLUMNS(i, size) equals += leads(i);
            equals = row_sum(equals, size);
            FOR_COLUMNS(i, size) {
                if (leads(i)) share[i] += (next.time - time) / equals;
            }
            leader = next.line;
            time = next.time;
        }
    }
}
