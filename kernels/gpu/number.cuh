// A number passed by the host, or one in device memory that may change between launches.

#pragma once

#include "grid.cuh"

// In the layout of number.py.
template <typename T>
struct Given {
    T value;
    const T* at;  // the number's address; null if it is `value`

    __device__ T get() const { return at ? *at : value; }
};

using Number = Given<double>;
using Key = Given<int64>;
