using System.Globalization;
using CsvHelper;
using Distill.Environments;
using Distill.Networks;
using Distill.Storage;

namespace Distill.Policies;

/// <summary>One teacher of a set: a row of its table.</summary>
public sealed record TeacherRow
{
    /// <summary>What it is the teacher of, by the name that the environment's specification has for it: a drone, a task.</summary>
    public required string Variant { get; init; }

    /// <summary>Its policy file, relative to the set's folder: "policies/00000.safetensors". Several rows may name the same.</summary>
    public required string Policy { get; init; }

    /// <summary>Mean return of its evaluation, alone on its variant.</summary>
    public required double Return { get; init; }

    /// <summary>Mean steps of these episodes.</summary>
    public required double Length { get; init; }

    /// <summary>Share of them that ended in a terminal state, in [0, 1].</summary>
    public required double ShareTerminated { get; init; }

    /// <summary>
    /// Mean over these episodes of the measure of the environment's by which the set's policies were found (<see cref="TeacherSet.Measure"/>);
    /// null where they were found by another.
    /// </summary>
    public double? Measure { get; init; }

    /// <summary>How many they were.</summary>
    public required long Episodes { get; init; }

    /// <summary>CPU time that its training took, s.</summary>
    public required double CoreSeconds { get; init; }

    /// <summary>Seed of its training.</summary>
    public required ulong Seed { get; init; }

    /// <summary>How it was made, in a word.</summary>
    public required string Recipe { get; init; }
}

/// <summary>
/// A folder of teachers, each for one variant of an environment: the table <c>teachers.csv</c>, the policies that it names, and
/// for quadrotors the parameters of the drones, so that the set is whole by itself.
/// </summary>
public sealed class TeacherSet
{
    /// <summary>Rows that a table may have.</summary>
    public const int MostTeachers = 100_000;

    /// <summary>Its folder of policy files.</summary>
    public const string Policies = "policies";

    /// <summary>Its folder of critics, those of each variant in a folder of their own, where they are kept.</summary>
    public const string Critics = "critics";

    /// <summary>Its folder of drones, a parameter file for each.</summary>
    public const string Drones = "drones";

    private const string Table = "teachers.csv";
    private const string Kind = "table of teachers";
    private const long MostBytes = 32L << 20;

    private static readonly string[] Columns =
    [
        "variant",
        "policy",
        "return",
        "length",
        "share_terminated",
        "episodes",
        "core_seconds",
        "seed",
        "recipe",
    ];

    /// <param name="folder">Where the policies are.</param>
    /// <param name="measure">Name of the measure that each row has beside its return; null for none.</param>
    /// <exception cref="DistillException">There is no row, a variant stands twice, or a row has what cannot be.</exception>
    public TeacherSet(string folder, IReadOnlyList<TeacherRow> teachers, string? measure = null)
    {
        Folder = folder;
        Teachers = teachers;
        Measure = measure;
        if (teachers.Count is 0 or > MostTeachers)
            throw new DistillException(
                $"The set of teachers {folder} has {teachers.Count} teachers; it must have between 1 and {MostTeachers}."
            );
        if (
            teachers.CountBy(teacher => teacher.Variant).FirstOrDefault(one => one.Value > 1) is
            { Key: { } twice }
        )
            throw new DistillException($"The set of teachers {folder} has the variant '{twice}' twice.");
        foreach (var teacher in teachers)
            Check(teacher);
    }

    public string Folder { get; }

    /// <summary>Name of the measure that each teacher has beside its return, the last column of the table; null where there is none.</summary>
    public string? Measure { get; }

    /// <summary>In the order of the table.</summary>
    public IReadOnlyList<TeacherRow> Teachers { get; }

    /// <summary>Whether a path is a folder with a table of teachers.</summary>
    public static bool IsAt(string path) => File.Exists(Path.Combine(path, Table));

    /// <summary>Reads the table of a folder; the policies are read by <see cref="Load"/>.</summary>
    /// <exception cref="DistillException">It is missing, too large, or not such a table.</exception>
    public static TeacherSet Read(string folder)
    {
        var (rows, measure) = InputFile.Parse(
            Path.Combine(folder, Table),
            Kind,
            stream =>
            {
                InputFile.CheckLength(stream, MostBytes);
                return Rows(stream);
            }
        );
        return new(folder, rows, measure);
    }

