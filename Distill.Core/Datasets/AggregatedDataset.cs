using Distill.Compute;

namespace Distill.Datasets;

/// <summary>
/// The aggregated dataset (DAgger): student observation, teacher action, valid mask and episode starts, over all rollouts.
/// The unit of storage is a segment: one row for students without memory, a whole rollout of one environment for
/// recurrent ones. Segments live in chunks; growing adds chunks and moves nothing, and at the limit new segments take
/// the places of the oldest.
/// </summary>
public sealed class AggregatedDataset : IDisposable
{
    // Small datasets grow within one chunk, so that a large one never consists of thousands.
    private const int SmallestChunkRows = 4096;

    // A checkpoint stores each table of a chunk as one array of bytes.
    private const int LargestChunkFloats = int.MaxValue / 8;

    private const int StepsAtATime = 8;

    // No product of a network's weights with this overflows.
    private const float LargestMasked = 1e15f;

    private readonly int observationSize;
    private readonly int actionSize;
    private readonly int memorySize;
    private readonly int chunkSegments;
    private readonly int maxSegments;
    private readonly Retention retention;
    private readonly RandomStream stream;
    private readonly List<Chunk> chunks = [];
    private int capacity;
    private int count;
    private long added;

    /// <param name="observationSize">Numbers per student observation.</param>
    /// <param name="actionSize">Numbers per label.</param>
    /// <param name="segmentLength">Rows per segment.</param>
    /// <param name="memorySize">Numbers of student memory kept per segment.</param>
    /// <param name="initialRows">Rows to make room for at the start: <c>steps x envs x 10</c>.</param>
    /// <param name="stream">Draws the places of <see cref="Reservoir"/>.</param>
    public AggregatedDataset(
        int observationSize,
        int actionSize,
        int segmentLength,
        int memorySize,
        long initialRows,
        Retention retention,
        RandomStream stream
    )
    {
        this.observationSize = observationSize;
        this.actionSize = actionSize;
        this.memorySize = memorySize;
        this.retention = retention;
        this.stream = stream;
        SegmentLength = segmentLength;
        var most = Math.Min(retention.Limit / segmentLength, int.MaxValue / 2);
        if (most < 1)
            throw new DistillException(
                $"max_buffer_size={retention.Limit} is smaller than one sequence of {segmentLength} rows; raise it to at "
                    + $"least {segmentLength}."
            );
        maxSegments = (int)most;
        var initial = (int)Math.Clamp(initialRows / segmentLength, 1, maxSegments);
        var widest = Math.Max((long)segmentLength * Math.Max(observationSize, actionSize), memorySize);
        var largest = LargestChunkFloats / widest;
        chunkSegments = (int)
            Math.Clamp(
                Math.Max(initial, SmallestChunkRows / segmentLength),
                1,
                Math.Clamp(largest, 1, maxSegments)
            );
        Grow(initial);
    }

    /// <summary>Rows per segment.</summary>
    public int SegmentLength { get; }

    /// <summary>Segments held.</summary>
    public int Count => count;

    /// <summary>Rows held.</summary>
    public long Rows => (long)count * SegmentLength;

    /// <summary>Rows there is room for.</summary>
    public long Capacity => (long)capacity * SegmentLength;

    /// <summary>Rows held at most.</summary>
    public long Limit => (long)maxSegments * SegmentLength;

    /// <summary>Segments ever added.</summary>
    public long Added => added;

    /// <summary>Bytes that the rows of a full dataset take: (observation + action) x 4 x rows.</summary>
    public static long EstimateBytes(long rows, int observationSize, int actionSize) =>
        rows * (observationSize + actionSize) * sizeof(float);

    /// <summary>Bytes that a full dataset takes beside its rows: two flags per row; birth, loss and memory per segment.</summary>
    public static long EstimateBookkeepingBytes(long rows, int segmentLength, int memorySize) =>
        rows * 2 * sizeof(byte)
        + rows / segmentLength * (sizeof(long) + sizeof(float) + (long)memorySize * sizeof(float));

