namespace Distill;

/// <summary>
/// Something the user gave is wrong. The message is one sentence that says what was wrong, where, and what would be
/// right; scripts print it alone and exit with code 2.
/// </summary>
public sealed class DistillException : Exception
{
    public DistillException(string message)
        : base(message) { }

    public DistillException(string message, Exception inner)
        : base(message, inner) { }
}
