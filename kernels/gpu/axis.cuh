// How windows lie along one axis of an image.

#pragma once

#include "grid.cuh"

// In the layout of AXIS in axis.py.
struct Axis {
    int64 length;    // of the image
    int64 windows;   // their number
    int64 kernel;    // elements of a window
    int64 stride;    // from one window to the next
    int64 before;    // padding before the image
    int64 dilation;  // from one element of a window to the next

    // The place of element k of a window; in the padding it is outside the image.
    __device__ int64 place(int64 window, int64 k) const {
        return window * stride - before + k * dilation;
    }

    __device__ bool inside(int64 place) const { return 0 <= place && place < length; }

    // The first element of a window that lies in the image.
    __device__ int64 first(int64 window) const {
        int64 outside = before - window * stride;
        return outside > 0 ? (outside + dilation - 1) / dilation : 0;
    }

    // The end of the elements in the image, no less than the first.
    __device__ int64 stop(int64 window) const {
        int64 room = length - place(window, 0);
        int64 most = room > 0 ? (room + dilation - 1) / dilation : 0;
        int64 end = most < kernel ? most : kernel;
        int64 begin = first(window);
        return end < begin ? begin : end;
    }

    // The window with element k at a place, or -1.
    __device__ int64 window_at(int64 place, int64 k) const {
        int64 offset = place + before - k * dilation;
        if (offset < 0) return -1;
        if (stride != 1) {
            if (offset % stride != 0) return -1;
            offset /= stride;
        }
        return offset < windows ? offset : -1;
    }
};
