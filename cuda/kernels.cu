// All kernels, as one text.
#include "limits.cu"
#include "rollout.cu"
#include "training.cu"
