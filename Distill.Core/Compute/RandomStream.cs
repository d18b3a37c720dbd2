using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>
/// A named stream of random numbers. It has no state: a number is a function of (seed, name, counter), so environment
/// 17's third reset does not depend on who computes it, in which order, or on how many threads. Callers choose the four
/// counter words, for example (environment, episode, draw, 0).
/// </summary>
public readonly record struct RandomStream
{
    private const int WordsAtOnce = 256;

    private static readonly Kernels<RandomKernels> Kernels = new(typeof(RandomW512));

    internal readonly uint Key0;
    internal readonly uint Key1;
    internal readonly uint Key2;
    internal readonly uint Key3;

    /// <param name="seed">The experiment's seed.</param>
    /// <param name="name">What the numbers are for, e.g. "environment.reset"; different names are independent.</param>
    public RandomStream(ulong seed, string name)
    {
        var hash = 14695981039346656037ul;
        foreach (var character in name)
            hash = (hash ^ character) * 1099511628211ul;
        (Key0, Key1) = ((uint)seed, (uint)(seed >> 32));
        (Key2, Key3) = ((uint)hash, (uint)(hash >> 32));
    }

    /// <summary>A stream with its four key words given; the known-answer tests use it.</summary>
    internal RandomStream(uint key0, uint key1, uint key2, uint key3) =>
        (Key0, Key1, Key2, Key3) = (key0, key1, key2, key3);

    /// <summary>A seed for something that has streams of its own, such as the environments of an evaluation.</summary>
    public ulong Seed()
    {
        var (low, high, _, _) = Bits(0);
        return ((ulong)high << 32) | low;
    }

    /// <summary>Four random words for one counter.</summary>
    public (uint X0, uint X1, uint X2, uint X3) Bits(uint c0, uint c1 = 0, uint c2 = 0, uint c3 = 0)
    {
        var x0 = Vector128.Create(c0);
        var x1 = Vector128.Create(c1);
        var x2 = Vector128.Create(c2);
        var x3 = Vector128.Create(c3);
        RandomW128.Bits(this, ref x0, ref x1, ref x2, ref x3);
        return (x0[0], x1[0], x2[0], x3[0]);
    }

    /// <summary>Uniform on [0, 1), a multiple of 2^-24.</summary>
    public float Uniform(uint c0, uint c1 = 0, uint c2 = 0, uint c3 = 0) =>
        RandomW128.Uniform(Vector128.Create(Bits(c0, c1, c2, c3).X0))[0];

    /// <summary><see cref="Uniform"/> for the counters (first + i, c1, c2): as many as the span holds, a multiple of 16.</summary>
    public void Uniforms(Span<float> values, uint first, uint c1 = 0, uint c2 = 0)
    {
        Span<uint> high = stackalloc uint[WordsAtOnce];
        Span<uint> low = stackalloc uint[WordsAtOnce];
        for (var start = 0; start < values.Length; start += WordsAtOnce)
        {
            var part = values[start..Math.Min(start + WordsAtOnce, values.Length)];
            Kernels.InUse.Words(
                this,
                high[..part.Length],
                low[..part.Length],
                first + (uint)start,
                c1,
                c2,
                0
            );
            for (var i = 0; i < part.Length; i++)
                part[i] = (high[i] >> 8) * (1f / (1 << 24));
        }
    }

    /// <summary>Standard normal.</summary>
    public float Normal(uint c0, uint c1 = 0, uint c2 = 0, uint c3 = 0)
    {
        var (a, b, _, _) = Bits(c0, c1, c2, c3);
        RandomW128.Normal(Vector128.Create(a), Vector128.Create(b), out var normal, out _);
        return normal[0];
    }

    /// <summary>Fills a panel <c>[features, 32]</c> with standard normals; lane l's are a function of (first + l, c1, c2).</summary>
    public void Normals(Span<float> panel, uint first, uint c1 = 0, uint c2 = 0)
    {
        if (panel.Length % Panel.Width != 0)
            throw new ArgumentException($"A span of {panel.Length} floats is not a panel.", nameof(panel));
        Kernels.InUse.Normals(this, panel, first, c1, c2);
    }

    /// <summary>Fills with the numbers 0 .. length - 1 in random order (Fisher-Yates).</summary>
    public void Permutation(Span<int> order, uint c0, uint c1 = 0)
    {
        for (var i = 0; i < order.Length; i++)
            order[i] = i;
        Span<uint> high = stackalloc uint[WordsAtOnce];
        Span<uint> low = stackalloc uint[WordsAtOnce];
        for (var block = (order.Length - 1) / WordsAtOnce; block >= 0; block--)
        {
            var first = block * WordsAtOnce;
            Kernels.InUse.Words(this, high, low, (uint)first, c0, c1, 0x5045524D);
            for (var i = Math.Min(WordsAtOnce, order.Length - first) - 1; i >= 0 && first + i > 0; i--)
            {
                var wide = ((ulong)high[i] << 32) | low[i];
                var place = first + i;
                var j = (int)Math.BigMul(wide, (ulong)(place + 1), out _);
                (order[place], order[j]) = (order[j], order[place]);
            }
        }
    }
}

/// <summary>Random numbers for many counters at once; all versions give the same bits.</summary>
internal abstract class RandomKernels
{
    /// <summary>See <see cref="RandomStream.Normals"/>.</summary>
    public abstract void Normals(RandomStream stream, Span<float> panel, uint first, uint c1, uint c2);

    /// <summary>The first two words for the counters (first + i, c1, c2, c3); as many as both spans hold, a multiple of 16.</summary>
    public abstract void Words(
        RandomStream stream,
        Span<uint> high,
        Span<uint> low,
        uint first,
        uint c1,
        uint c2,
        uint c3
    );
}
