// Windows of images packed into the columns of a matrix, and unpacked from them.
//
// x is (images, channels, height, width); the columns are (channels, kernel, kernel) × (images,
// windows, windows). Neighbouring threads have neighbouring columns, or neighbouring pixels.

#include "axis.cuh"
#include "grid.cuh"

extern "C" __global__ void pack(const real* x, real* columns, int64 images, int64 channels,
                                Axis vertical, Axis horizontal) {
    int64 per_image = vertical.windows * horizontal.windows;
    int64 windows = images * per_image;
    FOR_ELEMENTS(window, windows) {
        int64 image = window / per_image;
        int64 row = window % per_image / horizontal.windows;
        int64 column = window % horizontal.windows;
        FOR_ROWS(channel, channels) {
            const real* plane =
                x + (image * channels + channel) * vertical.length * horizontal.length;
            real* element = columns + channel * vertical.kernel * horizontal.kernel * windows;
            for (int64 i = 0; i < vertical.kernel; ++i) {
                int64 y = vertical.place(row, i);
                for (int64 j = 0; j < horizontal.kernel; ++j) {
                    int64 k = horizontal.place(column, j);
                    bool inside = vertical.inside(y) && horizontal.inside(k);
                    element[window] = inside ? plane[y * horizontal.length + k] : 0;
                    element += windows;
                }
            }
        }
    }
}

// Each pixel of x gathers what the columns of the windows over it hold.
extern "C" __global__ void unpack(const real* columns, real* x, int64 images, int64 channels,
                                  Axis vertical, Axis horizontal) {
    int64 per_channel = vertical.length * horizontal.length;
    int64 windows = images * vertical.windows * horizontal.windows;
    FOR_ELEMENTS(pixel, images * per_channel) {
        int64 image = pixel / per_channel;
        int64 place = pixel % per_channel;
        int64 y = place / horizontal.length;
        int64 k = place % horizontal.length;
        FOR_ROWS(channel, channels) {
            const real* element = columns + channel * vertical.kernel * horizontal.kernel * windows;
            real total = 0;
            for (int64 i = 0; i < vertical.kernel; ++i) {
                int64 row = vertical.window_at(y, i);
                for (int64 j = 0; j < horizontal.kernel; ++j) {
                    int64 column = horizontal.window_at(k, j);
                    if (row >= 0 && column >= 0) {
                        int64 line = image * vertical.windows + row;
                        total += element[line * horizontal.windows + column];
                    }
                    element += windows;
                }
            }
            x[(image * channels + channel) * per_channel + place] = total;
        }
    }
}
