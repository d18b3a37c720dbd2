using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// The three stages of an iteration and all that they work on: environments, rollout, dataset, student and optimizer. A
/// device that holds these stands behind this; the loop around it, the acting schedule and the reports are written once.
/// </summary>
public interface IDistillationEngine : IDisposable
{
    /// <summary>The student, up to date after every stage.</summary>
    Policy Student { get; }

    Optimizer Optimizer { get; }

    /// <summary>Training episodes, whoever drove.</summary>
    EpisodeStatistics Episodes { get; }

    /// <summary>How the variants of the environments go, where there are several.</summary>
    VariantStatistics? Variants { get; }

    /// <summary>Environment steps since the start, all environments together; those that follow an episode's early end not counted.</summary>
    long StepsCollected { get; }

    DatasetSize Dataset { get; }

    /// <summary>Goes on with other numbers: what is scheduled, as it is in one iteration.</summary>
    /// <param name="now">The configuration that it was made with, resolved.</param>
    void Use(DistillationConfig now);

    /// <summary>Brings the recorded data into the dataset, before the first iteration; null where there are none.</summary>
    /// <exception cref="DistillException">A file is damaged, or a number in it cannot be.</exception>
    SeedReport? Seed();

    /// <summary>Runs the environments and fills the rollout.</summary>
    /// <param name="teacherShare">Probability that the teacher drives, per environment and step.</param>
    /// <param name="iteration">From 0, for messages.</param>
    /// <exception cref="DistillException">An observation, an action or a reward is not finite.</exception>
    void Collect(double teacherShare, int iteration);

    /// <summary>Takes the rollout over into the dataset, and its observations into the student's statistics.</summary>
    void Add();

    /// <summary>Passes of gradient steps over what is held.</summary>
    /// <param name="iteration">From 0, for messages.</param>
    /// <exception cref="DistillException">A loss, a gradient or a weight is not finite.</exception>
    TrainingLosses Train(int iteration);

    /// <summary>Writes the dataset as recorded data (docs/recorded-data.md).</summary>
    /// <param name="teacher">Who gave the labels, for whoever reads the file.</param>
    void Export(string path, string teacher);

    /// <summary>Everything that the next iteration depends on.</summary>
    void Visit(State state);
}

/// <summary>Rows of the aggregated dataset.</summary>
/// <param name="Rows">Held.</param>
/// <param name="Capacity">There is room for.</param>
/// <param name="Limit">Held at most.</param>
/// <param name="Added">Brought by the last rollout.</param>
public readonly record struct DatasetSize(long Rows, long Capacity, long Limit, long Added);

/// <summary>Mean losses of one iteration's training; see <see cref="IterationReport"/>.</summary>
public readonly record struct TrainingLosses(
    double Loss,
    double? Newest,
    double? Historical,
    double? HeldOut,
    int Passes
);
