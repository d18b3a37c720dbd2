namespace Distill.Compute;

/// <summary>A method as work for a <see cref="WorkerPool"/>; made once, because making it allocates.</summary>
internal sealed class Work(Action<int, int> run) : IWork
{
    public void Run(int item, int worker) => run(item, worker);
}
