// What kernels/gpu/product.py calls of cuBLAS, under NVIDIA's prototypes, on the host's memory.
//
// It computes as the reference BLAS does, and refuses what cuBLAS would refuse or what a recording
// must not do: a handle that is none, a product before a stream and, after it, a workspace are set, a
// leading dimension shorter than a column.

#include <algorithm>
#include <cstddef>
#include <set>
#include <string>

extern "C" {

typedef struct cublasContext* cublasHandle_t;
typedef struct CUstream_st* cudaStream_t;
typedef enum { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 } cublasOperation_t;
typedef enum { CUBLAS_DEFAULT_MATH = 0, CUBLAS_TF32_TENSOR_OP_MATH = 3 } cublasMath_t;
typedef enum {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_NOT_INITIALIZED = 1,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_EXECUTION_FAILED = 13,
    CUBLAS_STATUS_INTERNAL_ERROR = 14,
} cublasStatus_t;

struct cublasContext {
    bool has_stream = false;
    bool has_workspace = false;
};

}  // extern "C"

namespace {

std::set<cublasHandle_t> handles;
std::string calls;
std::string failing;

/// Note a call, and return what it is to return if it is to fail, or its handle is none.
cublasStatus_t called(const std::string& name, cublasHandle_t handle, const std::string& arguments)
{
    calls += name + "(" + arguments + ")\n";
    if (name == failing) return CUBLAS_STATUS_EXECUTION_FAILED;
    return handles.count(handle) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

std::string text(const void* address) { return std::to_string(reinterpret_cast<size_t>(address)); }

template <class... Numbers> std::string text(int first, Numbers... rest)
{
    std::string numbers = std::to_string(first);
    ((numbers += ", " + std::to_string(rest)), ...);
    return numbers;
}

template <class real>
cublasStatus_t product(
    const std::string& name, const std::string& arguments, cublasHandle_t handle,
    cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k, const real* alpha,
    const real* A, int lda, long long strideA, const real* B, int ldb, long long strideB,
    const real* beta, real* C, int ldc, long long strideC, int count)
{
    cublasStatus_t status = called(name, handle, arguments);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (!handle->has_stream || !handle->has_workspace) return CUBLAS_STATUS_INTERNAL_ERROR;
    bool a_fits = lda >= std::max(1, transa == CUBLAS_OP_N ? m : k);
    bool b_fits = ldb >= std::max(1, transb == CUBLAS_OP_N ? k : n);
    bool c_fits = ldc >= std::max(1, m) && strideC >= (count > 1 ? (long long)ldc * n : 0);
    bool sizes = m >= 0 && n >= 0 && k >= 0 && count >= 0 && strideA >= 0 && strideB >= 0;
    if (!(a_fits && b_fits && c_fits && sizes)) return CUBLAS_STATUS_INVALID_VALUE;
    for (int i = 0; i < count; i++, A += strideA, B += strideB, C += strideC)
        for (size_t column = 0; column < (size_t)n; column++)
            for (size_t row = 0; row < (size_t)m; row++) {
                real sum = 0;
                for (size_t j = 0; j < (size_t)k; j++)
                    sum += A[transa == CUBLAS_OP_N ? row + j * lda : j + row * lda]
                        * B[transb == CUBLAS_OP_N ? j + column * ldb : column + j * ldb];
                real& c = C[row + column * ldc];
                c = *alpha * sum + (*beta == 0 ? 0 : *beta * c);
            }
    return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

/// For the tests: the calls since the last time that they were asked for, a line each.
const char* take_calls()
{
    static std::string taken;
    taken = std::move(calls);
    calls.clear();
    return taken.c_str();
}

/// For the tests: let the function of that name fail; "" for none.
void let_fail(const char* name) { failing = name; }

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle)
{
    *handle = *handles.insert(new cublasContext).first;
    return called("cublasCreate_v2", *handle, "");
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
    cublasStatus_t status = called("cublasDestroy_v2", handle, "");
    if (handles.erase(handle)) delete handle;
    return status;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t streamId)
{
    cublasStatus_t status = called("cublasSetStream_v2", handle, text(streamId));
    if (status == CUBLAS_STATUS_SUCCESS) {
        handle->has_stream = true;
        handle->has_workspace = false;
    }
    return status;
}

cublasStatus_t cublasSetWorkspace_v2(
    cublasHandle_t handle, void* workspace, size_t workspaceSizeInBytes)
{
    std::string arguments = text(workspace) + ", " + std::to_string(workspaceSizeInBytes);
    cublasStatus_t status = called("cublasSetWorkspace_v2", handle, arguments);
    if (status == CUBLAS_STATUS_SUCCESS) handle->has_workspace = workspace != nullptr;
    return status;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    return called("cublasSetMathMode", handle, text(mode));
}

#define GEMM(letter, real)                                                                         \
    cublasStatus_t cublas##letter##gemm_v2(                                                        \
        cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,   \
        int k, const real* alpha, const real* A, int lda, const real* B, int ldb,                  \
        const real* beta, real* C, int ldc)                                                        \
    {                                                                                              \
        return product(                                                                            \
            "cublas" #letter "gemm_v2", text(transa, transb, m, n, k, lda, ldb, ldc), handle,      \
            transa, transb, m, n, k, alpha, A, lda, 0, B, ldb, 0, beta, C, ldc, 0, 1);             \
    }                                                                                              \
                                                                                                   \
    cublasStatus_t cublas##letter##gemmStridedBatched(                                             \
        cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,   \
        int k, const real* alpha, const real* A, int lda, long long int strideA, const real* B,    \
        int ldb, long long int strideB, const real* beta, real* C, int ldc,                        \
        long long int strideC, int batchCount)                                                     \
    {                                                                                              \
        return product(                                                                            \
            "cublas" #letter "gemmStridedBatched",                                                 \
            text(                                                                                  \
                transa, transb, m, n, k, lda, strideA, ldb, strideB, ldc, strideC, batchCount),    \
            handle, transa, transb, m, n, k, alpha, A, lda, strideA, B, ldb, strideB, beta, C,     \
            ldc, strideC, batchCount);                                                             \
    }

GEMM(S, float)
GEMM(D, double)

}  // extern "C"
