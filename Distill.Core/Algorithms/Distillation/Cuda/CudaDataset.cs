using System.Runtime.InteropServices;
using Distill.Compute.Cuda;
using Distill.Datasets;

namespace Distill.Algorithms;

/// <summary>
/// The rows of an <see cref="AggregatedDataset"/> in the memory of a GPU, chunk by chunk as it has them: growing adds chunks and moves
/// nothing. The machine's dataset keeps the books (places, marks, births and losses) and has the rows only after <see cref="Download"/>.
/// </summary>
internal sealed class CudaDataset : IRowsElsewhere, IDisposable
{
    private const int ValidMark = 1;
    private const int StartMark = 2;
    private const int HeldOutMark = 16;
    private const int FailedMark = 32;

    private readonly CudaDevice device;
    private readonly AggregatedDataset books;
    private readonly CudaCollector collector;
    private readonly int memorySize;
    private readonly List<Chunk> chunks = [];
    private readonly CudaKernel<AddArguments> add;
    private readonly CudaKernel<PackArguments> pack;

    // What is being put together: places, and for each of their rows that of the rollout.
    private readonly List<int> packed = [];
    private readonly HashSet<int> taken = [];
    private readonly List<int> sources = [];
    private CudaBuffer<int>? packedPlaces;
    private CudaBuffer<int>? packedSources;
    private CudaBuffer<Addresses>? table;

    /// <param name="books">From now on rows that are added to it are added here.</param>
    public CudaDataset(CudaDevice device, AggregatedDataset books, CudaCollector collector, int memorySize)
    {
        (this.device, this.books, this.collector) = (device, books, collector);
        this.memorySize = memorySize;
        add = device.Kernel<AddArguments>("add_rows");
        pack = device.Kernel<PackArguments>("pack_rows");
        books.Elsewhere = this;
        Grow();
    }

    /// <summary><c>[chunks]</c>: where each has its rows, marks and memory.</summary>
    public nint Chunks => table!.Address;

    /// <summary>Bytes that a segment takes.</summary>
    public long SegmentBytes =>
        (long)books.SegmentLength
            * ((books.Columns.Size + (chunks[0].Weights is null ? 0 : 1)) * sizeof(float) + sizeof(int))
        + (long)memorySize * sizeof(float);

    /// <summary>Takes all that is held.</summary>
    public void Upload()
    {
        Grow();
        for (var i = 0; i < chunks.Count; i++)
        {
            var (chunk, held) = (chunks[i], books.Chunks[i]);
            var segments = books.UsedOf(i);
            if (segments == 0)
                continue;
            var marks = new int[segments * books.SegmentLength];
            for (var row = 0; row < marks.Length; row++)
                marks[row] =
                    held.Valid.Span[row] * ValidMark
                    | held.EpisodeStart.Span[row] * StartMark
                    | (held.HeldOut?.Span[row] ?? 0) * HeldOutMark
                    | (held.Failed?.Span[row] ?? 0) * FailedMark;
            chunk.Rows.Write(held.Rows.Rows(0, marks.Length));
            chunk.Marks.Write(marks);
            if (held.Weights is { } weights)
                chunk.Weights!.Write(weights.Slice(0, marks.Length));
            chunk.Memory?.Write(held.Memory.Slice(0, segments * memorySize));
        }
    }

    /// <summary>Gives the rows to the machine's dataset, for checkpoints and files.</summary>
    public void Download()
    {
        for (var i = 0; i < chunks.Count; i++)
        {
            var segments = books.UsedOf(i);
            chunks[i].Rows.Read(books.Chunks[i].Rows.Rows(0, segments * books.SegmentLength));
            chunks[i].Memory?.Read(books.Chunks[i].Memory.Slice(0, segments * memorySize));
        }
    }

    public void Dispose()
    {
        table?.Dispose();
        packedPlaces?.Dispose();
        packedSources?.Dispose();
        foreach (var chunk in chunks)
            chunk.Dispose();
    }

