using Distill.Datasets;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Students that learn beside the one that counts, on the same mini-batches, to see where they disagree. Each begins from a draw
/// of its own; all share one normalizer, and sequences begin with the memory that the one that counts had there.
/// </summary>
internal sealed class Ensemble : IDisposable
{
    private readonly Policy[] students;
    private readonly StudentTrainer[] trainers;

    /// <param name="create">Draws the student of this number, from 1.</param>
    /// <param name="outputs">Numbers of an action, or choices.</param>
    public Ensemble(
        DistillationConfig config,
        DistillationShape shape,
        Func<int, Policy> create,
        Normalizer? normalizer,
        int outputs
    )
    {
        var members = config.Sampling.Ensemble;
        Disagreement = new Disagreement(
            members,
            outputs,
            shape.SegmentLength,
            StudentTrainer.PaddedRows(shape.LargestBatch, shape.SegmentLength)
        );
        students = [.. Enumerable.Range(1, members - 1).Select(create)];
        foreach (var student in students)
            student.Normalizer = normalizer;
        trainers =
        [
            .. students.Select(
                (student, i) =>
                    new StudentTrainer(
                        student,
                        config.Loss,
                        config.Optimizer,
                        shape.SegmentLength,
                        shape.LargestBatch,
                        shape.SegmentLength,
                        Disagreement,
                        member: i + 1
                    )
            ),
        ];
    }

    public Disagreement Disagreement { get; }

    public IEnumerable<(Network Network, Optimizer Optimizer)> Learners =>
        students.Zip(trainers, (student, trainer) => (student.Network, trainer.Optimizer));

    /// <summary>Goes on with other numbers.</summary>
    public void Use(DistillationConfig now)
    {
        foreach (var trainer in trainers)
            trainer.Use(now.Loss, now.Optimizer, now.GradientLength.Whole);
    }

    /// <summary>Trains all on a mini-batch on which the one that counts was just trained, and notes how they disagree.</summary>
    /// <param name="lanes">Segments side by side in its panels.</param>
    /// <param name="iteration">From 0, for messages.</param>
    /// <exception cref="DistillException">A loss or a gradient is not finite.</exception>
    public void Train(
        WorkerPool pool,
        AggregatedDataset dataset,
        ReadOnlySpan<int> batch,
        int lanes,
        int iteration
    )
    {
        foreach (var trainer in trainers)
        {
            var part = trainer.Train(pool, dataset, batch);
            FiniteWatch.Require(part.Sum, "loss", iteration);
            FiniteWatch.Require(trainer.Optimizer.GradientNorm, "norm of the gradient", iteration);
        }
        Disagreement.Record(dataset, batch, lanes);
    }

    public void Visit(State state)
    {
        for (var i = 0; i < students.Length; i++)
        {
            state.Part($"student{i + 1}", students[i].Network.Visit);
            state.Part($"trainer{i + 1}", trainers[i].Visit);
        }
    }

    public void Dispose()
    {
        foreach (var student in students)
            student.Dispose();
        foreach (var trainer in trainers)
            trainer.Dispose();
        Disagreement.Dispose();
    }
}
