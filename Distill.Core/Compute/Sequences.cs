namespace Distill.Compute;

/// <summary>
/// Sixteen sequences of tokens side by side: <c>[features, tokens, 16]</c>, element (feature, token, lane) at
/// <c>feature * stride + token * 16 + lane</c>. A SIMD lane is a sequence, as in a panel, so that attention, which is within a
/// sequence, needs no shuffles; and a layer that treats all tokens alike is one matrix product with tokens x 16 columns.
/// </summary>
public readonly ref struct Sequences
{
    /// <summary>Sequences side by side.</summary>
    public const int Lanes = Panel.HalfWidth;

    /// <param name="values">Memory of at least features x tokens x 16 floats.</param>
    public Sequences(Span<float> values, int features, int tokens)
        : this(values[..(features * tokens * Lanes)], features, tokens, tokens * Lanes) { }

    private Sequences(Span<float> values, int features, int tokens, int stride)
    {
        Values = values;
        Features = features;
        Tokens = tokens;
        Stride = stride;
    }

    /// <summary>From the first element on; rows are <see cref="Stride"/> apart.</summary>
    public Span<float> Values { get; }

    /// <summary>Numbers of one token.</summary>
    public int Features { get; }

    /// <summary>Tokens of one sequence.</summary>
    public int Tokens { get; }

    /// <summary>Floats from one feature to the next.</summary>
    public int Stride { get; }

    /// <summary>Tokens of all sequences.</summary>
    public int Columns => Tokens * Lanes;

    public bool IsEmpty => Features == 0 || Tokens == 0;

    public ref float this[int feature, int token, int lane] =>
        ref Values[feature * Stride + token * Lanes + lane];

    /// <summary>Consecutive features of all tokens, on the same memory.</summary>
    public Sequences Rows(int first, int count) =>
        count == 0 ? default : new(Values[(first * Stride)..], count, Tokens, Stride);

    /// <summary>Consecutive tokens, on the same memory.</summary>
    public Sequences Part(int first, int count) =>
        count == 0 ? default : new(Values[(first * Lanes)..], Features, count, Stride);

    /// <summary>One feature of all tokens, <c>[tokens, 16]</c>.</summary>
    public Span<float> Row(int feature) => Values.Slice(feature * Stride, Columns);

    /// <summary>One feature of one token, <c>[16]</c>.</summary>
    public Span<float> At(int feature, int token) => Values.Slice(feature * Stride + token * Lanes, Lanes);
}

/// <summary>
/// Which numbers are dropped, so that each is 0 with the probability <c>rate</c>, else divided by 1 - rate: a function of the
/// sequence's key and the place, so that backward finds the same. Rates are multiples of 1/65536.
/// </summary>
/// <param name="keys">A random word for each sequence, <c>[16]</c>.</param>
/// <param name="site">Where in the network; below 4096.</param>
public readonly ref struct Dropout(ReadOnlySpan<uint> keys, int site, double rate)
{
    /// <summary>A random word for each sequence, <c>[16]</c>.</summary>
    public ReadOnlySpan<uint> Keys { get; } = keys;

    /// <summary>Dropped where 16 random bits are below it; 0 drops nothing.</summary>
    public int Threshold { get; } = (int)Math.Round(rate * 65536);

    /// <summary>Where the counter of its random words starts.</summary>
    internal uint First { get; } = (uint)site << 20;

    /// <summary>Factor of what is kept.</summary>
    internal float Scale => 65536f / (65536 - Threshold);

    /// <summary>Drops nothing.</summary>
    public static Dropout None => default;
}