    /// <summary>When a segment was added: its number among all segments ever added.</summary>
    public long Birth(int segment) => chunks[segment / chunkSegments].Births.Span[segment % chunkSegments];

    /// <summary>The loss that <see cref="RecordLoss"/> last noted for a segment; NaN before the first time.</summary>
    public float Loss(int segment) => chunks[segment / chunkSegments].Losses.Span[segment % chunkSegments];

    /// <summary>Notes the student's mean loss on a segment, for <see cref="LossPrioritised"/>.</summary>
    public void RecordLoss(int segment, float loss) =>
        chunks[segment / chunkSegments].Losses.Span[segment % chunkSegments] = loss;

    /// <summary>
    /// Mean loss over the valid rows of the segments with births from <paramref name="first"/> to <paramref name="last"/>
    /// (exclusive), as <see cref="RecordLoss"/> last noted them; null if no such row was trained on.
    /// </summary>
    public double? MeanLoss(long first, long last)
    {
        var (sum, rows) = (0.0, 0L);
        for (var segment = 0; segment < count; segment++)
        {
            if (Birth(segment) < first || Birth(segment) >= last || float.IsNaN(Loss(segment)))
                continue;
            var valid = CountValid([segment], 0, SegmentLength);
            sum += (double)Loss(segment) * valid;
            rows += valid;
        }
        return rows == 0 ? null : sum / rows;
    }

    /// <summary>Takes over the rows of a rollout.</summary>
    /// <exception cref="OutOfMemoryException">The machine has no room to grow.</exception>
    public void Add(Rollout rollout)
    {
        var segments = rollout.Rows / SegmentLength;
        if (retention is NewestRollout)
            count = 0;
        Reserve(Math.Min((long)count + segments, maxSegments));
        var position = 0;
        while (position < segments)
        {
            // The longest run that is contiguous on both sides.
            var (target, run) = NextPlaces(segments - position);
            if (target >= 0)
                Copy(rollout, position, target, run);
            added += run;
            position += run;
        }
    }

    /// <summary>Valid rows among steps <paramref name="first"/> to <paramref name="last"/> (exclusive) of the given segments.</summary>
    public int CountValid(ReadOnlySpan<int> segments, int first, int last)
    {
        var valid = 0;
        foreach (var segment in segments)
        {
            var flags = chunks[segment / chunkSegments].Valid.Span;
            var start = segment % chunkSegments * SegmentLength;
            for (var step = first; step < last; step++)
                valid += flags[start + step];
        }
        return valid;
    }

    /// <summary>
    /// Assembles a run of steps of up to 32 (or 16) segments as panels (or half panels); lanes past the segments get
    /// weight 0.
    /// </summary>
    /// <param name="first">First step.</param>
    /// <param name="observation"><c>[steps, observation, 32]</c></param>
    /// <param name="action"><c>[steps, action, 32]</c></param>
    /// <param name="weight"><c>[steps, 32]</c>: 1 for valid rows, else 0.</param>
    /// <param name="keep"><c>[steps, 32]</c>: 0 where an episode starts at this row and memory must be cleared, else 1.</param>
    public void Gather(
        ReadOnlySpan<int> segments,
        int first,
        int steps,
        Span<float> observation,
        Span<float> action,
        Span<float> weight,
        Span<float> keep
    )
    {
        var width = Panel.WidthOf(weight.Length, steps);
        // A few steps at a time: a segment's rows are contiguous, and the panels they go to stay in cache.
        for (var start = 0; start < steps; start += StepsAtATime)
        {
            var end = Math.Min(start + StepsAtATime, steps);
            for (var lane = 0; lane < width; lane++)
            {
                // Unused lanes repeat the first segment, so that they hold numbers like any other.
                var used = lane < segments.Length;
                var segment = segments[used ? lane : 0];
                var chunk = chunks[segment / chunkSegments];
                var row = segment % chunkSegments * SegmentLength + first + start;
                ToLane(chunk.Observations, row, observationSize, observation, lane, width, start, end);
                ToLane(chunk.Actions, row, actionSize, action, lane, width, start, end);
                var valid = chunk.Valid.Slice(row, end - start);
                var begins = chunk.EpisodeStart.Slice(row, end - start);
                for (var step = start; step < end; step++)
                {
                    weight[step * width + lane] = used ? valid[step - start] : 0;
                    keep[step * width + lane] = 1 - begins[step - start];
                }
            }
        }
    }

