// All kernels, as one text.
#include "gru.cu"
#include "limits.cu"
#include "optimizers.cu"
#include "quadrotor.cu"
#include "training.cu"
