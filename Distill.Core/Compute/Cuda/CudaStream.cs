namespace Distill.Compute.Cuda;

/// <summary>A stream of random numbers in the layout of <c>cuda/random.cuh</c>.</summary>
internal readonly struct CudaStream(RandomStream stream)
{
    private readonly uint key0 = stream.Key0;
    private readonly uint key1 = stream.Key1;
    private readonly uint key2 = stream.Key2;
    private readonly uint key3 = stream.Key3;
}
