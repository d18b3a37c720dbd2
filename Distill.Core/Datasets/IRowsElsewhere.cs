namespace Distill.Datasets;

/// <summary>A device's dataset, which takes rows from the device's rollout where <see cref="AggregatedDataset"/> would.</summary>
internal interface IRowsElsewhere
{
    /// <summary>Takes over segments with their memory.</summary>
    /// <param name="first">Of the rollout.</param>
    /// <param name="place">Of the first in the dataset; all are within one chunk.</param>
    void Copy(int first, int place, int segments);

    /// <summary>Begins a segment that is put together of rows, and begins without memory.</summary>
    void Pack(int place);

    /// <summary>Adds rows to it.</summary>
    /// <param name="first">Of the rollout.</param>
    void PackRows(int first, int rows);

    /// <summary>After the last of them.</summary>
    void EndPacking();
}
