// All kernels, as one text.
#include "networks.cu"
#include "optimizers.cu"
#include "quadrotor.cu"
