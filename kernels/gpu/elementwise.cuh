// Kernels of divided differences: two arrays in, one out, element by element.
//
// The formula is evaluated in double precision and rounded once to `real`.

#pragma once

#include "grid.cuh"

#define DIVIDED_DIFFERENCE(name, formula)                                                        \
    extern "C" __global__ void name##_divided_difference(const real* a, const real* b,           \
                                                         real* out, int64 count) {               \
        FOR_ELEMENTS(i, count) out[i] = formula(a[i], b[i]);                                     \
    }

#define DIVIDED_DIFFERENCE_WITH_PARAMETER(name, formula)                                         \
    extern "C" __global__ void name##_divided_difference(const real* a, const real* b,           \
                                                         real* out, int64 count,                 \
                                                         double parameter) {                     \
        FOR_ELEMENTS(i, count) out[i] = formula(a[i], b[i], parameter);                          \
    }
