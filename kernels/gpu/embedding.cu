// Rows of a table summed where they are named more than once.

#include "grid.cuh"

// `order` sorts the indices, equal ones staying in their order: `indices` are the sorted ones. Of
// each run of equal indices one thread for each column adds up all, so that none adds where
// another does and the order of the sum is that of the indices. Those outside of the table
// name no row.
extern "C" __global__ void add_runs(const int64* indices, const int64* order, const real* rows,
                                    real* table, int64 count, int64 width, int64 height,
                                    int64 skipped) {
    FOR_ROWS(first, count) {
        int64 row = indices[first];
        if (row < 0 || row >= height || row == skipped) continue;
        if (first > 0 && indices[first - 1] == row) continue;
        FOR_ELEMENTS(column, width) {
            real total = table[row * width + column];
            for (int64 i = first; i < count && indices[i] == row; ++i) {
                total += rows[order[i] * width + column];
            }
            table[row * width + column] = total;
        }
    }
}
