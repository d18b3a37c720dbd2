using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Reflection;

namespace Distill;

/// <summary>
/// A number of a configuration that may change from iteration to iteration. A plain number converts to one that stays. What
/// computes reads the number: algorithms resolve their whole configuration once an iteration (<see cref="Resolve"/>).
/// </summary>
public readonly record struct Schedule
{
    private readonly double constant;
    private readonly Curve? curve;

    private Schedule(double constant) => this.constant = constant;

    private Schedule(Curve curve) => this.curve = curve;

    /// <summary>Whether it changes.</summary>
    public bool Varies => curve is not null;

    /// <summary>The number of one that stays.</summary>
    /// <exception cref="InvalidOperationException">It varies, so the configuration was not resolved.</exception>
    public double Value =>
        curve is null
            ? constant
            : throw new InvalidOperationException(
                $"{this} is not a number; resolve the configuration first."
            );

    /// <summary>The number of one that stays, rounded to a whole one.</summary>
    public int Whole => (int)Math.Round(Value);

    /// <param name="iteration">From 0.</param>
    public double At(int iteration) => curve?.At(iteration) ?? constant;

    public static implicit operator Schedule(double value) => new(value);

    public static implicit operator Schedule(int value) => new(value);

    public static implicit operator double(Schedule schedule) => schedule.Value;

    /// <summary>In a straight line from one number to another, which is reached after so many iterations and kept.</summary>
    public static Schedule Linear(double from, double to, int iterations) =>
        new(new Line(from, to, iterations));

    /// <summary>By the same factor every iteration from one number to another of its sign, which is reached after so many iterations and kept.</summary>
    public static Schedule Exponential(double from, double to, int iterations) =>
        new(new Geometric(from, to, iterations));

    /// <summary>Along half a wave of the cosine from one number to another (Loshchilov and Hutter 2017), which is reached after so many iterations and kept.</summary>
    public static Schedule Cosine(double from, double to, int iterations) =>
        new(new HalfWave(from, to, iterations));

    /// <summary>from x factor^iteration, without end.</summary>
    public static Schedule Decay(double from, double factor) => new(new Power(from, factor));

    /// <summary>Straight lines through points; before the first and after the last it stays.</summary>
    /// <param name="points">Iteration and number, in the order of iterations; at least one.</param>
    public static Schedule Piecewise(params (int Iteration, double Value)[] points) =>
        new(new Broken([.. points]));

    /// <summary>Any function of the iteration.</summary>
    /// <param name="name">What stands for it in files.</param>
    /// <param name="at">Iteration, from 0, to the number.</param>
    public static Schedule Of(string name, Func<int, double> at) => new(new Custom(name, at));

    /// <summary>As files and the command line have it: a number, or <c>linear(1e-3,1e-4,200)</c>, <c>exponential(…)</c>,
    /// <c>cosine(…)</c>, <c>decay(1,0.7)</c>, <c>piecewise(0:1,10:0.5,20:0)</c>.</summary>
    public override string ToString() =>
        curve?.ToString() ?? constant.ToString("R", CultureInfo.InvariantCulture);

    /// <summary>The inverse of <see cref="ToString"/>.</summary>
    public static bool TryParse(string text, out Schedule schedule)
    {
        schedule = default;
        if (Number(text) is { } number)
        {
            schedule = number;
            return true;
        }
        if (text.Split('(') is not [var word, var rest] || !rest.EndsWith(')'))
            return false;
        var parts = rest[..^1].Split(',', StringSplitOptions.TrimEntries);
        var made = word == "piecewise" ? PiecewiseOf(parts) : CurveOf(word, Array.ConvertAll(parts, Number));
        schedule = made ?? default;
        return made is not null;
    }

    /// <summary>
    /// The record as it is in one iteration: itself where nothing varies, else a copy in which every schedule, also those of
    /// records within it, is a number that stays.
    /// </summary>
    public static T Resolve<T>(T record, int iteration)
        where T : notnull => (T)Resolved(record, iteration);

    /// <summary>The lowest and the highest number of so many iterations.</summary>
    public (double Lowest, double Highest) Range(int iterations)
    {
        var (lowest, highest) = (At(0), At(0));
        for (var iteration = 1; Varies && iteration < iterations; iteration++)
        {
            lowest = Math.Min(lowest, At(iteration));
            highest = Math.Max(highest, At(iteration));
        }
        return (lowest, highest);
    }

    /// <summary>Checks a record as it is in each of so many iterations.</summary>
    /// <param name="check">Throws where it cannot work.</param>
    /// <exception cref="DistillException">It cannot; where a schedule is to blame, the message says in which iteration.</exception>
    public static void Check<T>(T record, int iterations, Action<T> check)
        where T : notnull
    {
        if (!AnyVaries(record))
        {
            check(record);
            return;
        }
        for (var iteration = 0; iteration < iterations; iteration++)
            try
            {
                check(Resolve(record, iteration));
            }
            catch (DistillException error)
            {
                throw new DistillException($"In iteration {iteration + 1}: {error.Message}", error);
            }
    }

    /// <summary>Whether any schedule of the record, or of a record within it, varies.</summary>
    public static bool AnyVaries(object record) =>
        Parts(record).Any(part => part.Value is Schedule own ? own.Varies : AnyVaries(part.Value));

    private static object Resolved(object record, int iteration)
    {
        if (!AnyVaries(record))
            return record;
        var copy = record.GetType().GetMethod("<Clone>$")!.Invoke(record, null)!;
        foreach (var (property, value) in Parts(record))
            property.SetValue(
                copy,
                value is Schedule schedule ? (Schedule)schedule.At(iteration) : Resolved(value, iteration)
            );
        return copy;
    }

    /// <summary>The schedules and the records that a record consists of.</summary>
    private static IEnumerable<(PropertyInfo Property, object Value)> Parts(object record)
    {
        foreach (var property in record.GetType().GetProperties())
            if (
                property.CanWrite
                && property.GetValue(record) is { } value
                && (value is Schedule || value.GetType().GetMethod("<Clone>$") is not null)
            )
                yield return (property, value);
    }

    private static double? Number(string text) =>
        double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var value)
        && double.IsFinite(value)
            ? value
            : null;

    private static Schedule? CurveOf(string word, double?[] numbers) =>
        (word, numbers) switch
        {
            ("linear", [{ } from, { } to, { } over]) when IsWhole(over) => Linear(from, to, (int)over),
            ("cosine", [{ } from, { } to, { } over]) when IsWhole(over) => Cosine(from, to, (int)over),
            ("exponential", [{ } from, { } to, { } over]) when IsWhole(over) && from * to > 0 => Exponential(
                from,
                to,
                (int)over
            ),
            ("decay", [{ } from, { } factor]) => Decay(from, factor),
            _ => null,
        };

    private static Schedule? PiecewiseOf(string[] texts)
    {
        var points = new (int, double)[texts.Length];
        for (var i = 0; i < points.Length; i++)
            if (
                texts[i].Split(':') is [var iteration, var value]
                && Number(iteration) is { } at
                && (at == 0 || IsWhole(at))
                && Number(value) is { } number
            )
                points[i] = ((int)at, number);
            else
                return null;
        for (var i = 1; i < points.Length; i++)
            if (points[i].Item1 <= points[i - 1].Item1)
                return null;
        return Piecewise(points);
    }

    private static bool IsWhole(double value) =>
        value is >= 1 and <= int.MaxValue && value == Math.Floor(value);

    private abstract record Curve
    {
        public abstract double At(int iteration);

        protected static string Text(string word, params ReadOnlySpan<double> numbers)
        {
            var texts = new List<string>();
            foreach (var number in numbers)
                texts.Add(number.ToString("R", CultureInfo.InvariantCulture));
            return $"{word}({string.Join(',', texts)})";
        }
    }

    /// <summary>From one number to another, by the share of the way that is behind.</summary>
    private abstract record Way(double From, double To, int Iterations) : Curve
    {
        public override double At(int iteration) =>
            iteration >= Iterations ? To : At((double)iteration / Iterations);

        protected abstract double At(double share);
    }

    private sealed record Line(double From, double To, int Iterations) : Way(From, To, Iterations)
    {
        protected override double At(double share) => From + (To - From) * share;

        public override string ToString() => Text("linear", From, To, Iterations);
    }

    private sealed record Geometric(double From, double To, int Iterations) : Way(From, To, Iterations)
    {
        protected override double At(double share) => From * Math.Pow(To / From, share);

        public override string ToString() => Text("exponential", From, To, Iterations);
    }

    private sealed record HalfWave(double From, double To, int Iterations) : Way(From, To, Iterations)
    {
        protected override double At(double share) => To + (From - To) * (1 + Math.Cos(Math.PI * share)) / 2;

        public override string ToString() => Text("cosine", From, To, Iterations);
    }

    private sealed record Power(double From, double Factor) : Curve
    {
        public override double At(int iteration) => From * Math.Pow(Factor, iteration);

        public override string ToString() => Text("decay", From, Factor);
    }

    private sealed record Broken((int Iteration, double Value)[] Points) : Curve
    {
        public override double At(int iteration)
        {
            var after = Array.FindIndex(Points, point => point.Iteration > iteration);
            if (after == 0)
                return Points[0].Value;
            if (after < 0)
                return Points[^1].Value;
            var ((start, from), (end, to)) = (Points[after - 1], Points[after]);
            return from + (to - from) * (iteration - start) / (end - start);
        }

        public bool Equals(Broken? other) => other is not null && Points.SequenceEqual(other.Points);

        public override int GetHashCode() => Points.Length;

        public override string ToString() =>
            $"piecewise({string.Join(',', Points.Select(point => string.Create(CultureInfo.InvariantCulture, $"{point.Iteration}:{point.Value:R}")))})";
    }

    private sealed record Custom(string Name, Func<int, double> Function) : Curve
    {
        public override double At(int iteration) => Function(iteration);

        public override string ToString() => Name;
    }
}
