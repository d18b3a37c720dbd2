namespace Distill.Datasets;

/// <summary>What a dataset notes beside its rows; what is not asked for takes no room.</summary>
public sealed record DatasetNotes
{
    /// <summary>Whether rows can be held out, so that they are never trained on.</summary>
    public bool HeldOut { get; init; }

    /// <summary>Whether the episode of a row failed, so that it can count less.</summary>
    public bool Failed { get; init; }

    /// <summary>Whether rows have weights of their own, as recorded ones can.</summary>
    public bool Weights { get; init; }

    /// <summary>Number of classes of labels, to count them; 0 for not.</summary>
    public int Classes { get; init; }

    /// <summary>Whether it is noted how much an ensemble disagrees.</summary>
    public bool Disagreements { get; init; }

    /// <summary>Whether rows can be held that are not trained on with full weight.</summary>
    internal bool Weighs => HeldOut || Failed || Weights;

    internal int BytesPerRow => (HeldOut ? 1 : 0) + (Failed ? 1 : 0) + (Weights ? sizeof(float) : 0);
    internal int BytesPerSegment => Disagreements ? sizeof(float) : 0;
}
