using static Distill.SettingCheck;

namespace Distill.Environments.External;

/// <summary>
/// A simulator in another process, which serves it with <c>python/distill_environment.py</c>: started by a command, or running already
/// and reached through a socket. What it has, observations, actions, limits, it says itself.
/// </summary>
public sealed record ExternalConfig : IEnvironmentConfig
{
    /// <summary>
    /// What starts the simulator, such as <c>python3 my_env.py</c>: a program and its arguments, between quotes where they have blanks. It
    /// finds <c>distill_environment</c> without installing anything.
    /// </summary>
    public string Command { get; init; } = "";

    /// <summary>More arguments of the command, apart from it so that a sweep can try several: <c>arguments="--mass=1,--mass=2"</c>.</summary>
    public string Arguments { get; init; } = "";

    /// <summary>
    /// Instead of a command: path of the socket at which a simulator waits that somebody else started. All of a run uses this one
    /// (<see cref="Shared"/>).
    /// </summary>
    public string Socket { get; init; } = "";

    /// <summary>Environments side by side in training; multiples of 32 waste nothing. A simulator whose number is fixed needs exactly that.</summary>
    public int Envs { get; init; } = 32;

    /// <summary>
    /// Whether training and evaluation use one simulator, for those that take long to start or exist once. Evaluations then begin all
    /// their episodes in the training's environments, several in each where they are few, and training begins new ones after that.
    /// Otherwise each has a process of its own. Always so with a <see cref="Socket"/>.
    /// </summary>
    public bool Shared { get; init; }

    /// <summary>Folder that the command runs in; empty for the current one.</summary>
    public string WorkingFolder { get; init; } = "";

    /// <summary>File that all output of the command is added to; empty for one in the folder of temporary files, kept only where something fails.</summary>
    public string OutputFile { get; init; } = "";

    /// <summary>
    /// Seed for what a simulator draws once, when it is made; the same in training and evaluation. The seeds of episodes follow from
    /// the run's.
    /// </summary>
    public int MakeSeed { get; init; }

    /// <summary>Seconds that the simulator has to start. Raise it where that takes minutes.</summary>
    public double StartTimeout { get; init; } = 600;

    /// <summary>Seconds that a step or a reset may take; a simulator that takes longer counts as hanging. Raise it where steps are slow.</summary>
    public double StepTimeout { get; init; } = 60;

    /// <summary>Whether all of a run uses one simulator.</summary>
    internal bool UsesOne => Shared || Socket.Length > 0;

    /// <summary>What the simulator is called in messages.</summary>
    internal string Title => Socket.Length > 0 ? $"at {Socket}" : $"`{Line}`";

    /// <summary>The command with its arguments.</summary>
    internal string Line => Arguments.Length > 0 ? $"{Command} {Arguments}" : Command;

    /// <summary>What the simulator says of itself. It is started for that; the first environments that are made then use it.</summary>
    EnvironmentSpec IEnvironmentConfig.Spec => ExternalSimulators.Facts(this).Spec;

    public IBatchedEnvironment Create(int envs, ulong seed)
    {
        Check();
        return new ExternalEnvironment(this, ExternalSimulators.Take(this, envs), seed);
    }

    /// <exception cref="DistillException">A field has no sense.</exception>
    internal void Check()
    {
        if (Command.Length > 0 == Socket.Length > 0)
            throw new DistillException(
                "An external simulator needs a command that starts it or the socket of one that runs, and not both: "
                    + "command=\"python3 my_env.py\" or socket=/path."
            );
        Require(Envs is >= 1 and <= 1 << 24, "envs", Envs, $"between 1 and {1 << 24}");
        Require(MakeSeed >= 0, "make_seed", MakeSeed, "at least 0");
        Require(StartTimeout is > 0 and < 1e6, "start_timeout", StartTimeout, "above 0 s and below 1e6 s");
        Require(StepTimeout is > 0 and < 1e6, "step_timeout", StepTimeout, "above 0 s and below 1e6 s");
    }
}
