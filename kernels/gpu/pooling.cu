// Pooling of planes (planes, height, width). Backward, each pixel gathers from the windows over it,
// in their order, so that no two threads write to one place.

#include "axis.cuh"
#include "envelope.cuh"
#include "grid.cuh"

// The pixels of its plane that a window covers: `size` of them, `height` by `width`.
struct Cover {
    int64 first_y, first_x, height, width, size, origin, step_y, step_x;

    __device__ Cover(int64 window, const Axis& vertical, const Axis& horizontal) {
        int64 row = window / horizontal.windows % vertical.windows;
        int64 column = window % horizontal.windows;
        first_y = vertical.first(row);
        first_x = horizontal.first(column);
        height = vertical.stop(row) - first_y;
        width = horizontal.stop(column) - first_x;
        size = height * width;
        origin =
            vertical.place(row, first_y) * horizontal.length + horizontal.place(column, first_x);
        step_y = vertical.dilation * horizontal.length;
        step_x = horizontal.dilation;
    }

    // The place of the window's pixel (y, x) in its plane.
    __device__ int64 place(int64 y, int64 x) const { return origin + y * step_y + x * step_x; }
};

__device__ inline int64 plane_of(int64 window, const Axis& vertical, const Axis& horizontal) {
    return window / horizontal.windows / vertical.windows * vertical.length * horizontal.length;
}

extern "C" __global__ void max_pool(const real* x, real* out, int64 planes, Axis vertical,
                                    Axis horizontal) {
    FOR_ELEMENTS(window, planes * vertical.windows * horizontal.windows) {
        const real* plane = x + plane_of(window, vertical, horizontal);
        Cover cover(window, vertical, horizontal);
        real largest = -INF;
        for (int64 i = 0; i < cover.height; ++i) {
            for (int64 j = 0; j < cover.width; ++j) {
                real value = plane[cover.place(i, j)];
                if (value > largest || value != value) largest = value;
            }
        }
        out[window] = largest;
    }
}

// The place in its plane of the largest pixel of each window, or -1.
extern "C" __global__ void places_of_largest(const real* x, int64* places, int64 planes,
                                             Axis vertical, Axis horizontal) {
    FOR_ELEMENTS(window, planes * vertical.windows * horizontal.windows) {
        const real* plane = x + plane_of(window, vertical, horizontal);
        Cover cover(window, vertical, horizontal);
        int64 chosen = cover.size > 0 ? cover.origin : -1;
        for (int64 i = 0; i < cover.height; ++i) {
            for (int64 j = 0; j < cover.width; ++j) {
                int64 place = cover.place(i, j);
                real value = plane[place];
                if (value > plane[chosen] || value != value) chosen = place;
            }
        }
        places[window] = chosen;
    }
}

// Each pixel gathers the gradients of the windows that have chosen it.
extern "C" __global__ void max_gradient(const real* grad, const int64* places, real* x_grad,
                                        int64 planes, Axis vertical, Axis horizontal) {
    int64 per_plane = vertical.length * horizontal.length;
    FOR_ELEMENTS(pixel, planes * per_plane) {
        int64 plane = pixel / per_plane;
        int64 place = pixel % per_plane;
        real total = 0;
        for (int64 i = vertical.kernel - 1; i >= 0; --i) {
            int64 row = vertical.window_at(place / horizontal.length, i);
            if (row < 0) continue;
            for (int64 j = horizontal.kernel - 1; j >= 0; --j) {
                int64 column = horizontal.window_at(place % horizontal.length, j);
                if (column < 0) continue;
                int64 line = plane * vertical.windows + row;
                int64 window = line * horizontal.windows + column;
                if (places[window] == place) total += grad[window];
            }
        }
        x_grad[pixel] = total;
    }
}

struct WindowLines {
    const real *starts, *ends;
    Cover cover;
    int64 size;

    __device__ WindowLines(const real* starts, const real* ends, const Cover& cover)
        : starts(starts), ends(ends), cover(cover), size(cover.size) {}

    __device__ int64 place(int64 k) const { return cover.place(k / cover.width, k % cover.width); }
    __device__ real start(int64 k) const { return starts[place(k)]; }
    __device__ real end(int64 k) const { return ends[place(k)]; }
};

// The gradient from each window to each of its elements, as columns for `unpack` to sum.
extern "C" __global__ void shares_of_largest(const real* grad, const real* start, const real* end,
                                             real* columns, int64 planes, Axis vertical,
                                             Axis horizontal) {
    int64 windows = planes * vertical.windows * horizontal.windows;
    FOR_ELEMENTS(window, windows) {
        int64 plane = plane_of(window, vertical, horizontal);
        Cover cover(window, vertical, horizontal);
        WindowLines lines(start + plane, end + plane, cover);
        int64 leader = lines.size > 0 ? first_leader(lines) : -1;
        bool has_nan = lines.size > 0 && leader < 0;
        real* element = columns + window;
        for (int64 k = 0; k < vertical.kernel * horizontal.kernel; ++k) {
            element[k * windows] = has_nan ? QUIET_NAN : 0;
        }
        double time = leader < 0 ? 1 : 0;
        while (time < 1) {
            Overtaking next = next_leader(lines, leader, time);
            int64 i = cover.first_y + leader / cover.width;
            int64 j = cover.first_x + leader % cover.width;
            element[(i * horizontal.kernel + j) * windows] = (next.time - time) * grad[window];
            leader = next.line;
            time = next.time;
        }
    }
}

extern "C" __global__ void mean_pool(const real* x, const int64* rows, const int64* columns,
                                     const real* area, real* out, int64 planes, int64 height,
                                     int64 width, int64 out_height, int64 out_width) {
    FOR_ELEMENTS(window, planes * out_height * out_width) {
        const real* plane = x + window / out_width / out_height * height * width;
        int64 row = window / out_width % out_height;
        int64 column = window % out_width;
        real total = 0;
        for (int64 i = rows[row]; i < rows[out_height + row]; ++i) {
            for (int64 j = columns[column]; j < columns[out_width + column]; ++j) {
                total += plane[i * width + j];
            }
        }
        out[window] = total / area[row * out_width + column];
    }
}

// The first of ascending windows that stops beyond a place; `spans` holds starts, then stops.
__device__ inline int64 first_over(const int64* spans, int64 count, int64 place) {
    int64 low = 0, high = count;
    while (low < high) {
        int64 middle = low + (high - low) / 2;
        if (spans[count + middle] > place) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

extern "C" __global__ void mean_gradient(const real* grad, const int64* rows, const int64* columns,
                                         const real* area, real* x_grad, int64 planes,
                                         int64 height, int64 width, int64 out_height,
                                         int64 out_width) {
    FOR_ELEMENTS(pixel, planes * height * width) {
        const real* plane = grad + pixel / width / height * out_height * out_width;
        int64 y = pixel / width % height;
        int64 x = pixel % width;
        int64 first_column = first_over(columns, out_width, x);
        real total = 0;
        for (int64 i = first_over(rows, out_height, y); i < out_height && rows[i] <= y; ++i) {
            for (int64 j = first_column; j < out_width && columns[j] <= x; ++j) {
                total += plane[i * out_width + j] / area[i * out_width + j];
            }
        }
        x_grad[pixel] = total;
    }
}
