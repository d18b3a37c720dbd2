namespace Distill;

/// <summary>What settings must be.</summary>
internal static class SettingCheck
{
    public const string AboveZero = "above 0, in the range of single precision";
    public const string ZeroOrAbove = $"0, or {AboveZero}";

    /// <summary>Neither 0 nor infinite when rounded to single precision, in which everything is computed.</summary>
    public static bool Positive(double value) => (float)value is > 0 and < float.PositiveInfinity;

    public static bool ZeroOrPositive(double value) => value == 0 || Positive(value);

    /// <summary>A word of ours as settings have it: state_dependent_std.</summary>
    public static string Word(Enum value) =>
        string.Concat(
            $"{value}".Select(
                (c, i) =>
                    char.IsUpper(c) && i > 0 ? $"_{char.ToLowerInvariant(c)}" : $"{char.ToLowerInvariant(c)}"
            )
        );

    /// <summary>Refuses a number that stays and is not whole; one that varies is rounded.</summary>
    public static void RequireWhole(string name, Schedule value) =>
        Require(value.Varies || value.Value == value.Whole, name, value, "a whole number");

    /// <exception cref="DistillException">It does not hold; the message names the setting, its value and what would be right.</exception>
    public static void Require<T>(bool holds, string name, T value, string right)
    {
        if (!holds)
            throw new DistillException($"{name}={value} cannot work; it must be {right}.");
    }
}
