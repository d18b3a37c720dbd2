namespace Distill.Networks;

/// <summary>
/// A layer of a transformer's encoder (Vaswani et al. 2017, section 3.1), normalized after each part, with ReLU: PyTorch's
/// <c>nn.TransformerEncoderLayer</c>. y = norm2(h + linear2(relu(linear1(h)))), h = norm1(x + attention(x)).
/// </summary>
internal sealed class EncoderLayer
{
    private readonly int size;
    private readonly int hidden;
    private readonly int heads;
    private readonly int index;
    private readonly Linear projection;
    private readonly Linear output;
    private readonly Linear linear1;
    private readonly Linear linear2;
    private readonly LayerNorm norm1;
    private readonly LayerNorm norm2;

    /// <param name="offset">Where its parameters begin.</param>
    public EncoderLayer(TransformerConfig config, int index, int offset)
    {
        (size, hidden, heads, this.index) = (config.Model, config.FeedForward, config.Heads, index);
        projection = new($"layers.{index}.self_attn.in_proj", offset, size, 3 * size);
        output = new($"layers.{index}.self_attn.out_proj", projection.End, size, size);
        linear1 = new($"layers.{index}.linear1", output.End, size, hidden);
        linear2 = new($"layers.{index}.linear2", linear1.End, hidden, size);
        norm1 = new($"layers.{index}.norm1", linear2.End, size);
        norm2 = new($"layers.{index}.norm2", norm1.End, size);
    }

    public int End => norm2.End;

    /// <summary>Numbers per token that go from forward to backward; the last are the output.</summary>
    public int ActivationSize => 8 * size + hidden + 2 + 2 * heads;

    public IEnumerable<ParameterView> Views =>
        [
            .. projection.Views('_'),
            .. output.Views(),
            .. linear1.Views(),
            .. linear2.Views(),
            .. norm1.Views,
            .. norm2.Views,
        ];

    /// <param name="x"><c>[model, tokens, 16]</c>.</param>
    /// <param name="valid">See <see cref="SequenceMath.Attention"/>.</param>
    /// <param name="dropout">Keys and rate; the sites are found here.</param>
    /// <param name="activations"><c>[activation size, tokens, 16]</c>, written.</param>
    public void Forward(
        ReadOnlySpan<float> parameters,
        Sequences x,
        ReadOnlySpan<float> valid,
        DropoutKeys dropout,
        Sequences activations,
        Workspace own
    )
    {
        using var scope = own.Open();
        var kept = new Activations(activations, size, hidden, heads);
        projection.Forward(parameters, x, kept.Qkv);
        SequenceMath.Attention(
            kept.Queries,
            kept.Qkv.Rows(size, 2 * size),
            heads,
            valid,
            Site(dropout, 0),
            kept.Weights,
            kept.Attended,
            own
        );
        AfterAttention(parameters, x, dropout, kept, own);
    }

    /// <summary>What <see cref="Forward"/> gives for the last token, without dropout: one query, and one token from there on.</summary>
    /// <param name="activations"><c>[activation size, 1, 16]</c>, written.</param>
    public void ForwardLast(
        ReadOnlySpan<float> parameters,
        Sequences x,
        ReadOnlySpan<float> valid,
        Sequences activations,
        Workspace own
    )
    {
        using var scope = own.Open();
        var kept = new Activations(activations, size, hidden, heads);
        var last = x.Part(x.Tokens - 1, 1);
        var others = own.Sequences(2 * size, x.Tokens);
        projection.Forward(parameters, last, kept.Queries, 0);
        projection.Forward(parameters, x, others, size);
        SequenceMath.Attention(
            kept.Queries,
            others,
            heads,
            valid,
            Dropout.None,
            kept.Weights,
            kept.Attended,
            own
        );
        AfterAttention(parameters, last, default, kept, own);
    }

    private void AfterAttention(
        ReadOnlySpan<float> parameters,
        Sequences x,
        DropoutKeys dropout,
        Activations kept,
        Workspace own
    )
    {
        using var scope = own.Open();
        var branch = own.Sequences(size, x.Tokens);
        output.Forward(parameters, kept.Attended, branch);
        norm1.Forward(parameters, x, branch, Site(dropout, 1), kept.Normed1, kept.Scales1, kept.Between);
        linear1.Forward(parameters, kept.Between, kept.Hidden);
        SequenceMath.Relu(kept.Hidden, Site(dropout, 2));
        linear2.Forward(parameters, kept.Hidden, branch);
        norm2.Forward(
            parameters,
            kept.Between,
            branch,
            Site(dropout, 3),
            kept.Normed2,
            kept.Scales2,
            kept.Output
        );
    }

