// Rows added to the rows of a table, any of which may be named more than once.

#include "grid.cuh"

// `indices` are sorted, and `order` is the stable permutation that sorted them. One thread for each
// column adds up a whole run of equal indices. So no two threads add to one place, and the order of
// the sum is that of the indices. The sums of each 256 rows are added up in double precision.
// Indices outside the table are ignored.
extern "C" __global__ void add_runs(const int64* indices, const int64* order, const real* rows,
                                    real* table, int64 count, int64 width, int64 height,
                                    int64 skipped) {
    FOR_ROWS(first, count) {
        int64 row = indices[first];
        if (row < 0 || row >= height || row == skipped) continue;
        if (first > 0 && indices[first - 1] == row) continue;
        FOR_ELEMENTS(column, width) {
            real part = table[row * width + column];
            double total = 0;
            for (int64 i = first; i < count && indices[i] == row; ++i) {
                part += rows[order[i] * width + column];
                if ((i - first + 1) % 256 == 0) {
                    total += part;
                    part = 0;
                }
            }
            table[row * width + column] = total + part;
        }
    }
}
