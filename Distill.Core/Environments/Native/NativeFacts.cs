using System.Runtime.InteropServices;

namespace Distill.Environments.Native;

/// <summary>What a library says of its environments.</summary>
/// <param name="StateBytes">Bytes in which it keeps an environment for checkpoints; 0 where it does not.</param>
internal sealed record NativeFacts(EnvironmentSpec Spec, int StateBytes)
{
    private const int Version = 1;
    private const int LongestList = 4096;
    private const int MostNumbers = 1 << 20;
    private const int MostBytes = 1 << 24;
    private const int MostSteps = 1 << 24;

    /// <summary><c>distill_facts</c> of <c>native/distill_environment.h</c>; likewise below.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Facts(
        int Version,
        int EpisodeLimit,
        double StepSeconds,
        nint Name,
        nint Groups,
        int ActionSize,
        int ActionIsDiscrete,
        nint ActionMeaning,
        nint Measures,
        nint Variants,
        int StateBytes
    );

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Component(nint Name, int Size);

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Group(nint Name, nint Components);

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Measure(nint Name, nint Unit, int Over, int HigherIsBetter);

    /// <param name="at">Where the library keeps its facts.</param>
    /// <param name="library">How messages call it.</param>
    /// <exception cref="DistillException">They are of another version, or say what cannot be.</exception>
    public static NativeFacts Read(nint at, string library)
    {
        var version = Marshal.ReadInt32(at);
        if (version != Version)
            throw new DistillException(
                $"{library} was built for version {version} of distill_environment.h, but this is version {Version}; build it anew."
            );
        var facts = Marshal.PtrToStructure<Facts>(at);
        RequireWithin(1, MostSteps, facts.EpisodeLimit, "episode_limit");
        Require(
            facts.StepSeconds is > 0 and < double.PositiveInfinity,
            "step_seconds",
            facts.StepSeconds,
            "above 0"
        );
        RequireWithin(1, MostNumbers, facts.ActionSize, "action_size");
        RequireWithin(0, 1, facts.ActionIsDiscrete, "action_is_discrete");
        RequireWithin(0, MostBytes, facts.StateBytes, "state_bytes");
        var spec = new EnvironmentSpec(
            Text(facts.Name) is { Length: > 0 } name ? name : throw Wrong("name", "empty", "a word"),
            Named(
                    List<Group>(facts.Groups, "groups", group => group.Name),
                    group => Text(group.Name)!,
                    "group"
                )
                .ConvertAll(ReadGroup),
            new(facts.ActionSize, facts.ActionIsDiscrete != 0) { Meaning = Text(facts.ActionMeaning) ?? "" },
            facts.EpisodeLimit,
            facts.StepSeconds
        )
        {
            Measures = Named(
                    List<Measure>(facts.Measures, "measures", measure => measure.Name),
                    measure => Text(measure.Name)!,
                    "measure"
                )
                .ConvertAll(ReadMeasure),
            Resumes = facts.StateBytes > 0,
            Variants = Named(
                List<nint>(facts.Variants, "variants", variant => variant).ConvertAll(at => Text(at)!),
                variant => variant,
                "variant"
            ),
        };
        if (spec.Groups.Count == 0)
            throw Wrong("groups", "empty", "a list of observation groups");
        return new(spec, facts.StateBytes);

        ObservationGroup ReadGroup(Group group)
        {
            var name = Text(group.Name)!;
            var components = List<Component>(
                group.Components,
                $"components of '{name}'",
                component => component.Name
            );
            foreach (var component in components)
                RequireWithin(
                    1,
                    MostNumbers,
                    component.Size,
                    $"size of '{Text(component.Name)}' in the group '{name}'"
                );
            var size = components.Sum(component => (long)component.Size);
            RequireWithin(1, MostNumbers, size, $"size of the group '{name}'");
            return new(
                name,
                components.ConvertAll(one => new ObservationComponent(Text(one.Name)!, one.Size))
            );
        }

        EnvironmentMeasure ReadMeasure(Measure measure)
        {
            RequireWithin(
                0,
                (int)MeasureOver.Max,
                measure.Over,
                $"over of the measure '{Text(measure.Name)}'"
            );
            return new(Text(measure.Name)!, Text(measure.Unit) ?? "", (MeasureOver)measure.Over)
            {
                HigherIsBetter = measure.HigherIsBetter != 0,
            };
        }

        List<T> Named<T>(List<T> all, Func<T, string> name, string kind)
        {
            if (all.CountBy(name).FirstOrDefault(one => one.Value > 1) is { Key: { } twice })
                throw new DistillException($"{library} has the {kind} '{twice}' twice.");
            return all;
        }

        List<T> List<T>(nint first, string what, Func<T, nint> name)
            where T : struct
        {
            var all = new List<T>();
            if (first == 0)
                return all;
            for (var i = 0; i < LongestList; i++)
            {
                var one = Marshal.PtrToStructure<T>(first + i * Marshal.SizeOf<T>());
                if (name(one) == 0)
                    return all;
                all.Add(one);
            }
            throw Wrong(what, $"longer than {LongestList}", "a list with an end");
        }

        void RequireWithin(long low, long high, long value, string what) =>
            Require(value >= low && value <= high, what, value, $"between {low} and {high}");

        void Require<T>(bool holds, string what, T value, string right)
        {
            if (!holds)
                throw Wrong(what, FormattableString.Invariant($"{value}"), right);
        }

        DistillException Wrong(string what, string value, string right) =>
            new($"{library} has facts whose {what} is {value}; it must be {right}.");
    }

    private static string? Text(nint at) => Marshal.PtrToStringUTF8(at);
}