    /// <param name="dy">Gradient of the output, <c>[model, tokens, 16]</c>; becomes that of the input.</param>
    public void Backward(
        ReadOnlySpan<float> parameters,
        Sequences x,
        ReadOnlySpan<float> valid,
        DropoutKeys dropout,
        Sequences activations,
        Sequences dy,
        Span<float> gradient,
        Workspace own
    )
    {
        using var scope = own.Open();
        var kept = new Activations(activations, size, hidden, heads);
        var dBranch = own.Sequences(size, x.Tokens);
        var dHidden = own.Sequences(hidden, x.Tokens);
        norm2.Backward(parameters, kept.Normed2, kept.Scales2, Site(dropout, 3), dy, dBranch, gradient);
        linear2.Backward(parameters, kept.Hidden, dBranch, dHidden, Start.FromZero, gradient);
        SequenceMath.ReluBackward(kept.Hidden, Site(dropout, 2), dHidden);
        linear1.Backward(parameters, kept.Between, dHidden, dy, Start.FromValues, gradient);

        var dAttended = own.Sequences(size, x.Tokens);
        var dQkv = own.Sequences(3 * size, x.Tokens);
        norm1.Backward(parameters, kept.Normed1, kept.Scales1, Site(dropout, 1), dy, dBranch, gradient);
        output.Backward(parameters, kept.Attended, dBranch, dAttended, Start.FromZero, gradient);
        SequenceMath.AttentionBackward(
            kept.Qkv,
            heads,
            valid,
            Site(dropout, 0),
            kept.Weights,
            kept.Attended,
            dAttended,
            dQkv,
            own
        );
        projection.Backward(parameters, x, dQkv, dy, Start.FromValues, gradient);
    }

    /// <summary>What the layer wrote: the input of the next.</summary>
    public Sequences Output(Sequences activations) => activations.Rows(ActivationSize - size, size);

    public void Initialize(Span<float> parameters, RandomStream stream)
    {
        // As PyTorch: the input projection by Glorot and Bengio (2010), no bias in attention.
        projection.Initialize(parameters, stream, Math.Sqrt(6.0 / (4 * size)), 0);
        output.Initialize(parameters, stream, 1 / Math.Sqrt(size), 0);
        linear1.Initialize(parameters, stream, 1 / Math.Sqrt(size), 1 / Math.Sqrt(size));
        linear2.Initialize(parameters, stream, 1 / Math.Sqrt(hidden), 1 / Math.Sqrt(hidden));
        norm1.Initialize(parameters);
        norm2.Initialize(parameters);
    }

    private Dropout Site(DropoutKeys dropout, int part) => dropout.At(4 * index + part);

    /// <summary>What one layer keeps, feature by feature.</summary>
    private readonly ref struct Activations(Sequences all, int size, int hidden, int heads)
    {
        private readonly Sequences all = all;
        private readonly int rest = 5 * size + hidden;

        public Sequences Qkv => all.Rows(0, 3 * size);
        public Sequences Queries => all.Rows(0, size);
        public Sequences Attended => all.Rows(3 * size, size);
        public Sequences Between => all.Rows(4 * size, size);
        public Sequences Hidden => all.Rows(5 * size, hidden);
        public Sequences Weights => all.Rows(rest, 2 * heads);
        public Sequences Scales1 => all.Rows(rest + 2 * heads, 1);
        public Sequences Scales2 => all.Rows(rest + 2 * heads + 1, 1);
        public Sequences Normed1 => all.Rows(rest + 2 * heads + 2, size);
        public Sequences Normed2 => all.Rows(rest + 2 * heads + 2 + size, size);
        public Sequences Output => all.Rows(rest + 2 * heads + 2 + 2 * size, size);
    }
}

/// <summary>The random words behind all dropout of one pass of sixteen sequences; see <see cref="Dropout"/>.</summary>
/// <param name="keys"><c>[16]</c>; empty to drop nothing.</param>
public readonly ref struct DropoutKeys(ReadOnlySpan<uint> keys, double rate)
{
    private readonly ReadOnlySpan<uint> keys = keys;
    private readonly double rate = rate;

    internal Dropout At(int site) => keys.IsEmpty ? Dropout.None : new(keys, site, rate);
}
