// Rows added to the rows of a table, any of which may be named more than once.

#include "grid.cuh"
#include "reduction.cuh"

// A block is WIDTH columns wide, and LANES threads share the rows of a column.
constexpr unsigned WIDTH = 32;  // the same as in embedding.py
constexpr unsigned LANES = THREADS / WIDTH;
constexpr int64 PART = 256;  // rows that a thread adds up

// `indices` are sorted, and `order` is the stable permutation that sorted them. A block adds up a
// whole run of equal indices. So no two threads add to one place, and the order of the sum is that
// of the indices: the sums of each PART rows are added up in double precision. Indices outside the
// table are ignored.
extern "C" __global__ void add_runs(const int64* indices, const int64* order, const real* rows,
                                    real* table, int64 count, int64 width, int64 height,
                                    int64 skipped) {
    __shared__ real parts[THREADS];
    const unsigned lane = threadIdx.x / WIDTH;
    FOR_ROWS(first, count) {
        int64 row = indices[first];
        if (row < 0 || row >= height || row == skipped) continue;
        if (first > 0 && indices[first - 1] == row) continue;
        for (int64 left = (int64)blockIdx.x * WIDTH; left < width; left += gridDim.x * WIDTH) {
            const int64 column = left + threadIdx.x % WIDTH;
            const bool inside = column < width;
            double total = 0;
            for (int64 from = first; from < count && indices[from] == row; from += LANES * PART) {
                const int64 begin = from + lane * PART;
                const int64 stop = begin + PART < count ? begin + PART : count;
                real part = inside && begin == first ? table[row * width + column] : 0;
                for (int64 i = begin; inside && i < stop && indices[i] == row; ++i) {
                    part += rows[order[i] * width + column];
                }
                __syncthreads();  // those before may still be read
                parts[threadIdx.x] = part;
                __syncthreads();
                for (unsigned i = threadIdx.x % WIDTH; i < THREADS; i += WIDTH) total += parts[i];
            }
            if (lane == 0 && inside) table[row * width + column] = total;
        }
    }
}
