#!/bin/sh
# All tests of the GPU, then the benchmark, on a machine with NVIDIA's driver and without .NET. `dotnet fsi build.fsx gpu` packs it
# with all that it needs. Arguments are those of the benchmark, such as --quick.
cd "$(dirname "$0")" || exit
bin/Distill.Core.Tests Cuda
tested=$?
# NVIDIA's checker of memory and races, where the toolkit is installed.
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 1 bin/Distill.Core.Tests CudaNetworkTests CudaQuadrotorTests || tested=1
    done
fi
bin/Distill.Benchmarks gpu "$@" || exit
exit "$tested"
