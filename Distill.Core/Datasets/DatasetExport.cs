using System.Runtime.InteropServices;
using Distill.Storage;

namespace Distill.Datasets;

/// <summary>
/// The valid rows of a dataset as arrays of a file, <c>[rows, size]</c>: rows follow each other in time where their episode goes
/// on, and where it does not, or what followed is not held, it says that an episode ends.
/// </summary>
/// <param name="goesOn">Whether a segment, by its number among all ever added, can go on with the one added before it.</param>
internal sealed class DatasetExport(AggregatedDataset dataset, Func<long, bool> goesOn)
{
    private const int RowsAtATime = 1024;

    private readonly int rows = CountRows(dataset);

    /// <summary>Numbers of every row, in a row of an array.</summary>
    /// <param name="of">What to write of each; null for itself.</param>
    public NpzArray Numbers(string name, Column column, Func<float, float>? of = null) =>
        new(
            name,
            ElementType.Float32,
            [rows, column.Size],
            stream =>
                Write<float>(
                    stream,
                    column.Size,
                    (chunk, row, _, values) =>
                    {
                        chunk.Rows.Cell(row, column).CopyTo(values);
                        for (var i = 0; of is not null && i < values.Length; i++)
                            values[i] = of(values[i]);
                    }
                )
        );

    /// <summary>A number of every row.</summary>
    public NpzArray Number(string name, Func<DatasetChunk, int, float> of) =>
        new(
            name,
            ElementType.Float32,
            [rows],
            stream => Write<float>(stream, 1, (chunk, row, _, value) => value[0] = of(chunk, row))
        );

    /// <summary>A flag of every row.</summary>
    /// <param name="of">Given its chunk and place there, and whether an episode ends with it.</param>
    public NpzArray Flag(string name, Func<DatasetChunk, int, bool, bool> of) =>
        new(
            name,
            ElementType.Bool,
            [rows],
            stream =>
                Write<byte>(
                    stream,
                    1,
                    (chunk, row, ends, value) => value[0] = of(chunk, row, ends) ? (byte)1 : (byte)0
                )
        );

    private delegate void Fill<T>(DatasetChunk chunk, int row, bool ends, Span<T> values);

    private void Write<T>(Stream stream, int size, Fill<T> fill)
        where T : unmanaged
    {
        var buffer = new T[RowsAtATime * size];
        var filled = 0;
        foreach (var (chunk, row, ends) in Rows())
        {
            fill(chunk, row, ends, buffer.AsSpan(filled, size));
            filled += size;
            if (filled < buffer.Length)
                continue;
            stream.Write(MemoryMarshal.AsBytes(buffer.AsSpan()));
            filled = 0;
        }
        stream.Write(MemoryMarshal.AsBytes(buffer.AsSpan(0, filled)));
    }

    /// <summary>The valid rows, and whether an episode ends with each.</summary>
    private IEnumerable<(DatasetChunk Chunk, int Row, bool Ends)> Rows()
    {
        (DatasetChunk Chunk, int Row, int Segment)? last = null;
        for (var segment = 0; segment < dataset.Count; segment++)
        {
            var (chunk, first) = dataset.At(segment);
            for (var row = first; row < first + dataset.SegmentLength; row++)
            {
                if (chunk.Valid.Span[row] == 0)
                    continue;
                if (last is { } before)
                    yield return (
                        before.Chunk,
                        before.Row,
                        !GoesOn(before.Row, before.Segment, row, segment)
                    );
                last = (chunk, row, segment);
            }
        }
        if (last is { } end)
            yield return (end.Chunk, end.Row, true);
    }

    /// <summary>Whether a row is what followed the one before it in time.</summary>
    private bool GoesOn(int rowBefore, int segmentBefore, int row, int segment)
    {
        var (chunk, first) = dataset.At(segment);
        if (chunk.EpisodeStart.Span[row] != 0)
            return false;
        if (segment == segmentBefore)
            return row == rowBefore + 1;
        var (birthBefore, birth) = (dataset.Birth(segmentBefore), dataset.Birth(segment));
        return row == first
            && rowBefore == dataset.At(segmentBefore).Row + dataset.SegmentLength - 1
            && birth == birthBefore + 1
            && goesOn(birth);
    }

    private static int CountRows(AggregatedDataset dataset)
    {
        var rows = 0L;
        for (var segment = 0; segment < dataset.Count; segment++)
            rows += dataset.CountValid([segment], 0, dataset.SegmentLength);
        return rows <= int.MaxValue / 2
            ? (int)rows
            : throw new DistillException(
                $"The dataset has {rows} rows, and a file can have {int.MaxValue / 2}; lower max_buffer_size."
            );
    }
}
