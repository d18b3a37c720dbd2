namespace Distill.Environments;

/// <summary>A description from which environments are made: one for training, others for evaluation and play.</summary>
public interface IEnvironmentConfig
{
    /// <summary>Number of environments that training uses.</summary>
    int Envs { get; }

    /// <summary>The facts about the environments, without making any.</summary>
    /// <exception cref="DistillException">The description is wrong.</exception>
    EnvironmentSpec Spec { get; }

    /// <summary>
    /// The same environments in tasks in which a perfect policy would come to rest, the same number of each variant side by side;
    /// null where there is no such thing.
    /// </summary>
    IEnvironmentConfig? AtRest => null;

    /// <summary>The same with the environments of each variant side by side, where the order can be chosen: teachers of their own are faster so.</summary>
    IEnvironmentConfig Grouped => this;

    /// <summary>The same environments, all of one variant, for a teacher of its own; null where they cannot be made.</summary>
    /// <param name="variant">Index in <see cref="EnvironmentSpec.Variants"/>.</param>
    IEnvironmentConfig? Only(int variant) => null;

    /// <summary>Makes environments; nothing has been reset yet.</summary>
    /// <param name="envs">How many, at least 1. A simulator whose number is fixed has others: see <see cref="IBatchedEnvironment.Count"/>.</param>
    /// <param name="seed">Seed of all their random numbers.</param>
    /// <exception cref="DistillException">The description is wrong.</exception>
    IBatchedEnvironment Create(int envs, ulong seed);
}
