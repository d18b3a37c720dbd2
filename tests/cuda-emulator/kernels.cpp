#include "../../cuda/kernels.cu"
