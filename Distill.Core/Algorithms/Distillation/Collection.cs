using static Distill.SettingCheck;

namespace Distill.Algorithms;

/// <summary>How much one iteration collects.</summary>
public abstract record Collection
{
    /// <summary>Whether anything is done in the environment; if not, recorded data are all there is.</summary>
    public virtual bool Collects => true;

    /// <summary>Whether a collection is one whole episode per environment.</summary>
    public abstract bool WholeEpisodes { get; }

    /// <summary>Whether episodes are put end to end.</summary>
    public virtual bool Packs => false;

    /// <summary>Environments side by side, and the steps of each per iteration.</summary>
    /// <param name="envs">What the environment's settings ask for.</param>
    /// <param name="episodeLimit">Steps after which an episode ends.</param>
    public abstract (int Envs, int Steps) Sizes(int envs, int episodeLimit);

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public abstract void Check();
}

/// <summary>Iteration-driven: every environment runs a fixed number of steps; episodes go on from one iteration to the next.</summary>
/// <param name="StepsPerEnv">
/// Steps of each environment per iteration. Raise it for longer sequences of recurrent students, and for more new states between
/// trainings; lower it so that a student drives which has just been trained.
/// </param>
public sealed record StepsPerIteration(int StepsPerEnv = 400) : Collection
{
    public override bool WholeEpisodes => false;

    public override (int Envs, int Steps) Sizes(int envs, int episodeLimit) => (envs, StepsPerEnv);

    public override void Check() => Require(StepsPerEnv >= 1, "steps_per_env", StepsPerEnv, "at least 1");
}

/// <summary>Episode-driven: every epoch runs whole episodes from their start; what follows an early end is masked.</summary>
/// <param name="NumEpisodes">
/// Episodes per epoch. Raise it when the newest loss jumps from epoch to epoch, lower it so that a student drives which has just
/// been trained.
/// </param>
/// <param name="PackEpisodes">
/// Whether episodes are put end to end in the sequences of a recurrent student, so that no row is spent on what follows an early end,
/// and only whole mini-batches of them are trained on where mini_batch_size says their size. An episode that is cut begins again
/// without memory. Use it where many episodes end early.
/// </param>
public sealed record EpisodesPerEpoch(int NumEpisodes = 100, bool PackEpisodes = false) : Collection
{
    public override bool WholeEpisodes => true;

    public override bool Packs => PackEpisodes;

    public override (int Envs, int Steps) Sizes(int envs, int episodeLimit) => (NumEpisodes, episodeLimit);

    public override void Check() => Require(NumEpisodes >= 1, "num_episodes", NumEpisodes, "at least 1");
}

/// <summary>Nothing is collected: iterations only train, on recorded data (<c>seed_data</c>).</summary>
/// <param name="StepsPerEnv">
/// Rows of the pieces that recorded rows are cut into: what a recurrent student is trained on at once, if sequence_length does not
/// cut them further. Raise it to show more of what must be remembered, lower it to mix more into a mini-batch.
/// </param>
public sealed record SeedDataOnly(int StepsPerEnv = 400) : Collection
{
    public override bool Collects => false;

    public override bool WholeEpisodes => false;

    public override (int Envs, int Steps) Sizes(int envs, int episodeLimit) => (envs, StepsPerEnv);

    public override void Check() => Require(StepsPerEnv >= 1, "steps_per_env", StepsPerEnv, "at least 1");
}
