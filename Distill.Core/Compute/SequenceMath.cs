using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>The parts of a transformer on sixteen sequences at once, forward and backward.</summary>
public static unsafe class SequenceMath
{
    private const float NormEpsilon = 1e-5f;

    private static readonly Kernels<SequenceKernels> All = new(typeof(SequencesW512));

    private static readonly Kernels<AttentionKernels> AllAttention = new(typeof(AttentionW512));

    private static SequenceKernels Kernels => All.InUse;

    /// <summary>dW += dY X': W <c>[outputs, inputs]</c>, summed over all tokens of all sequences in a fixed order.</summary>
    public static void WeightGradient(Sequences dy, Sequences x, Span<float> dWeights)
    {
        CheckTokens(dy, x.Tokens);
        Check(dWeights.Length, dy.Features * x.Features);
        fixed (
            float* a = dy.Values,
                b = x.Values,
                c = dWeights
        )
            Kernels.Products(a, dy.Stride, dy.Features, b, x.Stride, x.Features, x.Columns, c);
    }

    /// <summary>sums[f] += sum over all tokens of all sequences of x[f] (times y[f], unless that is empty).</summary>
    public static void AddSums(Sequences x, Sequences y, Span<float> sums)
    {
        Check(sums.Length, x.Features);
        fixed (
            float* a = x.Values,
                b = y.Values
        )
            for (var feature = 0; feature < x.Features; feature++)
                sums[feature] += Sum(
                    a + feature * x.Stride,
                    b is null ? null : b + feature * y.Stride,
                    x.Columns
                );
    }

    /// <summary>x[f, t] += table[t, f], for every sequence.</summary>
    /// <param name="table"><c>[tokens or more, features]</c>.</param>
    public static void AddToTokens(ReadOnlySpan<float> table, Sequences x)
    {
        for (var feature = 0; feature < x.Features; feature++)
        for (var token = 0; token < x.Tokens; token++)
        {
            var values = x.At(feature, token);
            var added = Vector256.Create(table[token * x.Features + feature]);
            (Vector256.Create<float>(values) + added).CopyTo(values);
            (Vector256.Create<float>(values[8..]) + added).CopyTo(values[8..]);
        }
    }

    /// <summary>table[t, f] += sum over the sequences of x[f, t].</summary>
    public static void AddTokenSums(Sequences x, Span<float> table)
    {
        fixed (float* values = x.Values)
            for (var feature = 0; feature < x.Features; feature++)
            for (var token = 0; token < x.Tokens; token++)
                table[token * x.Features + feature] += Sum(
                    values + feature * x.Stride + token * Sequences.Lanes,
                    null,
                    Sequences.Lanes
                );
    }

    /// <summary>
    /// Layer normalization (Ba et al. 2016) over the features of each token of residual + dropped branch, as after the parts of a
    /// transformer. normed = (x - mean) / sqrt(variance + 1e-5), y = gain normed + bias.
    /// </summary>
    /// <param name="residual">Empty for none.</param>
    /// <param name="scales">Receives 1 / sqrt(variance + 1e-5), one feature.</param>
    public static void AddNorm(
        Sequences residual,
        Sequences branch,
        Dropout dropout,
        ReadOnlySpan<float> gain,
        ReadOnlySpan<float> bias,
        Sequences normed,
        Sequences scales,
        Sequences y
    )
    {
        CheckFeatures(branch.Features);
        CheckTokens(branch, y.Tokens);
        Check(gain.Length, y.Features);
        Check(bias.Length, y.Features);
        fixed (
            float* r = residual.Values,
                b = branch.Values,
                g = gain,
                shift = bias,
                n = normed.Values,
                s = scales.Values,
                target = y.Values
        )
        fixed (uint* keys = dropout.Keys)
        {
            var drop = new DropoutArguments(keys, dropout);
            Kernels.AddNorm(
                r,
                residual.Stride,
                b,
                branch.Stride,
                drop,
                g,
                shift,
                n,
                normed.Stride,
                s,
                target,
                y.Stride,
                y.Features,
                y.Columns,
                NormEpsilon
            );
        }
    }

    /// <summary>Gradients of <see cref="AddNorm"/>, but for those of gain and bias.</summary>
    /// <param name="dy">Gradient of y; becomes that of the residual.</param>
    /// <param name="dBranch">Receives the gradient of the branch.</param>
    public static void AddNormBackward(
        ReadOnlySpan<float> gain,
        Sequences normed,
        Sequences scales,
        Dropout dropout,
        Sequences dy,
        Sequences dBranch
    )
    {
        Check(gain.Length, dy.Features);
        CheckTokens(dBranch, dy.Tokens);
        fixed (
            float* g = gain,
                n = normed.Values,
                s = scales.Values,
                d = dy.Values,
                b = dBranch.Values
        )
        fixed (uint* keys = dropout.Keys)
        {
            var drop = new DropoutArguments(keys, dropout);
            Kernels.AddNormBackward(
                g,
                n,
                normed.Stride,
                s,
                drop,
                d,
                dy.Stride,
                b,
                dBranch.Stride,
                dy.Features,
                dy.Columns
            );
        }
    }