    public void Copy(int first, int place, int segments)
    {
        Grow();
        var chunk = chunks[place / books.ChunkSegments];
        var local = (long)(place % books.ChunkSegments);
        var (columns, length) = (books.Columns.Size, books.SegmentLength);
        var rows = (long)segments * length;
        add.Start(
            new()
            {
                Rows = At(collector.Rows, (long)first * length * columns),
                Marks = At(collector.Marks, (long)first * length),
                ToRows = At(chunk.Rows, local * length * columns),
                ToMarks = At(chunk.Marks, local * length),
                ToWeights = At(chunk.Weights, local * length),
                Memory = At(collector.Memories, (long)first * memorySize),
                ToMemory = At(chunk.Memory, local * memorySize),
                RowCount = rows,
                MemoryCount = (long)segments * memorySize,
                Columns = columns,
            },
            Math.Max(rows * columns, (long)segments * memorySize)
        );
    }

    public void Pack(int place)
    {
        // Its threads write all places at once.
        if (!taken.Add(place))
        {
            EndPacking();
            taken.Add(place);
        }
        packed.Add(place);
    }

    public void PackRows(int first, int rows)
    {
        for (var row = first; row < first + rows; row++)
            sources.Add(row);
    }

    public void EndPacking()
    {
        Grow();
        if (packed.Count > 0)
        {
            Write(ref packedPlaces, packed);
            Write(ref packedSources, sources);
            pack.Start(
                new()
                {
                    Rows = collector.Rows.Address,
                    Marks = collector.Marks.Address,
                    Chunks = Chunks,
                    Places = packedPlaces!.Address,
                    Sources = packedSources!.Address,
                    Segments = packed.Count,
                    ChunkSegments = books.ChunkSegments,
                    SegmentLength = books.SegmentLength,
                    Columns = books.Columns.Size,
                },
                sources.Count
            );
        }
        packed.Clear();
        taken.Clear();
        sources.Clear();
    }

    private void Write(ref CudaBuffer<int>? buffer, List<int> values)
    {
        if (buffer is null || buffer.Length < values.Count)
        {
            buffer?.Dispose();
            buffer = new(device, values.Count, "the dataset");
        }
        buffer.Write(CollectionsMarshal.AsSpan(values));
    }

    /// <summary>Makes room where the machine's dataset has.</summary>
    private void Grow()
    {
        if (chunks.Count == books.Chunks.Count)
            return;
        for (var i = chunks.Count; i < books.Chunks.Count; i++)
            chunks.Add(new Chunk(device, books.Chunks[i], memorySize));
        table?.Dispose();
        table = new(device, chunks.Count, "the dataset");
        table.Write([.. chunks.Select(chunk => chunk.Addresses)]);
    }

    private static nint At<T>(CudaBuffer<T>? buffer, long start)
        where T : unmanaged =>
        buffer is null
            ? 0
            : buffer.Address + (nint)(start * System.Runtime.CompilerServices.Unsafe.SizeOf<T>());

    private sealed class Chunk(CudaDevice device, DatasetChunk like, int memorySize) : IDisposable
    {
        public CudaBuffer<float> Rows { get; } =
            new(device, like.Rows.Length * like.Rows.Columns.Size, "the dataset");

        public CudaBuffer<int> Marks { get; } = new(device, like.Rows.Length, "the dataset");

        public CudaBuffer<float>? Memory { get; } =
            memorySize == 0 ? null : new(device, like.Memory.Length, "the dataset");

        public CudaBuffer<float>? Weights { get; } =
            like.Weights is null ? null : new(device, like.Rows.Length, "the dataset");

        public Addresses Addresses =>
            new(Rows.Address, Marks.Address, Memory?.Address ?? 0, Weights?.Address ?? 0);

        public void Dispose()
        {
            Rows.Dispose();
            Marks.Dispose();
            Memory?.Dispose();
            Weights?.Dispose();
        }
    }

    // The records of cuda/training.cu.

    private readonly record struct Addresses(nint Rows, nint Marks, nint Memory, nint Weights);

    private struct PackArguments
    {
        public nint Rows;
        public nint Marks;
        public nint Chunks;
        public nint Places;
        public nint Sources;
        public int Segments;
        public int ChunkSegments;
        public int SegmentLength;
        public int Columns;
    }

    private struct AddArguments
    {
        public nint Rows;
        public nint Marks;
        public nint ToRows;
        public nint ToMarks;
        public nint ToWeights;
        public nint Memory;
        public nint ToMemory;
        public long RowCount;
        public long MemoryCount;
        public int Columns;
    }
}
