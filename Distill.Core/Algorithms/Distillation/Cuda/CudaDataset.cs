using Distill.Compute.Cuda;
using Distill.Datasets;

namespace Distill.Algorithms;

/// <summary>
/// The rows of an <see cref="AggregatedDataset"/> in the memory of a GPU, chunk by chunk as it has them: growing adds chunks and moves
/// nothing. The machine's dataset keeps the books (places, marks, births and losses) and has the rows only after <see cref="Download"/>.
/// </summary>
internal sealed class CudaDataset : IDisposable
{
    private const int ValidMark = 1;
    private const int StartMark = 2;

    private readonly CudaDevice device;
    private readonly AggregatedDataset books;
    private readonly CudaCollector collector;
    private readonly int memorySize;
    private readonly List<Chunk> chunks = [];
    private readonly CudaKernel<AddArguments> add;
    private CudaBuffer<Addresses>? table;

    /// <param name="books">From now on rows that are added to it are added here.</param>
    public CudaDataset(CudaDevice device, AggregatedDataset books, CudaCollector collector, int memorySize)
    {
        (this.device, this.books, this.collector) = (device, books, collector);
        this.memorySize = memorySize;
        add = device.Kernel<AddArguments>("add_rows");
        books.CopiesElsewhere = Add;
        Grow();
    }

    /// <summary><c>[chunks]</c>: where each has its rows, marks and memory.</summary>
    public nint Chunks => table!.Address;

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
                marks[row] = held.Valid.Span[row] * ValidMark + held.EpisodeStart.Span[row] * StartMark;
            chunk.Rows.Write(held.Rows.Rows(0, marks.Length));
            chunk.Marks.Write(marks);
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
        foreach (var chunk in chunks)
            chunk.Dispose();
    }

    /// <summary>Copies segments of the rollout to places of one chunk.</summary>
    private void Add(int first, int place, int segments)
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
                Memory = At(collector.Memories, (long)first * memorySize),
                ToMemory = At(chunk.Memory, local * memorySize),
                RowCount = rows,
                MemoryCount = (long)segments * memorySize,
                Columns = columns,
            },
            Math.Max(rows * columns, (long)segments * memorySize)
        );
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

        public Addresses Addresses => new(Rows.Address, Marks.Address, Memory?.Address ?? 0);

        public void Dispose()
        {
            Rows.Dispose();
            Marks.Dispose();
            Memory?.Dispose();
        }
    }

    // The records of cuda/training.cu.

    private readonly record struct Addresses(nint Rows, nint Marks, nint Memory);

    private struct AddArguments
    {
        public nint Rows;
        public nint Marks;
        public nint ToRows;
        public nint ToMarks;
        public nint Memory;
        public nint ToMemory;
        public long RowCount;
        public long MemoryCount;
        public int Columns;
    }
}