    /// <summary>The memory that the student had before the first row of each segment, <c>[memory, 32]</c> (or 16).</summary>
    public void GatherMemory(ReadOnlySpan<int> segments, Span<float> memory)
    {
        memory.Clear();
        if (memorySize == 0)
            return;
        var width = Panel.WidthOf(memory.Length, memorySize);
        for (var lane = 0; lane < segments.Length; lane++)
            ToLane(
                chunks[segments[lane] / chunkSegments].Memory,
                segments[lane] % chunkSegments,
                memorySize,
                memory,
                lane,
                width,
                0,
                1
            );
    }

    /// <summary>Everything held, for checkpoints.</summary>
    /// <exception cref="DistillException">What is restored does not fit into this dataset.</exception>
    public void Visit(State state)
    {
        var held = count;
        var room = capacity;
        state.Count("count", ref held);
        state.Count("capacity", ref room);
        state.Count("added", ref added);
        // Where only the newest rollout is held, there is room for it from the start.
        var most = retention is NewestRollout ? capacity : maxSegments;
        if (held > room || room > most || added < held)
            throw new DistillException(
                $"The saved dataset has {held} of {room} segments, but this run holds at most {most}: it belongs to "
                    + "a run with other settings."
            );
        Grow(room);
        count = held;
        for (var i = 0; i * chunkSegments < count; i++)
        {
            var used = Math.Min(count - i * chunkSegments, chunkSegments);
            var chunk = chunks[i];
            state.Part(
                $"chunk{i}",
                part =>
                {
                    part.Block(
                        "observations",
                        chunk.Observations.Slice(0, used * SegmentLength * observationSize)
                    );
                    part.Block("actions", chunk.Actions.Slice(0, used * SegmentLength * actionSize));
                    part.Flags("valid", chunk.Valid.Slice(0, used * SegmentLength));
                    part.Flags("episode_start", chunk.EpisodeStart.Slice(0, used * SegmentLength));
                    part.Block("memory", chunk.Memory.Slice(0, used * memorySize));
                    part.Block("births", chunk.Births.Slice(0, used));
                    foreach (var birth in chunk.Births.Slice(0, used))
                        if (birth < 0 || birth >= added)
                            part.Require("births", false, birth, $"one of {added} segments");
                    part.Block("losses", chunk.Losses.Slice(0, used));
                }
            );
        }
    }

    public void Dispose()
    {
        foreach (var chunk in chunks)
            chunk.Dispose();
    }

    /// <summary>Where the next segments go: a place (or -1 to drop) and how many of them lie contiguously there.</summary>
    private (int Target, int Run) NextPlaces(int wanted)
    {
        if (retention is Reservoir && count == maxSegments)
        {
            // Algorithm R: the n-th segment ever takes a random place among n, and is dropped if that is past the end.
            var (high, low, _, _) = stream.Bits((uint)added, (uint)(added >> 32));
            var place = (long)Math.BigMul(((ulong)high << 32) | low, (ulong)added + 1, out _);
            return (place < maxSegments ? (int)place : -1, 1);
        }
        var target = count < maxSegments ? count : (int)(added % maxSegments);
        var end = count < maxSegments ? capacity : maxSegments;
        var chunkEnd = (target / chunkSegments + 1) * chunkSegments;
        var run = Math.Min(wanted, Math.Min(end, chunkEnd) - target);
        count = Math.Max(count, target + run);
        return (target, run);
    }

