// All kernels, as one text.
#include "evaluation.cu"
#include "gru.cu"
#include "limits.cu"
#include "optimizers.cu"
#include "ppo.cu"
#include "quadrotor.cu"
#include "training.cu"
