using System.Diagnostics;

namespace Distill.Benchmarks;

/// <summary>A limit of the machine, measured in the same repetitions as the work that is compared with it.</summary>
/// <param name="Name">"FMA" or "memory".</param>
/// <param name="Unit">What is counted per second.</param>
/// <param name="Rate">Measures once, for a few milliseconds.</param>
internal sealed record Peak(string Name, string Unit, Func<double> Rate);

/// <summary>Measures what the machine can do at most, on the instruction-set path in use.</summary>
internal sealed class Peaks(Settings settings) : IDisposable
{
    private readonly MultiplyAdds multiplyAdds = new(settings.Quick ? 1_000 : 500_000);
    private readonly Lazy<Triad> triad = new(() => new Triad(settings.Quick ? 1 << 16 : 1 << 24));

    /// <summary>Multiply-adds from registers: floating-point operations per second of all threads of the pool.</summary>
    public Peak Fma(WorkerPool pool) =>
        new("FMA", "FLOP/s", () => Rate(pool, multiplyAdds, 8 * pool.Threads, multiplyAdds.Operations));

    /// <summary>Triad over arrays that fit no cache: bytes per second read and written by all threads of the pool.</summary>
    public Peak Memory(WorkerPool pool) =>
        new("memory", "B/s", () => Rate(pool, triad.Value, Triad.Parts, triad.Value.BytesPerPart));

    public void Dispose()
    {
        if (triad.IsValueCreated)
            triad.Value.Dispose();
    }

    private static double Rate(WorkerPool pool, IWork work, int items, double perItem)
    {
        var start = Stopwatch.GetTimestamp();
        pool.Run(work, items);
        return items * perItem / Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private sealed class MultiplyAdds(int rounds) : IWork
    {
        private float result;

        public double Operations =>
            (double)rounds
            * Simd.Path switch
            {
                InstructionSet.Avx512 => PeakW512.OperationsPerRound,
                InstructionSet.Avx2 => PeakW256.OperationsPerRound,
                _ => PeakW128.OperationsPerRound,
            };

        public void Run(int item, int worker) =>
            // Stored, so that it must be computed.
            Volatile.Write(
                ref result,
                Simd.Path switch
                {
                    InstructionSet.Avx512 => PeakW512.MultiplyAdd(rounds),
                    InstructionSet.Avx2 => PeakW256.MultiplyAdd(rounds),
                    _ => PeakW128.MultiplyAdd(rounds),
                }
            );
    }

    private sealed class Triad : IWork, IDisposable
    {
        public const int Parts = 64;
        private readonly FloatBuffer a;
        private readonly FloatBuffer b;
        private readonly FloatBuffer c;

        public Triad(int length)
        {
            (a, b, c) = (new(length), new(length), new(length));
            // Untouched pages would all be the one page of zeros.
            foreach (var buffer in new[] { a, b, c })
                buffer.Span.Fill(1);
        }

        public double BytesPerPart => 3.0 * sizeof(float) * a.Length / Parts;

        public void Run(int item, int worker)
        {
            var length = a.Length / Parts;
            var target = Part(a);
            var first = Part(b);
            var second = Part(c);
            switch (Simd.Path)
            {
                case InstructionSet.Avx512:
                    PeakW512.Triad(target, first, second, 3);
                    break;
                case InstructionSet.Avx2:
                    PeakW256.Triad(target, first, second, 3);
                    break;
                default:
                    PeakW128.Triad(target, first, second, 3);
                    break;
            }
            Span<float> Part(FloatBuffer buffer) => buffer.Slice(item * length, length);
        }

        public void Dispose()
        {
            a.Dispose();
            b.Dispose();
            c.Dispose();
        }
    }
}
