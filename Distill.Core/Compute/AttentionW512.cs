using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>
/// Attention, sixteen sequences at a time. It takes two queries at a time and keeps their rows of weights in scratch, so that weights
/// are computed again in backward and never stored (Dao et al. 2022, "FlashAttention").
/// </summary>
internal sealed unsafe class AttentionW512 : AttentionKernels
{
    private const int Lanes = Sequences.Lanes;

    public override void Attention(
        AttentionHead head,
        DropoutArguments dropout,
        float* highest,
        float* factor,
        float* y,
        nint yRow,
        float* scratch
    )
    {
        var tokens = head.Tokens;
        var columns = tokens * Lanes;
        var scale = 1 / MathF.Sqrt(head.Size);
        for (var lane = 0; lane < Lanes; lane += Vector512<float>.Count)
        for (var i = 0; i < head.Queries; i += 2)
        {
            // An odd number of queries ends with the same query twice; the second is overwritten.
            var (a, b) = (i * Lanes + lane, Math.Min(i + 1, head.Queries - 1) * Lanes + lane);
            float* weights = scratch + lane;
            for (var part = 0; part < head.Size; part += 4)
                Scores(
                    head.Q + part * head.QueryStride + a,
                    head.Q + part * head.QueryStride + b,
                    head.QueryStride,
                    head.K + part * head.Stride + lane,
                    head.Stride,
                    tokens,
                    scale,
                    part > 0,
                    weights,
                    columns
                );
            Softmax(weights + columns, tokens, head.Valid, lane, highest + b, factor + b);
            Softmax(weights, tokens, head.Valid, lane, highest + a, factor + a);
            if (dropout.Threshold > 0)
                Drop(weights, columns, tokens, Pair(head, i), lane, dropout);
            for (var part = 0; part < head.Size; part += 4)
                Mix(
                    weights,
                    columns,
                    head.V + part * head.Stride + lane,
                    head.Stride,
                    tokens,
                    Vector512.Load(factor + a) * Vector512.Create(dropout.Threshold > 0 ? dropout.Scale : 1),
                    Vector512.Load(factor + b) * Vector512.Create(dropout.Threshold > 0 ? dropout.Scale : 1),
                    y + part * yRow + a,
                    y + part * yRow + b,
                    yRow
                );
        }
    }

    public override void AttentionBackward(
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
    )
    {
        var tokens = head.Tokens;
        var columns = tokens * Lanes;
        var scale = 1 / MathF.Sqrt(head.Size);
        for (var f = 0; f < head.Size; f++)
        {
            new Span<float>(dk + f * dRow, columns).Clear();
            new Span<float>(dv + f * dRow, columns).Clear();
        }
        for (var lane = 0; lane < Lanes; lane += Vector512<float>.Count)
        for (var i = 0; i < tokens; i += 2)
        {
            var (a, b) = (i * Lanes + lane, Math.Min(i + 1, tokens - 1) * Lanes + lane);
            float* weights = scratch + lane;
            float* slopes = scratch + 2 * columns + lane;
            for (var part = 0; part < head.Size; part += 4)
            {
                Scores(
                    head.Q + part * head.QueryStride + a,
                    head.Q + part * head.QueryStride + b,
                    head.QueryStride,
                    head.K + part * head.Stride + lane,
                    head.Stride,
                    tokens,
                    scale,
                    part > 0,
                    weights,
                    columns
                );
                Scores(
                    dy + part * dyRow + a,
                    dy + part * dyRow + b,
                    dyRow,
                    head.V + part * head.Stride + lane,
                    head.Stride,
                    tokens,
                    1,
                    part > 0,
                    slopes,
                    columns
                );
            }
            var (ofA, ofB) = (
                Dot(y + a, yRow, dy + a, dyRow, head.Size),
                Dot(y + b, yRow, dy + b, dyRow, head.Size)
            );
            Slopes(
                weights,
                slopes,
                columns,
                tokens,
                head.Valid,
                lane,
                Vector512.Load(highest + a),
                Vector512.Load(highest + b),
                Vector512.Load(factor + a),
                Vector512.Load(factor + b),
                ofA,
                ofB,
                Pair(head, i),
                dropout
            );
            if (a == b)
                for (var j = 0; j < columns; j += Lanes)
                {
                    Vector512<float>.Zero.Store(weights + columns + j);
                    Vector512<float>.Zero.Store(slopes + columns + j);
                }
            var factorOfScale = Vector512.Create(scale);
            for (var part = 0; part < head.Size; part += 4)
            {
                Mix(
                    slopes,
                    columns,
                    head.K + part * head.Stride + lane,
                    head.Stride,
                    tokens,
                    factorOfScale,
                    factorOfScale,
                    dq + part * dRow + a,
                    dq + part * dRow + b,
                    dRow
                );
                Spread(
                    weights,
                    columns,
                    dy + part * dyRow + a,
                    dy + part * dyRow + b,
                    dyRow,
                    1,
                    dv + part * dRow + lane,
                    dRow,
                    tokens
                );
                Spread(
                    slopes,
                    columns,
                    head.Q + part * head.QueryStride + a,
                    head.Q + part * head.QueryStride + b,
                    head.QueryStride,
                    scale,
                    dk + part * dRow + lane,
                    dRow,
                    tokens
                );
            }
        }
    }

