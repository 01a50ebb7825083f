// A number that the host gives, or one that lies on the device and may change between launches.

#pragma once

#include "grid.cuh"

// Laid out as number.py says.
template <typename T>
struct Given {
    T value;
    const T* at;  // where the number lies; null if `value` is it

    __device__ T get() const { return at ? *at : value; }
};

using Number = Given<double>;
using Key = Given<int64>;
