#include "quadrotor.cu"