    /// <summary>Where the random words of a pair of queries start.</summary>
    private static uint Pair(AttentionHead head, int query) =>
        (uint)((head.Head * ((head.Tokens + 1) / 2) + query / 2) * head.Tokens);

    /// <summary>weights[j] (+)= scale q k[j] for two queries and four numbers of each.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Scores(
        float* q,
        float* next,
        nint qRow,
        float* k,
        nint kRow,
        int tokens,
        float scale,
        bool add,
        float* weights,
        nint columns
    )
    {
        var factor = Vector512.Create(scale);
        var a0 = Vector512.Load(q) * factor;
        var a1 = Vector512.Load(q + qRow) * factor;
        var a2 = Vector512.Load(q + 2 * qRow) * factor;
        var a3 = Vector512.Load(q + 3 * qRow) * factor;
        var b0 = Vector512.Load(next) * factor;
        var b1 = Vector512.Load(next + qRow) * factor;
        var b2 = Vector512.Load(next + 2 * qRow) * factor;
        var b3 = Vector512.Load(next + 3 * qRow) * factor;
        float* k2 = k + 2 * kRow;
        for (nint j = 0; j < (nint)tokens * Lanes; j += Lanes)
        {
            var a = add ? Vector512.Load(weights + j) : Vector512<float>.Zero;
            var b = add ? Vector512.Load(weights + columns + j) : Vector512<float>.Zero;
            var x = Vector512.Load(k + j);
            a = Vector512.FusedMultiplyAdd(a0, x, a);
            b = Vector512.FusedMultiplyAdd(b0, x, b);
            x = Vector512.Load(k + kRow + j);
            a = Vector512.FusedMultiplyAdd(a1, x, a);
            b = Vector512.FusedMultiplyAdd(b1, x, b);
            x = Vector512.Load(k2 + j);
            a = Vector512.FusedMultiplyAdd(a2, x, a);
            b = Vector512.FusedMultiplyAdd(b2, x, b);
            x = Vector512.Load(k2 + kRow + j);
            a = Vector512.FusedMultiplyAdd(a3, x, a);
            b = Vector512.FusedMultiplyAdd(b3, x, b);
            a.Store(weights + j);
            b.Store(weights + columns + j);
        }
    }

    /// <summary>Scores become e^(score - highest); the factor that makes them weights is kept beside.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Softmax(
        float* weights,
        int tokens,
        float* valid,
        int lane,
        float* highest,
        float* factor
    )
    {
        var top = Vector512.Create(float.MinValue);
        for (nint j = 0; j < (nint)tokens * Lanes; j += Lanes)
            top = Vector512.MaxNative(Score(weights, valid, lane, j), top);
        var sum = Vector512<float>.Zero;
        for (nint j = 0; j < (nint)tokens * Lanes; j += Lanes)
        {
            var weight = MathW512.Exp(Score(weights, valid, lane, j) - top);
            if (valid is not null)
                weight *= Vector512.Load(valid + lane + j);
            weight.Store(weights + j);
            sum += weight;
        }
        top.Store(highest);
        (Vector512<float>.One / sum).Store(factor);
    }

    /// <summary>A token that is not there is far below all others.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Score(float* scores, float* valid, int lane, nint j)
    {
        var score = Vector512.Load(scores + j);
        return valid is null
            ? score
            : Vector512.FusedMultiplyAdd(
                Vector512.Load(valid + lane + j) - Vector512<float>.One,
                Vector512.Create(1e30f),
                score
            );
    }

    /// <summary>Drops weights of two queries; what is kept is scaled later.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Drop(
        float* weights,
        nint columns,
        int tokens,
        uint first,
        int lane,
        DropoutArguments dropout
    )
    {
        for (nint j = 0; j < (nint)tokens * Lanes; j += Lanes)
        {
            var word = DropoutW512.Word(dropout, first + (uint)(j / Lanes), lane);
            (Vector512.Load(weights + j) & DropoutW512.Keep(word, dropout)).Store(weights + j);
            (Vector512.Load(weights + columns + j) & DropoutW512.Keep(word >> 16, dropout)).Store(
                weights + columns + j
            );
        }
    }

    /// <summary>y = factor x sum over j of weights[j] v[j], for two queries and four numbers of each.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Mix(
        float* weights,
        nint columns,
        float* v,
        nint vRow,
        int tokens,
        Vector512<float> factor,
        Vector512<float> nextFactor,
        float* y,
        float* next,
        nint yRow
    )
    {
        Vector512<float> a0,
            a1,
            a2,
            a3,
            b0,
            b1,
            b2,
            b3;
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = Vector512<float>.Zero;
        float* v2 = v + 2 * vRow;
        for (nint j = 0; j < (nint)tokens * Lanes; j += Lanes)
        {
            var a = Vector512.Load(weights + j);
            var b = Vector512.Load(weights + columns + j);
            var x = Vector512.Load(v + j);
            a0 = Vector512.FusedMultiplyAdd(a, x, a0);
            b0 = Vector512.FusedMultiplyAdd(b, x, b0);
            x = Vector512.Load(v + vRow + j);
            a1 = Vector512.FusedMultiplyAdd(a, x, a1);
            b1 = Vector512.FusedMultiplyAdd(b, x, b1);
            x = Vector512.Load(v2 + j);
            a2 = Vector512.FusedMultiplyAdd(a, x, a2);
            b2 = Vector512.FusedMultiplyAdd(b, x, b2);
            x = Vector512.Load(v2 + vRow + j);
            a3 = Vector512.FusedMultiplyAdd(a, x, a3);
            b3 = Vector512.FusedMultiplyAdd(b, x, b3);
        }
        // The first last: it may be the same query.
        (b0 * nextFactor).Store(next);
        (b1 * nextFactor).Store(next + yRow);
        (b2 * nextFactor).Store(next + 2 * yRow);
        (b3 * nextFactor).Store(next + 3 * yRow);
        (a0 * factor).Store(y);
        (a1 * factor).Store(y + yRow);
        (a2 * factor).Store(y + 2 * yRow);
        (a3 * factor).Store(y + 3 * yRow);
    }

    /// <summary>dv[j] += weights[j] scale x, summed over two queries, for four numbers of each.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Spread(
        float* weights,
        nint columns,
        float* x,
        float* next,
        nint xRow,
        float scale,
        float* dv,
        nint dRow,
        int tokens
    )
    {
        var factor = Vector512.Create(scale);
        var a0 = Vector512.Load(x) * factor;
        var a1 = Vector512.Load(x + xRow) * factor;
        var a2 = Vector512.Load(x + 2 * xRow) * factor;
        var a3 = Vector512.Load(x + 3 * xRow) * factor;
        var b0 = Vector512.Load(next) * factor;
        var b1 = Vector512.Load(next + xRow) * factor;
        var b2 = Vector512.Load(next + 2 * xRow) * factor;
        var b3 = Vector512.Load(next + 3 * xRow) * factor;
        float* dv2 = dv + 2 * dRow;
        for (nint j = 0; j < (nint)tokens * Lanes; j += Lanes)
        {
            var a = Vector512.Load(weights + j);
            var b = Vector512.Load(weights + columns + j);
            Vector512
                .FusedMultiplyAdd(b, b0, Vector512.FusedMultiplyAdd(a, a0, Vector512.Load(dv + j)))
                .Store(dv + j);
            Vector512
                .FusedMultiplyAdd(b, b1, Vector512.FusedMultiplyAdd(a, a1, Vector512.Load(dv + dRow + j)))
                .Store(dv + dRow + j);
            Vector512
                .FusedMultiplyAdd(b, b2, Vector512.FusedMultiplyAdd(a, a2, Vector512.Load(dv2 + j)))
                .Store(dv2 + j);
            Vector512
                .FusedMultiplyAdd(b, b3, Vector512.FusedMultiplyAdd(a, a3, Vector512.Load(dv2 + dRow + j)))
                .Store(dv2 + dRow + j);
        }
    }

    /// <summary>
    /// On entry scores and the gradients of the weights as they were used, of two queries; on return the weights as they were used,
    /// and the gradients of the scores.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Slopes(
        float* weights,
        float* slopes,
        nint columns,
        int tokens,
        float* valid,
        int lane,
        Vector512<float> highest,
        Vector512<float> nextHighest,
        Vector512<float> factor,
        Vector512<float> nextFactor,
        Vector512<float> mean,
        Vector512<float> nextMean,
        uint first,
        DropoutArguments dropout
    )
    {
        for (nint j = 0; j < (nint)tokens * Lanes; j += Lanes)
        {
            var a = MathW512.Exp(Score(weights, valid, lane, j) - highest) * factor;
            var b = MathW512.Exp(Score(weights + columns, valid, lane, j) - nextHighest) * nextFactor;
            if (valid is not null)
            {
                a *= Vector512.Load(valid + lane + j);
                b *= Vector512.Load(valid + lane + j);
            }
            var da = Vector512.Load(slopes + j);
            var db = Vector512.Load(slopes + columns + j);
            if (dropout.Threshold == 0)
            {
                a.Store(weights + j);
                b.Store(weights + columns + j);
            }
            else
            {
                var word = DropoutW512.Word(dropout, first + (uint)(j / Lanes), lane);
                var keepA = DropoutW512.Keep(word, dropout) & Vector512.Create(dropout.Scale);
                var keepB = DropoutW512.Keep(word >> 16, dropout) & Vector512.Create(dropout.Scale);
                (a * keepA).Store(weights + j);
                (b * keepB).Store(weights + columns + j);
                da *= keepA;
                db *= keepB;
            }
            (a * (da - mean)).Store(slopes + j);
            (b * (db - nextMean)).Store(slopes + columns + j);
        }
    }

    private static Vector512<float> Dot(float* a, nint aRow, float* b, nint bRow, int size)
    {
        var sum = Vector512<float>.Zero;
        for (var f = 0; f < size; f++)
            sum = Vector512.FusedMultiplyAdd(Vector512.Load(a + f * aRow), Vector512.Load(b + f * bRow), sum);
        return sum;
    }
}
