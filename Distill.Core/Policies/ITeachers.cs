using Distill.Environments;

namespace Distill.Policies;

/// <summary>
/// What labels: policies from files, the environments themselves, a function. A run has several batches of environments, and each gets
/// a teacher of its own, which remembers what happens there.
/// </summary>
public interface ITeachers : IDisposable
{
    /// <summary>The policies among them.</summary>
    IReadOnlyList<Policy> Policies => [];

    /// <summary>The observation group that carries the label, which a student must not read; null where none does.</summary>
    string? LabelGroup => null;

    /// <summary>Makes what labels the states of these environments.</summary>
    /// <param name="noise">Draws actions from its distribution; null for its deterministic actions.</param>
    /// <exception cref="DistillException">It does not fit the environments, or there is no distribution to draw from.</exception>
    ITeacher Teach(IBatchedEnvironment environment, RandomStream? noise = null);

    void IDisposable.Dispose() { }

    /// <summary>Refuses to draw where there is no distribution.</summary>
    internal static void RefuseNoise(RandomStream? noise)
    {
        if (noise is not null)
            throw new DistillException(
                "teacher_deterministic=false cannot work with this teacher: it gives actions, not a distribution over them; use "
                    + "teacher_deterministic=true."
            );
    }
}