    private void Copy(Rollout rollout, int position, int target, int run)
    {
        var chunk = chunks[target / chunkSegments];
        var local = target % chunkSegments;
        var from = position * SegmentLength;
        var to = local * SegmentLength;
        var rows = run * SegmentLength;
        Move(rollout.StudentObservations, from, chunk.Observations, to, rows, observationSize);
        Move(rollout.TeacherActions, from, chunk.Actions, to, rows, actionSize);
        rollout.Valid.AsSpan(from, rows).CopyTo(chunk.Valid.Span[to..]);
        rollout.EpisodeStart.AsSpan(from, rows).CopyTo(chunk.EpisodeStart.Span[to..]);
        if (memorySize > 0)
            Move(rollout.Memory, position, chunk.Memory, local, run, memorySize);
        for (var row = 0; row < rows; row++)
            if (chunk.Valid.Span[to + row] == 0)
            {
                ClearUnusable(chunk.Observations.Slice((to + row) * observationSize, observationSize));
                ClearUnusable(chunk.Actions.Slice((to + row) * actionSize, actionSize));
            }
        ClearUnusable(chunk.Memory.Slice(local * memorySize, run * memorySize));
        for (var i = 0; i < run; i++)
            chunk.Births.Span[local + i] = added + i;
        chunk.Losses.Slice(local, run).Fill(float.NaN);
    }

    /// <summary>
    /// A masked row goes through the network like any other, and only what it gives is left out: it must give numbers.
    /// </summary>
    private static void ClearUnusable(Span<float> values)
    {
        foreach (ref var value in values)
            value = MathF.Abs(value) <= LargestMasked ? value : 0;
    }

    /// <summary>Consecutive rows of a table to one lane of the panels of steps <paramref name="start"/> to <paramref name="end"/>.</summary>
    private static void ToLane(
        FloatBuffer table,
        int row,
        int size,
        Span<float> panels,
        int lane,
        int width,
        int start,
        int end
    )
    {
        var source = table.Slice(row * size, (end - start) * size);
        var target = panels[(start * size * width + lane)..];
        for (var i = 0; i < source.Length; i++)
            target[i * width] = source[i];
    }

    private static void Move(FloatBuffer source, int from, FloatBuffer target, int to, int rows, int size) =>
        source.Slice(from * size, rows * size).CopyTo(target.Slice(to * size, rows * size));

    private void Reserve(long segments)
    {
        if (segments > capacity)
            Grow((int)Math.Min(maxSegments, Math.Max(segments, 2L * capacity)));
    }

    private void Grow(int segments)
    {
        for (var first = chunks.Count * chunkSegments; first < segments; first += chunkSegments)
        {
            var room = Math.Min(chunkSegments, maxSegments - first);
            chunks.Add(new Chunk(room, SegmentLength, observationSize, actionSize, memorySize));
        }
        capacity = Math.Max(capacity, segments);
    }

    private sealed class Chunk(int segments, int length, int observation, int action, int memory)
        : IDisposable
    {
        public FloatBuffer Observations { get; } = new((long)segments * length * observation);
        public FloatBuffer Actions { get; } = new((long)segments * length * action);
        public FloatBuffer Memory { get; } = new((long)segments * memory);
        public NativeBuffer<byte> Valid { get; } = new((long)segments * length);
        public NativeBuffer<byte> EpisodeStart { get; } = new((long)segments * length);
        public NativeBuffer<long> Births { get; } = new(segments);
        public FloatBuffer Losses { get; } = new(segments);

        public void Dispose()
        {
            Observations.Dispose();
            Actions.Dispose();
            Memory.Dispose();
            Valid.Dispose();
            EpisodeStart.Dispose();
            Births.Dispose();
            Losses.Dispose();
        }
    }
}
