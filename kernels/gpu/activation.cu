// Activations and their gradients; GELU by Mills' ratio, as kernels/cpu/activation.py explains.

#include "exponential.cuh"
#include "gaussian.cuh"
#include "grid.cuh"

// e^(-x^2 / 2), from the exact square of a head of 24 bits and a small rest.
__device__ inline double bell(double x) {
    double head = (float)x;
    auto [n, minus_one] = exponential::split_exp(at_least(-0.5 * head * head, -700));
    double power = exponential::power_of_two(n);
    double rest = 0.5 * (x - head) * (x + head);
    double whole = (power + power * minus_one) * (1 - rest * (1 - rest / 2 * (1 - rest / 3)));
    return fabs(x) < 37 ? whole : 0;
}

// Phi(x), from `bell` at x.
__device__ inline double distribution(double x, double bell) {
    constexpr double mills[] = {
        -0.0011845146849972508, 0.003128763705770617,  -0.0009445569848677524,
        -0.004976809874676629,  0.0047059996737141225, 0.004357963550901405,
        -0.008283724457629399,  -0.002572715357948674, 0.012113143703489903,
        0.0007339558424115504,  -0.017993133524085544, -0.000488562844069399,
        0.029580102738213026,   0.008534039510029954,  -0.052186189120590434,
        -0.055675077994264896,  0.060321511707720064,  0.2415862995655165,
        0.37304371591952096,    0.38713740074220454,   0.30394832098594554,
        0.18882128260393788,
    };
    double t = 4 / (4 + fabs(x));
    double series = 0;
    for (double coefficient : mills) series = fma(series, t - 0.5, coefficient);
    double tail = bell * (t * series);
    return x <= 0 ? tail : 1 - tail;
}

extern "C" __global__ void gelu(const real* x, real* out, int64 count) {
    FOR_ELEMENTS(i, count) {
        double value = x[i];
        out[i] = value * distribution(value, bell(value));
    }
}

extern "C" __global__ void gelu_derivative(const real* x, real* out, int64 count) {
    FOR_ELEMENTS(i, count) {
        double value = x[i];
        double density = bell(value);
        out[i] = distribution(value, density) + value * (density / gaussian::SQRT_2PI);
    }
}

// The share of the logistic function on its side of zero, and the other's: sigmoid of |x| and -|x|.
struct Sides {
    double near, far;
};

__device__ inline Sides sides(double x) {
    double small = exponential::exp_of(-fabs(x));
    return {1 / (1 + small), small / (1 + small)};
}

extern "C" __global__ void sigmoid(const real* x, real* out, int64 count) {
    FOR_ELEMENTS(i, count) {
        auto [near, far] = sides(x[i]);
        out[i] = x[i] < 0 ? far : near;
    }
}

extern "C" __global__ void sigmoid_backward(const real* grad, const real* out, real* x_grad,
                                            int64 count) {
    FOR_ELEMENTS(i, count) x_grad[i] = grad[i] * (out[i] * (1 - out[i]));
}

extern "C" __global__ void silu(const real* x, real* out, int64 count) {
    FOR_ELEMENTS(i, count) {
        auto [near, far] = sides(x[i]);
        out[i] = x[i] * (x[i] < 0 ? far : near);
    }
}

extern "C" __global__ void silu_backward(const real* grad, const real* x, real* x_grad,
                                         int64 count) {
    FOR_ELEMENTS(i, count) {
        auto [near, far] = sides(x[i]);
        double share = x[i] < 0 ? far : near, rest = x[i] < 0 ? near : far;
        x_grad[i] = grad[i] * (share * (1 + x[i] * rest));
    }
}