    /// <summary>x becomes dropout(max(x, 0)).</summary>
    public static void Relu(Sequences x, Dropout dropout)
    {
        CheckFeatures(x.Features);
        fixed (float* values = x.Values)
        fixed (uint* keys = dropout.Keys)
            Kernels.Relu(values, x.Stride, x.Features, x.Columns, new(keys, dropout));
    }

    /// <summary>dy becomes the gradient of what went into <see cref="Relu"/>.</summary>
    /// <param name="y">What came out.</param>
    public static void ReluBackward(Sequences y, Dropout dropout, Sequences dy)
    {
        fixed (
            float* values = y.Values,
                d = dy.Values
        )
            for (var feature = 0; feature < y.Features; feature++)
                Kernels.ReluBackward(
                    values + feature * y.Stride,
                    d + feature * dy.Stride,
                    y.Columns,
                    dropout.Scale
                );
    }

    /// <summary>
    /// Multi-head self-attention (Vaswani et al. 2017, section 3.2): softmax(Q K' / sqrt(size)) V, heads one after another in the
    /// features, dropout on the weights.
    /// </summary>
    /// <param name="queries">Of some tokens or all, <c>[features, queries, 16]</c>.</param>
    /// <param name="others">Keys and values of all tokens, <c>[2 features, tokens, 16]</c>.</param>
    /// <param name="valid"><c>[tokens, 16]</c>: 0 for a token that is not there, else 1; empty where all are.</param>
    /// <param name="weights">Receives what backward needs, <c>[2 heads, queries, 16]</c>.</param>
    /// <param name="y">Receives <c>[features, queries, 16]</c>.</param>
    public static void Attention(
        Sequences queries,
        Sequences others,
        int heads,
        ReadOnlySpan<float> valid,
        Dropout dropout,
        Sequences weights,
        Sequences y,
        Workspace own
    )
    {
        CheckAttention(queries, others, heads, valid, weights, y);
        using var scope = own.Open();
        var size = y.Features / heads;
        fixed (
            float* q = queries.Values,
                all = others.Values,
                mask = valid,
                w = weights.Values,
                target = y.Values,
                scratch = own.Floats(2 * others.Columns)
        )
        fixed (uint* keys = dropout.Keys)
            for (var head = 0; head < heads; head++)
            {
                var drop = new DropoutArguments(keys, dropout);
                var first = (nint)head * size;
                AllAttention.InUse.Attention(
                    new(
                        q + first * queries.Stride,
                        queries.Stride,
                        y.Tokens,
                        all + first * others.Stride,
                        all + (y.Features + first) * others.Stride,
                        others.Stride,
                        size,
                        others.Tokens,
                        head,
                        mask
                    ),
                    drop,
                    w + 2 * head * weights.Stride,
                    w + (2 * head + 1) * weights.Stride,
                    target + first * y.Stride,
                    y.Stride,
                    scratch
                );
            }
    }

    /// <summary>Gradient of <see cref="Attention"/> where all tokens have queries.</summary>
    /// <param name="qkv">Queries, keys, values, <c>[3 features, tokens, 16]</c>.</param>
    /// <param name="y">What came out.</param>
    /// <param name="dQkv">Receives the gradient of queries, keys and values.</param>
    public static void AttentionBackward(
        Sequences qkv,
        int heads,
        ReadOnlySpan<float> valid,
        Dropout dropout,
        Sequences weights,
        Sequences y,
        Sequences dy,
        Sequences dQkv,
        Workspace own
    )
    {
        CheckAttention(
            qkv.Rows(0, y.Features),
            qkv.Rows(y.Features, 2 * y.Features),
            heads,
            valid,
            weights,
            y
        );
        CheckTokens(qkv, y.Tokens);
        CheckTokens(dQkv, y.Tokens);
        using var scope = own.Open();
        var size = y.Features / heads;
        fixed (
            float* all = qkv.Values,
                mask = valid,
                w = weights.Values,
                output = y.Values,
                d = dy.Values,
                dAll = dQkv.Values,
                scratch = own.Floats(4 * y.Columns)
        )
        fixed (uint* keys = dropout.Keys)
            for (var head = 0; head < heads; head++)
            {
                var drop = new DropoutArguments(keys, dropout);
                var first = (nint)head * size;
                var (k, v) = (y.Features + first, 2 * y.Features + first);
                AllAttention.InUse.AttentionBackward(
                    new(
                        all + first * qkv.Stride,
                        qkv.Stride,
                        y.Tokens,
                        all + k * qkv.Stride,
                        all + v * qkv.Stride,
                        qkv.Stride,
                        size,
                        y.Tokens,
                        head,
                        mask
                    ),
                    drop,
                    w + 2 * head * weights.Stride,
                    w + (2 * head + 1) * weights.Stride,
                    output + first * y.Stride,
                    y.Stride,
                    d + first * dy.Stride,
                    dy.Stride,
                    dAll + first * dQkv.Stride,
                    dAll + k * dQkv.Stride,
                    dAll + v * dQkv.Stride,
                    dQkv.Stride,
                    scratch
                );
            }
    }

