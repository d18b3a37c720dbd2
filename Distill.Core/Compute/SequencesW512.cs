using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>
/// The parts of a transformer, sixteen sequences at a time. Everything is vertical: what is summed over lanes goes through
/// sixteen running sums, whatever the width. Attention takes two queries at a time and keeps their rows of weights in
/// scratch, so that weights are computed again in backward and never stored (Dao et al. 2022, "FlashAttention").
/// </summary>
internal sealed unsafe class SequencesW512 : SequenceKernels
{
    private const int Lanes = Sequences.Lanes;

    public override void Products(
        float* a,
        nint aRow,
        int rows,
        float* b,
        nint bRow,
        int others,
        int columns,
        float* c
    )
    {
        var sums = stackalloc float[16 * Lanes + Panel.Padding];
        sums = (float*)(((nuint)sums + 63) & ~(nuint)63);
        // Sixteen accumulators need 32 registers, which come with the widest vectors.
        var wide = Vector512<float>.Count == Lanes ? 4 : 2;
        for (var row = 0; row < rows; )
        {
            var height = row + 4 <= rows ? 4 : 1;
            for (var other = 0; other < others; )
            {
                var width = height == 4 && other + wide <= others ? wide : 1;
                float* first = a + row * aRow;
                float* second = b + other * bRow;
                for (var lane = 0; lane < Lanes; lane += Vector512<float>.Count)
                    if (width == 4)
                        Tile4x4(first + lane, aRow, second + lane, bRow, columns, sums + lane);
                    else if (width == 2)
                        Tile4x2(first + lane, aRow, second + lane, bRow, columns, sums + lane);
                    else
                        for (var i = 0; i < height; i++)
                            Tile1x1(first + i * aRow + lane, second + lane, columns, sums + i * Lanes + lane);
                for (var i = 0; i < height; i++)
                for (var j = 0; j < width; j++)
                    c[(row + i) * others + other + j] += Sum(sums + (i * width + j) * Lanes);
                other += width;
            }
            row += height;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4x4(float* a, nint aRow, float* b, nint bRow, int columns, float* sums)
    {
        Vector512<float> s00,
            s01,
            s02,
            s03,
            s10,
            s11,
            s12,
            s13,
            s20,
            s21,
            s22,
            s23,
            s30,
            s31,
            s32,
            s33;
        s00 =
            s01 =
            s02 =
            s03 =
            s10 =
            s11 =
            s12 =
            s13 =
            s20 =
            s21 =
            s22 =
            s23 =
            s30 =
            s31 =
            s32 =
            s33 =
                Vector512<float>.Zero;
        float* a3 = a + 3 * aRow;
        float* b3 = b + 3 * bRow;
        nint aRow2 = 2 * aRow;
        nint bRow2 = 2 * bRow;
        for (nint i = 0; i < columns; i += Lanes)
        {
            var b0 = Vector512.Load(b + i);
            var b1 = Vector512.Load(b + bRow + i);
            var b2 = Vector512.Load(b + bRow2 + i);
            var bThird = Vector512.Load(b3 + i);
            var x = Vector512.Load(a + i);
            s00 = Vector512.FusedMultiplyAdd(x, b0, s00);
            s01 = Vector512.FusedMultiplyAdd(x, b1, s01);
            s02 = Vector512.FusedMultiplyAdd(x, b2, s02);
            s03 = Vector512.FusedMultiplyAdd(x, bThird, s03);
            x = Vector512.Load(a + aRow + i);
            s10 = Vector512.FusedMultiplyAdd(x, b0, s10);
            s11 = Vector512.FusedMultiplyAdd(x, b1, s11);
            s12 = Vector512.FusedMultiplyAdd(x, b2, s12);
            s13 = Vector512.FusedMultiplyAdd(x, bThird, s13);
            x = Vector512.Load(a + aRow2 + i);
            s20 = Vector512.FusedMultiplyAdd(x, b0, s20);
            s21 = Vector512.FusedMultiplyAdd(x, b1, s21);
            s22 = Vector512.FusedMultiplyAdd(x, b2, s22);
            s23 = Vector512.FusedMultiplyAdd(x, bThird, s23);
            x = Vector512.Load(a3 + i);
            s30 = Vector512.FusedMultiplyAdd(x, b0, s30);
            s31 = Vector512.FusedMultiplyAdd(x, b1, s31);
            s32 = Vector512.FusedMultiplyAdd(x, b2, s32);
            s33 = Vector512.FusedMultiplyAdd(x, bThird, s33);
        }
        s00.Store(sums);
        s01.Store(sums + Lanes);
        s02.Store(sums + 2 * Lanes);
        s03.Store(sums + 3 * Lanes);
        s10.Store(sums + 4 * Lanes);
        s11.Store(sums + 5 * Lanes);
        s12.Store(sums + 6 * Lanes);
        s13.Store(sums + 7 * Lanes);
        s20.Store(sums + 8 * Lanes);
        s21.Store(sums + 9 * Lanes);
        s22.Store(sums + 10 * Lanes);
        s23.Store(sums + 11 * Lanes);
        s30.Store(sums + 12 * Lanes);
        s31.Store(sums + 13 * Lanes);
        s32.Store(sums + 14 * Lanes);
        s33.Store(sums + 15 * Lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4x2(float* a, nint aRow, float* b, nint bRow, int columns, float* sums)
    {
        Vector512<float> s00,
            s01,
            s10,
            s11,
            s20,
            s21,
            s30,
            s31;
        s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = Vector512<float>.Zero;
        float* a3 = a + 3 * aRow;
        nint aRow2 = 2 * aRow;
        for (nint i = 0; i < columns; i += Lanes)
        {
            var b0 = Vector512.Load(b + i);
            var b1 = Vector512.Load(b + bRow + i);
            var x = Vector512.Load(a + i);
            s00 = Vector512.FusedMultiplyAdd(x, b0, s00);
            s01 = Vector512.FusedMultiplyAdd(x, b1, s01);
            x = Vector512.Load(a + aRow + i);
            s10 = Vector512.FusedMultiplyAdd(x, b0, s10);
            s11 = Vector512.FusedMultiplyAdd(x, b1, s11);
            x = Vector512.Load(a + aRow2 + i);
            s20 = Vector512.FusedMultiplyAdd(x, b0, s20);
            s21 = Vector512.FusedMultiplyAdd(x, b1, s21);
            x = Vector512.Load(a3 + i);
            s30 = Vector512.FusedMultiplyAdd(x, b0, s30);
            s31 = Vector512.FusedMultiplyAdd(x, b1, s31);
        }
        s00.Store(sums);
        s01.Store(sums + Lanes);
        s10.Store(sums + 2 * Lanes);
        s11.Store(sums + 3 * Lanes);
        s20.Store(sums + 4 * Lanes);
        s21.Store(sums + 5 * Lanes);
        s30.Store(sums + 6 * Lanes);
        s31.Store(sums + 7 * Lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1x1(float* a, float* b, int columns, float* sums)
    {
        var sum = Vector512<float>.Zero;
        for (nint i = 0; i < columns; i += Lanes)
            sum = Vector512.FusedMultiplyAdd(Vector512.Load(a + i), Vector512.Load(b + i), sum);
        sum.Store(sums);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void AddNorm(
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
    )
    {
        var share = Vector512.Create(1f / features);
        for (nint i = 0; i < columns; i += Vector512<float>.Count)
        {
            var sum = Vector512<float>.Zero;
            for (var f = 0; f < features; f += 2)
            {
                var even = Vector512.Load(branch + f * branchRow + i);
                var odd = Vector512.Load(branch + (f + 1) * branchRow + i);
                if (dropout.Threshold > 0)
                {
                    var word = Word(dropout, (uint)(f / 2 * columns + i) / Lanes, (int)i % Lanes);
                    even = Kept(even, word, dropout);
                    odd = Kept(odd, word >> 16, dropout);
                }
                if (residual is not null)
                {
                    even += Vector512.Load(residual + f * residualRow + i);
                    odd += Vector512.Load(residual + (f + 1) * residualRow + i);
                }
                even.Store(normed + f * normedRow + i);
                odd.Store(normed + (f + 1) * normedRow + i);
                sum += even;
                sum += odd;
            }
            var mean = sum * share;
            var squares = Vector512<float>.Zero;
            for (var f = 0; f < features; f++)
            {
                var x = Vector512.Load(normed + f * normedRow + i) - mean;
                squares = Vector512.FusedMultiplyAdd(x, x, squares);
            }
            var scale =
                Vector512<float>.One
                / Vector512.Sqrt(Vector512.FusedMultiplyAdd(squares, share, Vector512.Create(epsilon)));
            scale.Store(scales + i);
            for (var f = 0; f < features; f++)
            {
                var x = (Vector512.Load(normed + f * normedRow + i) - mean) * scale;
                x.Store(normed + f * normedRow + i);
                Vector512
                    .FusedMultiplyAdd(x, Vector512.Create(gain[f]), Vector512.Create(bias[f]))
                    .Store(y + f * yRow + i);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void AddNormBackward(
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
    )
    {
        var share = Vector512.Create(1f / features);
        for (nint i = 0; i < columns; i += Vector512<float>.Count)
        {
            var sum = Vector512<float>.Zero;
            var along = Vector512<float>.Zero;
            for (var f = 0; f < features; f++)
            {
                var d = Vector512.Load(dy + f * dyRow + i) * Vector512.Create(gain[f]);
                sum += d;
                along = Vector512.FusedMultiplyAdd(d, Vector512.Load(normed + f * normedRow + i), along);
            }
            var mean = sum * share;
            along *= share;
            var scale = Vector512.Load(scales + i);
            for (var f = 0; f < features; f += 2)
            {
                var even = Slope(gain[f], dy + f * dyRow + i, normed + f * normedRow + i, mean, along, scale);
                var odd = Slope(
                    gain[f + 1],
                    dy + (f + 1) * dyRow + i,
                    normed + (f + 1) * normedRow + i,
                    mean,
                    along,
                    scale
                );
                if (dropout.Threshold > 0)
                {
                    var word = Word(dropout, (uint)(f / 2 * columns + i) / Lanes, (int)i % Lanes);
                    even = Kept(even, word, dropout);
                    odd = Kept(odd, word >> 16, dropout);
                }
                even.Store(dBranch + f * branchRow + i);
                odd.Store(dBranch + (f + 1) * branchRow + i);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Slope(
        float gain,
        float* dy,
        float* normed,
        Vector512<float> mean,
        Vector512<float> along,
        Vector512<float> scale
    )
    {
        var d = Vector512.FusedMultiplyAdd(Vector512.Load(dy), Vector512.Create(gain), -mean);
        d = Vector512.FusedMultiplyAdd(-along, Vector512.Load(normed), d) * scale;
        d.Store(dy);
        return d;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Relu(float* x, nint row, int features, int columns, DropoutArguments dropout)
    {
        for (var f = 0; f < features; f += 2)
        {
            var even = x + f * row;
            var odd = even + row;
            for (nint i = 0; i < columns; i += Vector512<float>.Count)
            {
                var a = Vector512.Load(even + i);
                var b = Vector512.Load(odd + i);
                a = Vector512.AndNot(a, Vector512.LessThanOrEqual(a, Vector512<float>.Zero));
                b = Vector512.AndNot(b, Vector512.LessThanOrEqual(b, Vector512<float>.Zero));
                if (dropout.Threshold > 0)
                {
                    var word = Word(dropout, (uint)(f / 2 * columns + i) / Lanes, (int)i % Lanes);
                    a = Kept(a, word, dropout);
                    b = Kept(b, word >> 16, dropout);
                }
                a.Store(even + i);
                b.Store(odd + i);
            }
        }
    }

    public override void ReluBackward(float* y, float* dy, int columns, float scale)
    {
        var factor = Vector512.Create(scale);
        for (nint i = 0; i < columns; i += Vector512<float>.Count)
        {
            var positive = Vector512.GreaterThan(Vector512.Load(y + i), Vector512<float>.Zero);
            (Vector512.Load(dy + i) * factor & positive).Store(dy + i);
        }
    }

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
        for (var i = 0; i < tokens; i += 2)
        {
            // An odd number of tokens ends with the same query twice; the second is overwritten.
            var (a, b) = (i * Lanes + lane, Math.Min(i + 1, tokens - 1) * Lanes + lane);
            float* weights = scratch + lane;
            for (var part = 0; part < head.Size; part += 4)
                Scores(
                    head.Q + part * head.Stride + a,
                    head.Q + part * head.Stride + b,
                    head.Stride,
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
                    head.Q + part * head.Stride + a,
                    head.Q + part * head.Stride + b,
                    head.Stride,
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
                    head.Q + part * head.Stride + a,
                    head.Q + part * head.Stride + b,
                    head.Stride,
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
            var word = Word(dropout, first + (uint)(j / Lanes), lane);
            (Vector512.Load(weights + j) & Keep(word, dropout)).Store(weights + j);
            (Vector512.Load(weights + columns + j) & Keep(word >> 16, dropout)).Store(weights + columns + j);
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
                var word = Word(dropout, first + (uint)(j / Lanes), lane);
                var keepA = Keep(word, dropout) & Vector512.Create(dropout.Scale);
                var keepB = Keep(word >> 16, dropout) & Vector512.Create(dropout.Scale);
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

    /// <summary>
    /// A random word for each lane: its key and the counter, mixed (the finalizer "lowbias32"). Words of Threefry would cost more
    /// than the attention that they are for.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> Word(DropoutArguments dropout, uint counter, int lane)
    {
        var x =
            Vector512.Load(dropout.Keys + lane) + Vector512.Create((dropout.First + counter) * 0x9E3779B9u);
        x = (x ^ (x >> 16)) * Vector512.Create(0x7FEB352Du);
        x = (x ^ (x >> 15)) * Vector512.Create(0x846CA68Bu);
        return x ^ (x >> 16);
    }

    /// <summary>All bits of what the low half of a random word keeps.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Keep(Vector512<uint> word, DropoutArguments dropout) =>
        Vector512
            .GreaterThanOrEqual(
                (word & Vector512.Create(0xFFFFu)).AsInt32(),
                Vector512.Create(dropout.Threshold)
            )
            .AsSingle();

    /// <summary>The value scaled, or 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Kept(
        Vector512<float> value,
        Vector512<uint> word,
        DropoutArguments dropout
    ) => value * Vector512.Create(dropout.Scale) & Keep(word, dropout);
}
