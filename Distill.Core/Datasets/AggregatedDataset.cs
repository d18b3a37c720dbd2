namespace Distill.Datasets;

/// <summary>
/// The aggregated dataset (DAgger): rows of student observation, label and what else was recorded, valid mask and episode
/// starts, over all rollouts.
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

    // A segment's rows are contiguous, and the panels they go to stay in cache.
    internal const int StepsAtATime = 8;

    // No product of a network's weights with this overflows.
    private const float LargestMasked = 1e15f;

    private readonly int memorySize;
    private readonly int chunkSegments;
    private readonly int maxSegments;
    private readonly Retention retention;
    private readonly RandomStream stream;
    private readonly DatasetNotes notes;
    private readonly List<DatasetChunk> chunks = [];
    private int capacity;
    private int count;
    private long added;

    /// <param name="columns">Of a row: the student's observation, the label, and what else was recorded.</param>
    /// <param name="segmentLength">Rows per segment.</param>
    /// <param name="memorySize">Numbers of student memory kept per segment.</param>
    /// <param name="initialRows">Rows to make room for at the start: <c>steps x envs x 10</c>.</param>
    /// <param name="stream">For the draws of the retention.</param>
    /// <param name="notes">What is noted beside the rows; null for nothing that takes room.</param>
    public AggregatedDataset(
        Columns columns,
        int segmentLength,
        int memorySize,
        long initialRows,
        Retention retention,
        RandomStream stream,
        DatasetNotes? notes = null
    )
    {
        Columns = columns;
        this.notes = notes ?? new DatasetNotes();
        Classes = new LabelClasses(this.notes.Classes, columns[1]);
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
        var widest = Math.Max((long)segmentLength * columns.Size, memorySize);
        var largest = LargestChunkFloats / widest;
        chunkSegments = (int)
            Math.Clamp(
                Math.Max(initial, SmallestChunkRows / segmentLength),
                1,
                Math.Clamp(largest, 1, maxSegments)
            );
        Grow(initial);
    }

    /// <summary>What a row consists of.</summary>
    public Columns Columns { get; }

    /// <summary>Takes over rows and memory from a device's rollout to its own dataset; null where there is no device.</summary>
    internal IRowsElsewhere? Elsewhere { get; set; }

    /// <summary>Segments of a chunk.</summary>
    internal int ChunkSegments => chunkSegments;

    internal IReadOnlyList<DatasetChunk> Chunks => chunks;

    /// <summary>Segments held in a chunk.</summary>
    internal int UsedOf(int chunk) => Math.Clamp(count - chunk * chunkSegments, 0, chunkSegments);

    /// <summary>Rows per segment.</summary>
    public int SegmentLength { get; }

    /// <summary>The classes of what is held, where they are counted.</summary>
    public LabelClasses Classes { get; }

    /// <summary>Weight in training of rows whose episode failed, in [0, 1]; schedules change it.</summary>
    public double FailedWeight { get; set; } = 1;

    /// <summary>Whether rows can be held that are not trained on with full weight.</summary>
    internal bool Weighs => notes.Weighs;

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

    /// <summary>Bytes that the rows of a full dataset take: (observation + label + what else is recorded) x 4 x rows.</summary>
    public static long EstimateBytes(long rows, Columns columns) => rows * columns.Size * sizeof(float);

    /// <summary>
    /// Bytes that a full dataset takes beside its rows: two flags per row; birth, loss and memory per segment; and what is
    /// noted.
    /// </summary>
    public static long EstimateBookkeepingBytes(
        long rows,
        int segmentLength,
        int memorySize,
        DatasetNotes? notes = null
    ) =>
        rows * (2 * sizeof(byte) + (notes?.BytesPerRow ?? 0))
        + rows
            / segmentLength
            * (
                sizeof(long)
                + sizeof(float)
                + (long)memorySize * sizeof(float)
                + (notes?.BytesPerSegment ?? 0)
            );

    /// <summary>The class of the label of a segment's first row; -1 if that row is not valid.</summary>
    public int ClassOf(int segment)
    {
        var (chunk, row) = (chunks[segment / chunkSegments], segment % chunkSegments * SegmentLength);
        return chunk.Valid.Span[row] == 0 ? -1 : Classes.Of(chunk.Rows, row);
    }

    /// <summary>For each segment the mean of its valid rows' values, which go by the classes of their labels; 0 if it has none.</summary>
    /// <param name="values"><c>[classes]</c>.</param>
    /// <param name="first">The first segment.</param>
    /// <param name="means"><c>[segments]</c>, written.</param>
    internal void MeanByClass(ReadOnlySpan<double> values, int first, Span<double> means)
    {
        for (var i = 0; i < means.Length; i++)
        {
            var chunk = chunks[(first + i) / chunkSegments];
            var start = (first + i) % chunkSegments * SegmentLength;
            var (sum, rows) = (0.0, 0);
            for (var row = start; row < start + SegmentLength; row++)
            {
                if (chunk.Valid.Span[row] == 0)
                    continue;
                sum += values[Classes.Of(chunk.Rows, row)];
                rows++;
            }
            means[i] = rows == 0 ? 0 : sum / rows;
        }
    }

    /// <summary>When a segment was added: its number among all segments ever added.</summary>
    public long Birth(int segment) => chunks[segment / chunkSegments].Births.Span[segment % chunkSegments];

    /// <summary>The loss that <see cref="RecordLoss"/> last noted for a segment; NaN before the first time.</summary>
    public float Loss(int segment) => chunks[segment / chunkSegments].Losses.Span[segment % chunkSegments];

    /// <summary>Notes the student's mean loss on a segment, for <see cref="LossPrioritized"/>.</summary>
    public void RecordLoss(int segment, float loss) =>
        chunks[segment / chunkSegments].Losses.Span[segment % chunkSegments] = loss;

    /// <summary>How much the members of an ensemble last disagreed on a segment; NaN before the first time.</summary>
    public float Disagreement(int segment) =>
        chunks[segment / chunkSegments].Disagreements!.Span[segment % chunkSegments];

    /// <summary>Notes how much they disagree on a segment, for <see cref="DisagreementPrioritized"/>.</summary>
    public void RecordDisagreement(int segment, float disagreement) =>
        chunks[segment / chunkSegments].Disagreements!.Span[segment % chunkSegments] = disagreement;

    /// <summary>
    /// Mean loss over the rows that are trained on, by their weights, as <see cref="RecordLoss"/> last noted it: of the segments
    /// that were added from <paramref name="newest"/> on, and of those before; null where no such row was trained on.
    /// </summary>
    public (double? Newest, double? Historical) MeanLosses(long newest)
    {
        var (newestSum, newestRows, sum, rows) = (0.0, 0.0, 0.0, 0.0);
        for (var segment = 0; segment < count; segment++)
        {
            var chunk = chunks[segment / chunkSegments];
            var place = segment % chunkSegments;
            var loss = chunk.Losses.Span[place];
            if (float.IsNaN(loss))
                continue;
            var weight = Weight(chunk, place, 0, SegmentLength, heldOut: false);
            if (chunk.Births.Span[place] >= newest)
            {
                newestSum += loss * weight;
                newestRows += weight;
            }
            else
            {
                sum += loss * weight;
                rows += weight;
            }
        }
        return (newestRows == 0 ? null : newestSum / newestRows, rows == 0 ? null : sum / rows);
    }

    /// <summary>Lowest and highest of 0 and the finite losses that were noted.</summary>
    public (float Lowest, float Highest) LossRange() => Range(static chunk => chunk.Losses);

    /// <summary>Lowest and highest of 0 and the finite disagreements that were noted.</summary>
    public (float Lowest, float Highest) DisagreementRange() => Range(static chunk => chunk.Disagreements!);

    /// <summary>Takes over the rows of a rollout, of the environments that are kept.</summary>
    /// <exception cref="OutOfMemoryException">The machine has no room to grow.</exception>
    public void Add(Rollout rollout)
    {
        var perEnv = rollout.Steps / SegmentLength;
        Begin(rollout.Kept.AsSpan().Count((byte)1) * perEnv);
        for (var env = 0; env < rollout.Envs; env++)
        {
            if (rollout.Kept[env] == 0)
                continue;
            // The longest run of environments that are kept.
            var dropped = rollout.Kept.AsSpan(env).IndexOf((byte)0);
            var end = dropped < 0 ? rollout.Envs : env + dropped;
            var position = env * perEnv;
            while (position < end * perEnv)
            {
                // The longest run that is contiguous on both sides.
                var held = count;
                var (target, run) = NextPlaces(rollout, position * SegmentLength, end * perEnv - position);
                if (target >= 0)
                    Copy(rollout, position, target, run, replaced: Math.Clamp(held - target, 0, run));
                added += run;
                position += run;
            }
            env = end;
        }
    }

    /// <summary>Takes over the episodes of a rollout, packed into sequences.</summary>
    /// <param name="packing">Has just begun; what is left of it is dropped.</param>
    /// <param name="segments">How many sequences; there must be the rows for them.</param>
    /// <exception cref="OutOfMemoryException">The machine has no room to grow.</exception>
    public void Add(Rollout rollout, EpisodePacking packing, int segments)
    {
        Begin(segments);
        for (var i = 0; i < segments; i++)
        {
            var held = count;
            var run = packing.Next(SegmentLength);
            var (target, _) = NextPlaces(rollout, run.First, 1);
            if (target < 0)
            {
                for (var skipped = run.Count; skipped < SegmentLength; skipped += run.Count)
                    run = packing.Next(SegmentLength - skipped);
                added++;
                continue;
            }
            var chunk = chunks[target / chunkSegments];
            var local = target % chunkSegments;
            CountClasses(chunk, local, target < held ? 1 : 0, -1);
            var row = local * SegmentLength;
            Elsewhere?.Pack(target);
            CopyRows(rollout, run.First, chunk, row, run.Count);
            for (var filled = run.Count; filled < SegmentLength; filled += run.Count)
            {
                run = packing.Next(SegmentLength - filled);
                CopyRows(rollout, run.First, chunk, row + filled, run.Count);
            }
            chunk.Memory.Slice(local * memorySize, memorySize).Clear();
            Note(chunk, local, 1);
            added++;
        }
        Elsewhere?.EndPacking();
    }

    /// <summary>Valid rows among steps <paramref name="first"/> to <paramref name="last"/> (exclusive) of the given segments.</summary>
    public int CountValid(ReadOnlySpan<int> segments, int first, int last)
    {
        var valid = 0;
        foreach (var segment in segments)
            valid += CountValid(chunks[segment / chunkSegments], segment % chunkSegments, first, last);
        return valid;
    }

    /// <summary>
    /// Summed weights of steps <paramref name="first"/> to <paramref name="last"/> (exclusive) of the given segments: of the rows
    /// that are trained on, or of those that are held out. A valid row has weight 1, or less where its episode failed.
    /// </summary>
    public double Weight(ReadOnlySpan<int> segments, int first, int last, bool heldOut = false)
    {
        var weight = 0.0;
        foreach (var segment in segments)
            weight += Weight(chunks[segment / chunkSegments], segment % chunkSegments, first, last, heldOut);
        return weight;
    }

    /// <summary>Whether any row of a segment is trained on, or else held out.</summary>
    public bool Has(int segment, bool heldOut) =>
        Weight(chunks[segment / chunkSegments], segment % chunkSegments, 0, SegmentLength, heldOut) > 0;

    /// <summary>
    /// Assembles a run of steps of up to 32 (or 16) segments as panels (or half panels); lanes past the segments get
    /// weight 0.
    /// </summary>
    /// <param name="first">First step.</param>
    /// <param name="rows"><c>[steps x features, 32]</c>: the first features of the rows, such as observation and label.</param>
    /// <param name="weight"><c>[steps, 32]</c>: 1 for valid rows, less where their episode failed, else 0.</param>
    /// <param name="keep"><c>[steps, 32]</c>: 0 where an episode starts at this row and memory must be cleared, else 1.</param>
    /// <param name="heldOut">Whether the rows that are held out count, instead of those that are trained on.</param>
    public void Gather(
        ReadOnlySpan<int> segments,
        int first,
        Panel rows,
        Panel weight,
        Panel keep,
        Workspace own,
        bool heldOut = false
    )
    {
        var weighed = Weighs || heldOut;
        var features = rows.Features / weight.Features;
        using var scope = own.Open();
        var staged = own.Floats(Math.Min(StepsAtATime, weight.Features) * features * rows.Lanes);
        for (var start = 0; start < weight.Features; start += StepsAtATime)
        {
            var steps = Math.Min(StepsAtATime, weight.Features - start);
            var length = steps * features;
            for (var lane = 0; lane < rows.Lanes; lane++)
            {
                // Unused lanes repeat the first segment, so that they hold numbers like any other.
                var used = lane < segments.Length;
                var segment = segments[used ? lane : 0];
                var chunk = chunks[segment / chunkSegments];
                var row = segment % chunkSegments * SegmentLength + first + start;
                chunk.Rows.Read(row, steps, features, staged.Slice(lane * length, length));
                var valid = chunk.Valid.Slice(row, steps);
                var begins = chunk.EpisodeStart.Slice(row, steps);
                for (var step = 0; step < steps; step++)
                {
                    weight[start + step, lane] =
                        !used ? 0
                        : weighed ? chunk.Weight(row + step, heldOut, FailedWeight)
                        : valid[step];
                    keep[start + step, lane] = 1 - begins[step];
                }
            }
            Matrix.FromRows(staged[..(length * rows.Lanes)], rows.Rows(start * features, length));
        }
    }

    /// <summary>The memory that the student had before the first row of each segment, <c>[memory, 32]</c> (or 16).</summary>
    public void GatherMemory(ReadOnlySpan<int> segments, Panel memory)
    {
        memory.Values.Clear();
        for (var lane = 0; lane < segments.Length; lane++)
        {
            var chunk = chunks[segments[lane] / chunkSegments];
            var source = chunk.Memory.Slice(segments[lane] % chunkSegments * memorySize, memorySize);
            for (var i = 0; i < source.Length; i++)
                memory[i, lane] = source[i];
        }
    }

    /// <summary>One column of everything held, <c>[segments, rows of a segment, column]</c>, in the order of the places.</summary>
    public float[] Read(Column column)
    {
        var values = new float[checked(Rows * column.Size)];
        for (var row = 0; row < Rows; row++)
            chunks[row / SegmentLength / chunkSegments]
                .Rows.Cell(row % (chunkSegments * SegmentLength), column)
                .CopyTo(values.AsSpan(row * column.Size));
        return values;
    }

    /// <summary>Where a segment is: its chunk, and the first of its rows there.</summary>
    internal (DatasetChunk Chunk, int Row) At(int segment) =>
        (chunks[segment / chunkSegments], segment % chunkSegments * SegmentLength);

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
        var most = retention.Accumulates ? maxSegments : capacity;
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
            state.Part($"chunk{i}", part => chunk.Visit(part, used, added));
        }
        if (notes.Classes == 0)
            return;
        Classes.Clear();
        for (var segment = 0; segment < count; segment++)
            CountClasses(chunks[segment / chunkSegments], segment % chunkSegments, 1, 1);
        state.Part("classes", Classes.Visit);
    }

    public void Dispose()
    {
        foreach (var chunk in chunks)
            chunk.Dispose();
    }

    /// <summary>Makes room for segments.</summary>
    private void Begin(int segments)
    {
        if (!retention.Accumulates)
        {
            count = 0;
            Classes.Clear();
        }
        Reserve(Math.Min((long)count + segments, maxSegments));
    }

    /// <summary>Where the next segments go: a place (or -1 to drop) and how many of them lie contiguously there.</summary>
    /// <param name="row">The first row of the first of them.</param>
    private (int Target, int Run) NextPlaces(Rollout rollout, int row, int wanted)
    {
        var (target, run) = retention.Place(
            new Arrival(
                this,
                wanted,
                capacity,
                maxSegments,
                notes.Classes > 0 && rollout.Valid[row] != 0 ? Classes.Of(rollout.Table, row) : -1,
                stream
            )
        );
        run = Math.Min(run, chunkSegments - target % chunkSegments);
        count = Math.Max(count, target + run);
        return (target, run);
    }

    /// <param name="replaced">How many of the places, from the first one, hold a segment that goes.</param>
    private void Copy(Rollout rollout, int position, int target, int run, int replaced)
    {
        var chunk = chunks[target / chunkSegments];
        var local = target % chunkSegments;
        CountClasses(chunk, local, replaced, -1);
        if (Elsewhere is null)
        {
            CopyRows(rollout, position * SegmentLength, chunk, local * SegmentLength, run * SegmentLength);
            var memory = chunk.Memory.Slice(local * memorySize, run * memorySize);
            rollout.Memory.Slice(position * memorySize, run * memorySize).CopyTo(memory);
            ClearUnusable(memory);
        }
        else
        {
            CopyMarks(rollout, position * SegmentLength, chunk, local * SegmentLength, run * SegmentLength);
            Elsewhere.Copy(position, target, run);
        }
        Note(chunk, local, run);
    }

    private void CopyRows(Rollout rollout, int from, DatasetChunk chunk, int to, int rows)
    {
        if (Elsewhere is not null)
        {
            CopyMarks(rollout, from, chunk, to, rows);
            Elsewhere.PackRows(from, rows);
            return;
        }
        rollout.Table.Rows(from, rows).CopyTo(chunk.Rows.Rows(to, rows));
        CopyMarks(rollout, from, chunk, to, rows);
        for (var row = 0; row < rows; row++)
            if (chunk.Valid.Span[to + row] == 0)
                ClearUnusable(chunk.Rows.Rows(to + row, 1));
    }

    private static void CopyMarks(Rollout rollout, int from, DatasetChunk chunk, int to, int rows)
    {
        rollout.Valid.AsSpan(from, rows).CopyTo(chunk.Valid.Span[to..]);
        rollout.EpisodeStart.AsSpan(from, rows).CopyTo(chunk.EpisodeStart.Span[to..]);
        if (chunk.HeldOut is { } heldOut)
            rollout.HeldOut.AsSpan(from, rows).CopyTo(heldOut.Span[to..]);
        if (chunk.Failed is { } failed)
            rollout.Failed.AsSpan(from, rows).CopyTo(failed.Span[to..]);
        if (chunk.Weights is not { } weights)
            return;
        if (rollout.Weights is { } given)
            given.AsSpan(from, rows).CopyTo(weights.Slice(to, rows));
        else
            weights.Slice(to, rows).Fill(1);
    }

    /// <summary>Notes of segments that have just come what is known of them.</summary>
    private void Note(DatasetChunk chunk, int local, int segments)
    {
        for (var i = 0; i < segments; i++)
            chunk.Births.Span[local + i] = added + i;
        chunk.Losses.Slice(local, segments).Fill(float.NaN);
        chunk.Disagreements?.Slice(local, segments).Fill(float.NaN);
        CountClasses(chunk, local, segments, 1);
    }

    /// <summary>Counts the valid rows of some segments in or out.</summary>
    private void CountClasses(DatasetChunk chunk, int place, int segments, int by)
    {
        if (notes.Classes == 0)
            return;
        for (var row = place * SegmentLength; row < (place + segments) * SegmentLength; row++)
            if (chunk.Valid.Span[row] != 0)
                Classes.Count(Classes.Of(chunk.Rows, row), by);
    }

    private double Weight(DatasetChunk chunk, int place, int first, int last, bool heldOut)
    {
        if (!Weighs)
            return heldOut ? 0 : CountValid(chunk, place, first, last);
        var weight = 0.0;
        for (var row = place * SegmentLength + first; row < place * SegmentLength + last; row++)
            weight += chunk.Weight(row, heldOut, FailedWeight);
        return weight;
    }

    private (float Lowest, float Highest) Range(Func<DatasetChunk, FloatBuffer> of)
    {
        var (lowest, highest) = (0f, 0f);
        for (var i = 0; i * chunkSegments < count; i++)
            foreach (var value in of(chunks[i]).Slice(0, Math.Min(count - i * chunkSegments, chunkSegments)))
            {
                if (!float.IsFinite(value))
                    continue;
                lowest = MathF.Min(lowest, value);
                highest = MathF.Max(highest, value);
            }
        return (lowest, highest);
    }

    private int CountValid(DatasetChunk chunk, int place, int first, int last)
    {
        var valid = 0;
        foreach (var flag in chunk.Valid.Slice(place * SegmentLength + first, last - first))
            valid += flag;
        return valid;
    }

    /// <summary>
    /// A masked row goes through the network like any other, and only what it gives is left out: it must give numbers.
    /// </summary>
    private static void ClearUnusable(Span<float> values)
    {
        foreach (ref var value in values)
            value = MathF.Abs(value) <= LargestMasked ? value : 0;
    }

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
            chunks.Add(new DatasetChunk(room, SegmentLength, Columns, memorySize, notes));
        }
        capacity = Math.Max(capacity, segments);
    }
}
