// Which candidate of a row is the largest while all of them move along straight lines.

#include "envelope.cuh"
#include "grid.cuh"

struct Row {
    const real *starts, *ends;
    int64 size;

    __device__ real start(int64 i) const { return starts[i]; }
    __device__ real end(int64 i) const { return ends[i]; }
};

// `shares` must be zero initially.
extern "C" __global__ void average_shares(const real* start, const real* end, real* shares,
                                          int64 rows, int64 size) {
    FOR_ELEMENTS(row, rows) {
        Row lines{start + row * size, end + row * size, size};
        real* share = shares + row * size;
        int64 leader = first_leader(lines);
        double time = leader < 0 ? 1 : 0;
        if (leader < 0) {
            for (int64 i = 0; i < size; ++i) share[i] = QUIET_NAN;
        }
        while (time < 1) {
            Overtaking next = next_leader(lines, leader, time);
            real a = lines.start(leader), b = lines.end(leader);
            int64 equals = 0;
            for (int64 i = 0; i < size; ++i) equals += lines.start(i) == a && lines.end(i) == b;
            for (int64 i = 0; i < size; ++i) {
                if (lines.start(i) == a && lines.end(i) == b) {
                    share[i] += (next.time - time) / equals;
                }
            }
            leader = next.line;
            time = next.time;
        }
    }
}
