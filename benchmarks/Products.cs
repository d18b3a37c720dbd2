namespace Distill.Benchmarks;

/// <summary>The matrix product of a dense layer on one thread, beside OpenBLAS.</summary>
internal static class Products
{
    public static void Run(Session session)
    {
        const int Size = 256;
        var pool = session.Pool(1);
        foreach (var rows in session.Settings.Quick ? [64] : new[] { 256, 1024, 8192 })
        {
            using var weights = Uniform(Size * Size);
            using var bias = Uniform(Size);
            using var x = Uniform(rows * Size);
            using var y = new FloatBuffer(rows * Size);
            var length = Size * Panel.Width;
            session.Compare(
                new Case("products", $"[{rows:N0}, {Size}] x [{Size}, {Size}]", "rows/s", 1)
                {
                    Limit = (session.Peaks.Fma(pool), 2.0 * Size * Size),
                },
                session.Ours(
                    rows,
                    () =>
                    {
                        for (var start = 0; start < rows * Size; start += length)
                            Matrix.Forward(
                                weights.Span,
                                bias.Span,
                                new Panel(x.Slice(start, length), Size),
                                new Panel(y.Slice(start, length), Size)
                            );
                    }
                ),
                session.OpenBlas.Forward(rows, Size) is { } product
                    ? session.Ours(rows, product) with
                    {
                        Name = session.OpenBlas.Name,
                    }
                    : null
            );
        }
    }

    private static FloatBuffer Uniform(int length)
    {
        var buffer = new FloatBuffer(length);
        var random = new Random(1);
        foreach (ref var value in buffer.Span)
            value = random.NextSingle() - 0.5f;
        return buffer;
    }
}
