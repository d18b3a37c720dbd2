namespace Distill.Algorithms;

/// <summary>What follows from a <see cref="ComputeDevice"/>, for all algorithms alike.</summary>
internal static class ComputeDevices
{
    /// <summary>Makes what computes.</summary>
    /// <param name="reason">Why not a GPU, where one might have been taken.</param>
    /// <exception cref="DistillException">It must be a GPU, and there is none, or what is asked for does not run there yet.</exception>
    public static T Make<T>(this ComputeDevice device, Func<T> onGpu, Func<T> onProcessor, out string reason)
    {
        reason = "";
        if (device == ComputeDevice.Cuda)
            return onGpu();
        if (device == ComputeDevice.Auto)
            try
            {
                return onGpu();
            }
            catch (DistillException e)
            {
                reason = $" ({e.Message})";
            }
        return onProcessor();
    }

    /// <exception cref="DistillException">Something is asked for that does not run on a GPU yet.</exception>
    public static void Refuse(bool asked, string what)
    {
        if (asked)
            throw new DistillException($"device=cuda cannot {what} yet; use device=cpu.");
    }
}
