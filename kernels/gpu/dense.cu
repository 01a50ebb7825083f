// What a dense layer computes besides its products, in one pass over memory each.

#include "dense.cuh"

extern "C" __global__ void add_bias(real* z, const real* bias, int64 rows, int64 columns) {
    dense::for_each(rows, columns, [=](int64 i, int64 column) { z[i] += bias[column]; });
}

extern "C" __global__ void sum_rows(const real* values, real* sums, int64 rows, int64 columns,
                                    int64 chunks) {
    dense::sum_chunks(rows, columns, chunks, sums, [=](int64 i) { return values[i]; });
}

extern "C" __global__ void midpoint(const real* a, const real* b, real* middle, int64 count) {
    FOR_ELEMENTS(i, count) middle[i] = (a[i] + b[i]) / 2;
}
