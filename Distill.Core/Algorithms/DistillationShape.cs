using Distill.Datasets;

namespace Distill.Algorithms;

/// <summary>The sizes that follow from the settings of a distillation.</summary>
/// <param name="Envs">Environments side by side.</param>
/// <param name="Steps">Steps of each per collection.</param>
/// <param name="WholeEpisodes">Whether a collection is one whole episode per environment.</param>
/// <param name="SegmentLength">Rows per dataset segment: 1, or a sequence for recurrent students.</param>
/// <param name="LargestBatch">Most segments that a mini-batch can have.</param>
public sealed record DistillationShape(
    int Envs,
    int Steps,
    bool WholeEpisodes,
    int SegmentLength,
    int LargestBatch
)
{
    private const int DefaultRows = 512;
    private const int DefaultSequences = 64;

    public static DistillationShape Of(DistillationConfig config)
    {
        using var probe = config.Environment.Create(1, 0);
        var (envs, steps, whole) = config.Collection switch
        {
            EpisodesPerEpoch episodes => (episodes.NumEpisodes, probe.Spec.EpisodeLimit, true),
            StepsPerIteration iteration => (config.Environment.Envs, iteration.StepsPerEnv, false),
            _ => throw new NotSupportedException($"No sizes for {config.Collection}."),
        };
        var recurrent = config.Student.Network(1, 1, Networks.Head.Plain).Recurrent;
        var sequence = config.SequenceLength == 0 ? steps : config.SequenceLength;
        if (recurrent && steps % sequence != 0)
            throw new DistillException(
                $"sequence_length={sequence} does not divide the {steps} steps of a rollout; whole sequences are needed."
            );
        var segment = recurrent ? sequence : 1;
        var rollout = (long)envs * steps;
        var most = (config.Retention is NewestRollout ? rollout : config.Retention.Limit) / segment;
        var batch = MiniBatch(config, segment, (int)Math.Clamp(most, 1, int.MaxValue));
        return new DistillationShape(envs, steps, whole, segment, batch);
    }

    /// <summary>Segments per optimizer step for a dataset that holds <paramref name="segments"/>.</summary>
    public static int MiniBatch(DistillationConfig config, int segmentLength, int segments)
    {
        if (config.MiniBatchSize > 0)
            return Math.Min(config.MiniBatchSize, segments);
        var most = segmentLength > 1 ? DefaultSequences : DefaultRows;
        return Math.Clamp(segments / config.NumMiniBatches, 1, most);
    }
}

/// <summary>Bytes that a distillation will take, known before anything is allocated.</summary>
/// <param name="DatasetBytes">A full dataset: (observation + action) x 4 bytes x rows.</param>
/// <param name="BookkeepingBytes">
/// What a full dataset takes beside its rows: flags, births and losses, the student's memory at the start of each sequence,
/// and the order in which they are drawn.
/// </param>
/// <param name="RolloutBytes">The rollout that every iteration overwrites.</param>
/// <param name="RowsThatFit">Largest <c>max_buffer_size</c> for which all fit the machine's memory, with a tenth to spare.</param>
public sealed record MemoryEstimate(
    long DatasetBytes,
    long BookkeepingBytes,
    long RolloutBytes,
    long AvailableBytes,
    long RowsThatFit
)
{
    /// <summary>Dataset, bookkeeping and rollout.</summary>
    public long TotalBytes => DatasetBytes + BookkeepingBytes + RolloutBytes;

    public bool Fits => TotalBytes <= AvailableBytes;

    /// <param name="availableBytes">What the machine has for this process; null asks it.</param>
    public static MemoryEstimate Of(
        DistillationConfig config,
        int teacherObservation,
        long? availableBytes = null
    )
    {
        var shape = DistillationShape.Of(config);
        using var probe = config.Environment.Create(1, 0);
        var observation = probe.Spec.Groups[probe.Spec.Group(config.Student.ObservationGroup)].Size;
        var action = probe.Spec.Actions.Floats;
        var rollout = (long)shape.Envs * shape.Steps;
        var rows = config.Retention is NewestRollout ? rollout : config.Retention.Limit;
        var network = config.Student.Network(observation, probe.Spec.Actions.Size, Networks.Head.Plain);
        var memory = network.Layers.OfType<Networks.Gru>().Sum(layer => layer.Size);
        // Three bytes of flags, and the memory at the start of every sequence.
        var rolloutBytes =
            rollout * ((observation + teacherObservation + 2 * action + 1) * sizeof(float) + 3)
            + rollout / shape.SegmentLength * memory * sizeof(float);
        var available = (availableBytes ?? GC.GetGCMemoryInfo().TotalAvailableMemoryBytes) / 10 * 9;
        var datasetBytes = AggregatedDataset.EstimateBytes(rows, observation, action);
        var bookkeepingBytes =
            AggregatedDataset.EstimateBookkeepingBytes(rows, shape.SegmentLength, memory)
            + Sampler.EstimateBytes(config.Sampling, rows / shape.SegmentLength);
        return new MemoryEstimate(
            datasetBytes,
            bookkeepingBytes,
            rolloutBytes,
            available,
            (long)((Int128)Math.Max(0, available - rolloutBytes) * rows / (datasetBytes + bookkeepingBytes))
        );
    }
}
