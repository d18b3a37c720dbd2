using Distill.Datasets;

namespace Distill.Algorithms;

/// <summary>
/// What a transition of SAC consists of, in the order in which it lies in memory. Observations are as the environment showed them,
/// because normalizers go on changing. Where actor and critics read the same group, they share it.
/// </summary>
internal sealed class SacTransition
{
    /// <param name="criticInputs">Null where the critics see what the actor sees.</param>
    /// <param name="guided">Whether it is kept how much the action is like a guide's.</param>
    public SacTransition(int actorInputs, int? criticInputs, int actions, bool guided)
    {
        Columns = new Columns(
            ("actor_observation", actorInputs),
            ("critic_observation", criticInputs ?? 0),
            ("action", actions),
            ("reward", 1),
            ("next_actor_observation", actorInputs),
            ("next_critic_observation", criticInputs ?? 0),
            ("terminated", 1),
            ("likeness", guided ? 1 : 0)
        );
        Shared = criticInputs is null;
        ActorObservation = Columns["actor_observation"];
        CriticObservation = Shared ? ActorObservation : Columns["critic_observation"];
        Action = Columns["action"];
        Reward = Columns["reward"];
        NextActorObservation = Columns["next_actor_observation"];
        NextCriticObservation = Shared ? NextActorObservation : Columns["next_critic_observation"];
        Terminated = Columns["terminated"];
        Likeness = Columns["likeness"];
    }

    public Columns Columns { get; }

    /// <summary>Whether the critics see what the actor sees.</summary>
    public bool Shared { get; }
    public Column ActorObservation { get; }
    public Column CriticObservation { get; }
    public Column Action { get; }
    public Column Reward { get; }

    /// <summary>Of the state that the step led to, also where the episode ended there.</summary>
    public Column NextActorObservation { get; }
    public Column NextCriticObservation { get; }

    /// <summary>1 where that state is terminal, else 0: also where the step limit ended the episode.</summary>
    public Column Terminated { get; }

    /// <summary>How much the action is like the guide's, from 0 to 1; of no size where there is none.</summary>
    public Column Likeness { get; }
}