    /// <summary>Writes the table into the folder, which must exist; an old one is replaced in one move.</summary>
    /// <exception cref="DistillException">It cannot be written.</exception>
    public void Write() =>
        AtomicFile.Write(
            Path.Combine(Folder, Table),
            stream =>
            {
                using var csv = CsvWriter.Create(
                    stream,
                    new CsvWriterOptions { NewLine = "\n" },
                    leaveOpen: true
                );
                csv.WriteRecord(Measure is { } name ? [.. Columns, name] : Columns);
                foreach (var row in Teachers)
                    csv.WriteRecord([
                        row.Variant,
                        row.Policy,
                        Text(row.Return),
                        Text(row.Length),
                        Text(row.ShareTerminated),
                        Text(row.Episodes),
                        Text(row.CoreSeconds),
                        Text(row.Seed),
                        row.Recipe,
                        .. Measure is null ? Array.Empty<string>() : [Text(row.Measure!.Value)],
                    ]);
            }
        );

    /// <summary>The teachers from the highest return to the lowest; of equal ones the earlier in the table first.</summary>
    public IEnumerable<TeacherRow> Ranked => Teachers.OrderByDescending(teacher => teacher.Return);

    /// <summary>The best teachers, from the highest return.</summary>
    /// <exception cref="DistillException">There are not so many.</exception>
    public TeacherSet Top(int number) =>
        number >= 1 && number <= Teachers.Count
            ? new(Folder, [.. Ranked.Take(number)], Measure)
            : throw new DistillException(
                $"The set of teachers {Folder} has {Teachers.Count}; the best {number} of them cannot be taken."
            );

    /// <summary>Those whose return is at least this, in the order of the table.</summary>
    /// <exception cref="DistillException">None is.</exception>
    public TeacherSet AtLeast(double least)
    {
        TeacherRow[] enough = [.. Teachers.Where(teacher => teacher.Return >= least)];
        return enough.Length > 0
            ? new(Folder, enough, Measure)
            : throw new DistillException(
                $"No teacher of {Folder} has a return of at least {Text(least)}; the best has {Text(Ranked.First().Return)}."
            );
    }

    /// <summary>Reads the policies of an environment's variants, each file once.</summary>
    /// <param name="observationGroup">The group they read; null for what the files say.</param>
    /// <param name="activation">Of their hidden layers; null for what the files say.</param>
    /// <exception cref="DistillException">
    /// The environment has no variants, one has no teacher, or a policy cannot be read or does not fit.
    /// </exception>
    public TeacherPolicies Load(
        EnvironmentSpec environment,
        string? observationGroup = null,
        Activation? activation = null
    )
    {
        if (environment.Variants.Count == 0)
            throw new DistillException(
                $"{Folder} is a set of teachers, each for one variant, but the environments of {environment.Name} are all alike; "
                    + "name a policy file."
            );
        var rows = Teachers.ToDictionary(teacher => teacher.Variant);
        var files = new Dictionary<string, int>();
        var policies = new List<Policy>();
        var ofVariant = new int[environment.Variants.Count];
        try
        {
            for (var variant = 0; variant < ofVariant.Length; variant++)
                ofVariant[variant] = Index(environment.Variants[variant]);
            return new(policies, ofVariant);
        }
        catch
        {
            foreach (var policy in policies)
                policy.Dispose();
            throw;
        }

        int Index(string variant)
        {
            if (!rows.TryGetValue(variant, out var row))
                throw new DistillException(
                    $"The set of teachers {Folder} has none for '{variant}', one of the {ofVariant.Length} variants of "
                        + $"{environment.Name}; each needs its teacher."
                );
            if (files.TryGetValue(row.Policy, out var known))
                return known;
            var policy = PolicyFile.Load(Path.Combine(Folder, row.Policy), observationGroup, activation);
            policies.Add(policy);
            policy.Check(environment, $"teacher of '{variant}'");
            return files[row.Policy] = policies.Count - 1;
        }
    }

    private static (List<TeacherRow> Rows, string? Measure) Rows(Stream stream)
    {
        var rows = new List<TeacherRow>();
        string? measure = null;
        try
        {
            using var csv = CsvReader.Create(stream, new CsvReaderOptions(), leaveOpen: true);
            csv.ReadHeader();
            var head = csv.Headers.ToArray();
            if (
                !head.AsSpan(0, Math.Min(head.Length, Columns.Length)).SequenceEqual(Columns)
                || head.Length > Columns.Length + 1
            )
                throw new InvalidDataException(
                    $"its columns must be {string.Join(',', Columns)}, and at most one measure"
                );
            measure = head.Length > Columns.Length ? head[^1] : null;
            while (csv.Read())
            {
                if (csv.FieldCount != head.Length)
                    throw new InvalidDataException(
                        $"row {rows.Count + 1} has {csv.FieldCount} fields where there are {head.Length} columns"
                    );
                if (rows.Count == MostTeachers)
                    throw new InvalidDataException($"it has more than {MostTeachers} rows");
                rows.Add(Row([.. Enumerable.Range(0, head.Length).Select(csv.GetString)], rows.Count + 1));
            }
        }
        catch (Exception e) when (e is CsvFormatException or ArgumentException)
        {
            throw new InvalidDataException("it is not comma-separated values", e);
        }
        return (rows, measure);
    }

