using System.Globalization;

namespace Distill;

/// <summary>
/// Something the user gave is wrong. The message is one sentence that says what was wrong, where, and what would be
/// right; scripts print it alone and exit with code 2. It is <see cref="Printable"/>: names in it may come from files.
/// </summary>
public sealed class DistillException : Exception
{
    private const int MaximumHead = 1500;
    private const int MaximumTail = 500;

    public DistillException(string message)
        : base(Printable(message)) { }

    public DistillException(string message, Exception inner)
        : base(Printable(message), inner) { }

    /// <summary>
    /// The text as a console may show it: on one line, without characters that control a terminal or the direction of
    /// writing, and cut in its middle where it has more than 2000 characters.
    /// </summary>
    public static string Printable(string text)
    {
        var cut =
            text.Length <= MaximumHead + MaximumTail
                ? text
                : string.Concat(text.AsSpan(0, MaximumHead), " … ", text.AsSpan(text.Length - MaximumTail));
        return string.Create(
            cut.Length,
            cut,
            (shown, all) =>
            {
                for (var i = 0; i < all.Length; i++)
                    shown[i] = Controls(all[i]) ? ' ' : all[i];
            }
        );
    }

    private static bool Controls(char character) =>
        CharUnicodeInfo.GetUnicodeCategory(character)
            is UnicodeCategory.Control
                or UnicodeCategory.Format
                or UnicodeCategory.LineSeparator
                or UnicodeCategory.ParagraphSeparator;
}
