// Windows of images packed into the columns of a matrix, and unpacked again.
//
// x is (images, channels, height, width); the columns are (channels, kernel, kernel) × (images,
// windows, windows). Neighbouring threads take neighbouring columns, or neighbouring pixels.

#include "axis.cuh"
#include "grid.cuh"

extern "C" __global__ void pack(const real* x, real* columns, int64 images, int64 channels,
                                Axis vertical, Axis horizontal) {
    int64 plane = vertical.length * horizontal.length;
    int64 per_image = vertical.windows * horizontal.windows;
    int64 windows = images * per_image;
    FOR_ELEMENTS(window, windows) {
        int64 image = window / per_image;
        int64 row = window % per_image / horizontal.windows;
        int64 column = window % horizontal.windows;
        FOR_ROWS(channel, channels) {
            const real* pixels = x + (image * channels + channel) * plane;
            real* element = columns + channel * vertical.kernel * horizontal.kernel * windows;
            for (int64 i = 0; i < vertical.kernel; ++i) {
                int64 top = vertical.place(row, i);
                for (int64 j = 0; j < horizontal.kernel; ++j) {
                    int64 left = horizontal.place(column, j);
                    bool inside = vertical.inside(top) && horizontal.inside(left);
                    element[window] = inside ? pixels[top * horizontal.length + left] : 0;
                    element += windows;
                }
            }
        }
    }
}

// Each pixel of x sums its elements in the columns of the windows over it.
extern "C" __global__ void unpack(const real* columns, real* x, int64 images, int64 channels,
                                  Axis vertical, Axis horizontal) {
    int64 plane = vertical.length * horizontal.length;
    int64 windows = images * vertical.windows * horizontal.windows;
    FOR_ELEMENTS(pixel, images * plane) {
        int64 image = pixel / plane;
        int64 place = pixel % plane;
        int64 top = place / horizontal.length;
        int64 left = place % horizontal.length;
        FOR_ROWS(channel, channels) {
            const real* element = columns + channel * vertical.kernel * horizontal.kernel * windows;
            real total = 0;
            for (int64 i = 0; i < vertical.kernel; ++i) {
                int64 row = vertical.window_at(top, i);
                for (int64 j = 0; j < horizontal.kernel; ++j) {
                    int64 column = horizontal.window_at(left, j);
                    if (row >= 0 && column >= 0) {
                        int64 line = image * vertical.windows + row;
                        total += element[line * horizontal.windows + column];
                    }
                    element += windows;
                }
            }
            x[(image * channels + channel) * plane + place] = total;
        }
    }
}