    private static TeacherRow Row(string[] fields, int number)
    {
        return new()
        {
            Variant = fields[0],
            Policy = fields[1],
            Return = Number<double>(2),
            Length = Number<double>(3),
            ShareTerminated = Number<double>(4),
            Episodes = Number<long>(5),
            CoreSeconds = Number<double>(6),
            Seed = Number<ulong>(7),
            Recipe = fields[8],
            Measure = fields.Length > 9 ? Number<double>(9) : null,
        };

        T Number<T>(int column)
            where T : System.Numerics.INumber<T> =>
            T.TryParse(
                fields[column],
                NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent,
                CultureInfo.InvariantCulture,
                out var value
            ) && T.IsFinite(value)
                ? value
                : throw new InvalidDataException(
                    $"row {number} has '{fields[column]}' for {(column < Columns.Length ? Columns[column] : "its measure")}, which is not a number"
                );
    }

    private void Check(TeacherRow teacher)
    {
        Require(teacher.Variant != "", "variant", "empty", "a name");
        Require(
            !Path.IsPathRooted(teacher.Policy)
                && !teacher.Policy.Split('/', '\\').Contains("..")
                && teacher.Policy != "",
            "policy",
            teacher.Policy,
            "a path within the folder"
        );
        Require(double.IsFinite(teacher.Return), "return", Text(teacher.Return), "a number");
        Require(
            Measure is null
                ? teacher.Measure is null
                : teacher.Measure is { } value && double.IsFinite(value),
            Measure ?? "measure",
            teacher.Measure is { } own ? Text(own) : "left out",
            Measure is null ? "left out" : "a number"
        );
        Require(
            teacher.Length is >= 0 and < double.PositiveInfinity,
            "length",
            Text(teacher.Length),
            "at least 0"
        );
        Require(
            teacher.ShareTerminated is >= 0 and <= 1,
            "share_terminated",
            Text(teacher.ShareTerminated),
            "in [0, 1]"
        );
        Require(teacher.Episodes >= 0, "episodes", Text(teacher.Episodes), "at least 0");
        Require(
            teacher.CoreSeconds is >= 0 and < double.PositiveInfinity,
            "core_seconds",
            Text(teacher.CoreSeconds),
            "at least 0"
        );

        void Require(bool holds, string column, string value, string right)
        {
            if (!holds)
                throw new DistillException(
                    $"The set of teachers {Folder} has a teacher of '{teacher.Variant}' whose {column} is {value}; it must be {right}."
                );
        }
    }

    private static string Text(IFormattable value) => value.ToString(null, CultureInfo.InvariantCulture);
}

/// <summary>Policies that are the teachers of an environment's variants, or among which an observation group chooses.</summary>
/// <param name="policies">Disposed here.</param>
/// <param name="ofVariant">Index of each variant's policy.</param>
/// <param name="chosenBy">Observation group whose number is the index of the policy to ask, in every step; null to go by variants.</param>
public sealed class TeacherPolicies(
    IReadOnlyList<Policy> policies,
    IReadOnlyList<int> ofVariant,
    string? chosenBy = null
) : ITeachers
{
    /// <summary>One teacher of all variants.</summary>
    public static TeacherPolicies Of(Policy policy, EnvironmentSpec environment) =>
        new([policy], new int[Math.Max(1, environment.Variants.Count)]);

    public IReadOnlyList<Policy> Policies => policies;

    /// <summary>Index in <see cref="Policies"/> of the teacher of each variant.</summary>
    public IReadOnlyList<int> OfVariant => ofVariant;

    /// <summary>Several teachers, of which an observation group chooses.</summary>
    public static TeacherPolicies Choosing(
        IReadOnlyList<Policy> policies,
        EnvironmentSpec environment,
        string chosenBy
    ) => new(policies, new int[Math.Max(1, environment.Variants.Count)], chosenBy);

    /// <summary>Lets each label the environments of its variants, or those where it is chosen.</summary>
    /// <inheritdoc cref="ITeachers.Teach"/>
    public ITeacher Teach(IBatchedEnvironment environment, RandomStream? noise = null) =>
        new PolicyTeacher(
            policies,
            environment,
            [.. Enumerable.Range(0, environment.Count).Select(env => ofVariant[environment.VariantOf(env)])],
            noise,
            chosenBy
        );

    public void Dispose()
    {
        foreach (var policy in policies)
            policy.Dispose();
    }
}
