using Distill.Datasets;
using Distill.Networks;
using Distill.Policies;

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

    /// <summary>Whether episodes are put end to end in the dataset's sequences.</summary>
    public bool PacksEpisodes { get; init; }

    public static DistillationShape Of(DistillationConfig config)
    {
        var (envs, steps) = config.Collection.Sizes(
            config.Environment.Envs,
            config.Environment.Spec.EpisodeLimit
        );
        var recurrent = config.Student.Network(1, 1, Networks.Head.Plain).Recurrent;
        var sequence = config.SequenceLength == 0 ? steps : config.SequenceLength;
        if (recurrent && steps % sequence != 0)
            throw new DistillException(
                $"sequence_length={sequence} does not divide the {steps} steps of a rollout; whole sequences are needed."
            );
        var segment = recurrent ? sequence : 1;
        var shape = new DistillationShape(
            envs,
            steps,
            config.Collection.WholeEpisodes,
            segment,
            LargestBatch: 1
        )
        {
            PacksEpisodes = config.Collection.Packs,
        };
        return shape with
        {
            LargestBatch = shape.LargestBatchOf(config, config.Retention.Rows((long)envs * steps)),
        };
    }

    /// <summary>Most segments that a mini-batch can have if the dataset holds so many rows.</summary>
    internal int LargestBatchOf(DistillationConfig config, long rows)
    {
        var size = config.MiniBatchSize.Range(config.Iterations);
        var fewest = (int)config.NumMiniBatches.Range(config.Iterations).Lowest;
        var together = (int)Math.Ceiling(config.GradientAccumulation.Range(config.Iterations).Highest);
        var segments = (int)Math.Clamp(rows / SegmentLength, 1, int.MaxValue);
        return Math.Max(
            MiniBatch((int)Math.Ceiling(size.Highest), fewest, together, SegmentLength, segments),
            MiniBatch((int)size.Lowest, fewest, together, SegmentLength, segments)
        );
    }

    /// <summary>
    /// Segments per optimizer step for a dataset that holds <paramref name="segments"/>, all mini-batches whose gradients are
    /// accumulated together.
    /// </summary>
    public static int MiniBatch(DistillationConfig config, int segmentLength, int segments) =>
        MiniBatch(
            config.MiniBatchSize.Whole,
            config.NumMiniBatches.Whole,
            config.GradientAccumulation.Whole,
            segmentLength,
            segments
        );

    private static int MiniBatch(int size, int number, int together, int segmentLength, int segments)
    {
        var most = segmentLength > 1 ? DefaultSequences : DefaultRows;
        var one = size > 0 ? size : Math.Clamp(segments / Math.Max(number, 1), 1, most);
        return (int)Math.Clamp((long)one * together, 1, Math.Max(1, segments));
    }
}

/// <summary>Bytes that a distillation will take, known before anything is allocated.</summary>
/// <param name="DatasetBytes">A full dataset: (observation + action + what else is recorded) x 4 bytes x rows.</param>
/// <param name="BookkeepingBytes">
/// What a full dataset takes beside its rows: flags, births and losses, the student's memory at the start of each sequence,
/// and the order in which they are drawn.
/// </param>
/// <param name="RolloutBytes">The rollout that every iteration overwrites.</param>
/// <param name="NetworkBytes">The student's parameters, moments, gradients of every chunk, and activations of every thread.</param>
/// <param name="RowsThatFit">
/// Largest <c>max_buffer_size</c> for which all fit the machine's memory, with a tenth to spare; 0 if there is none.
/// </param>
public sealed record MemoryEstimate(
    long DatasetBytes,
    long BookkeepingBytes,
    long RolloutBytes,
    long NetworkBytes,
    long AvailableBytes,
    long RowsThatFit
)
{
    /// <summary>Dataset, bookkeeping, rollout and network.</summary>
    public long TotalBytes => DatasetBytes + BookkeepingBytes + RolloutBytes + NetworkBytes;

    public bool Fits => TotalBytes <= AvailableBytes;

    /// <summary>Of what is available, all but a tenth: for the runtime, the environments and other programs.</summary>
    internal static long WithATenthToSpare(long? availableBytes) =>
        (availableBytes ?? MachineMemory.AvailableBytes) / 10 * 9;

    /// <param name="availableBytes">What the machine has for this process; null asks it.</param>
    /// <exception cref="DistillException">The settings, or the sizes that follow from them, cannot work.</exception>
    public static MemoryEstimate Of(DistillationConfig config, long? availableBytes = null)
    {
        var shape = DistillationShape.Of(config);
        var spec = config.Environment.Spec;
        var columns = config.Columns(spec);
        var network = config.Student.Network(columns[0].Size, spec.Actions.Size, Head.Gaussian);
        var memory = (int)network.Size.Memory;
        var threads = config.Threads > 0 ? config.Threads : Environment.ProcessorCount;
        var rollout = (long)shape.Envs * shape.Steps;
        var notes = config.Notes(spec);
        // The reward, five bytes of flags, and the memory at the start of every sequence.
        var rolloutBytes =
            rollout * ((columns.Size + 1) * sizeof(float) + 5)
            + rollout / shape.SegmentLength * memory * sizeof(float);
        // Recorded data are read like another rollout, and collected like one.
        if (config.RecordedFiles.Count > 0)
            rolloutBytes *= config.Collection.Collects ? 3 : 2;
        var available = WithATenthToSpare(availableBytes);
        var estimate = Holding(config.Retention.Rows(rollout));
        return config.Retention.Accumulates ? estimate with { RowsThatFit = LargestThatFits() } : estimate;

        MemoryEstimate Holding(long rows) =>
            new(
                AggregatedDataset.EstimateBytes(rows, columns),
                AggregatedDataset.EstimateBookkeepingBytes(rows, shape.SegmentLength, memory, notes)
                    + rows / shape.SegmentLength * config.Sampling.BytesPerSegment
                    + (notes.HeldOut ? HeldOutLoss.EstimateBytes(rows / shape.SegmentLength) : 0),
                rolloutBytes,
                NetworkBytes(shape.LargestBatchOf(config, rows)),
                available,
                RowsThatFit: 0
            );

        long NetworkBytes(int batch) =>
            LearnerBytes(batch, threads)
            // The workspaces are those of the pool.
            + (config.Sampling.Ensemble - 1) * LearnerBytes(batch, threads: 0)
            + (long)Panel.Count(shape.Envs) * Panel.Width * memory * sizeof(float)
            + (
                notes.Disagreements
                    ? Disagreement.EstimateBytes(
                        StudentTrainer.PaddedRows(batch, shape.SegmentLength),
                        spec.Actions.Size
                    )
                    : 0
            );

        long LearnerBytes(int batch, int threads) =>
            network.Size.Parameters * sizeof(float)
            + (config.EarlyStopping > 0 ? EarlyStopping.EstimateBytes(network, config.Optimizer) : 0)
            + StudentTrainer.EstimateBytes(
                network,
                config.Optimizer,
                columns[1].Size,
                (int)Math.Ceiling(config.GradientLength.Range(config.Iterations).Highest),
                batch,
                shape.SegmentLength,
                threads
            );

        long LargestThatFits()
        {
            var (fits, over) = (0L, Retention.MostRows + 1);
            while (over - fits > 1)
            {
                var middle = fits + (over - fits) / 2;
                if (Holding(middle).Fits)
                    fits = middle;
                else
                    over = middle;
            }
            return fits < shape.SegmentLength ? 0 : fits;
        }
    }
}