    /// <summary>Sixteen running sums, added up in a fixed order.</summary>
    private static float Sum(float* a, float* b, int columns)
    {
        var low = Vector256<float>.Zero;
        var high = Vector256<float>.Zero;
        for (var i = 0; i < columns; i += Sequences.Lanes)
        {
            var (x, y) = (Vector256.Load(a + i), Vector256.Load(a + i + 8));
            low = b is null ? low + x : Vector256.FusedMultiplyAdd(x, Vector256.Load(b + i), low);
            high = b is null ? high + y : Vector256.FusedMultiplyAdd(y, Vector256.Load(b + i + 8), high);
        }
        var all = low + high;
        var half = all.GetLower() + all.GetUpper();
        return (half[0] + half[2]) + (half[1] + half[3]);
    }

    private static void CheckAttention(
        Sequences queries,
        Sequences others,
        int heads,
        ReadOnlySpan<float> valid,
        Sequences weights,
        Sequences y
    )
    {
        Check(queries.Features, y.Features);
        Check(others.Features, 2 * y.Features);
        Check(weights.Features, 2 * heads);
        CheckTokens(queries, y.Tokens);
        CheckTokens(weights, y.Tokens);
        if (y.Features % (4 * heads) != 0)
            throw new ArgumentException(
                $"{y.Features} features are not {heads} heads of a multiple of 4 each."
            );
        if (!valid.IsEmpty)
            Check(valid.Length, others.Columns);
    }

    private static void CheckFeatures(int features)
    {
        if (features % 2 != 0)
            throw new ArgumentException($"The number of features must be even, not {features}.");
    }

    private static void CheckTokens(Sequences sequences, int tokens)
    {
        if (sequences.Tokens != tokens)
            throw new ArgumentException(
                $"Sequences of {sequences.Tokens} tokens were given where {tokens} are needed."
            );
    }

    private static void Check(int length, int needed)
    {
        if (length != needed)
            throw new ArgumentException($"{length} numbers were given where {needed} are needed.");
    }
}

/// <summary>What the kernels need of a <see cref="Dropout"/>, whose keys are fixed.</summary>
internal readonly unsafe struct DropoutArguments(uint* keys, Dropout dropout)
{
    public readonly uint* Keys = keys;
    public readonly uint First = dropout.First;
    public readonly int Threshold = dropout.Threshold;
    public readonly float Scale = dropout.Scale;
}

/// <summary>What attention reads of one head.</summary>
internal readonly unsafe struct AttentionHead(
    float* q,
    nint queryStride,
    int queries,
    float* k,
    float* v,
    nint stride,
    int size,
    int tokens,
    int head,
    float* valid
)
{
    public readonly float* Q = q;
    public readonly nint QueryStride = queryStride;
    public readonly int Queries = queries;
    public readonly float* K = k;
    public readonly float* V = v;
    public readonly nint Stride = stride;
    public readonly int Size = size;
    public readonly int Tokens = tokens;
    public readonly int Head = head;
    public readonly float* Valid = valid;
}

/// <summary>The kernels that exist once per vector width; all versions give the same bits.</summary>
internal abstract unsafe class SequenceKernels
{
    /// <summary>The sum of sixteen running sums.</summary>
    protected static float Sum(float* lanes)
    {
        var half =
            (Vector128.Load(lanes) + Vector128.Load(lanes + 8))
            + (Vector128.Load(lanes + 4) + Vector128.Load(lanes + 12));
        return (half[0] + half[2]) + (half[1] + half[3]);
    }

    /// <summary>c[i, j] += sum over the columns of a[i] b[j].</summary>
    public abstract void Products(
        float* a,
        nint aRow,
        int rows,
        float* b,
        nint bRow,
        int others,
        int columns,
        float* c
    );

    public abstract void AddNorm(
        float* residual,
        nint residualRow,
        float* branch,
        nint branchRow,
        DropoutArguments dropout,
        float* gain,
        float* bias,
        float* normed,
        nint normedRow,
        float* scales,
        float* y,
        nint yRow,
        int features,
        int columns,
        float epsilon
    );

    public abstract void AddNormBackward(
        float* gain,
        float* normed,
        nint normedRow,
        float* scales,
        DropoutArguments dropout,
        float* dy,
        nint dyRow,
        float* dBranch,
        nint branchRow,
        int features,
        int columns
    );

    public abstract void Relu(float* x, nint row, int features, int columns, DropoutArguments dropout);

    public abstract void ReluBackward(float* y, float* dy, int columns, float scale);
}

/// <summary>Attention, once per vector width; all versions give the same bits.</summary>
internal abstract unsafe class AttentionKernels
{
    public abstract void Attention(
        AttentionHead head,
        DropoutArguments dropout,
        float* highest,
        float* factor,
        float* y,
        nint yRow,
        float* scratch
    );

    public abstract void AttentionBackward(
        AttentionHead head,
        DropoutArguments dropout,
        float* highest,
        float* factor,
        float* y,
        nint yRow,
        float* dy,
        nint dyRow,
        float* dq,
        float* dk,
        float* dv,
        nint dRow,
        float* scratch
    );
}
