// Environments of a user's own, from functions of one environment.
namespace Distill

open Distill.Environments

/// What one step brought.
[<Struct>]
type Outcome =
    {
        Reward: float

        /// Whether the new state is terminal. Ends by the step limit are not the environment's to tell.
        Terminated: bool
    }

/// One observation group.
[<NoEquality; NoComparison>]
type View =
    {
        /// How configurations refer to it: PPO's teachers read "teacher" unless told otherwise, students "student".
        Group: string

        /// What its numbers are, in order, with their sizes: "position, world, m", 2.
        Components: (string * int) list

        /// State and the numbers to write: `fun state seen -> ...`.
        Observe: float[] -> float[] -> unit
    }

module Actions =
    /// This many continuous numbers.
    let continuous (size: int) = ActionSpace(size, Discrete = false)

    /// One of this many choices; the action is one number, the choice's index.
    let choices (number: int) = ActionSpace(number, Discrete = true)

    /// Says what the numbers do, with units and range, or what the choices are: exported policies carry it.
    let meaning (text: string) (actions: ActionSpace) =
        ActionSpace(actions.Size, actions.Discrete, Meaning = text)

/// An environment described by functions of a single one, for trying a task out: thousands of environments run side by
/// side, in parallel, with episodes restarted, but each function is called for one environment at a time. States are kept
/// in single precision between steps. The functions must not keep anything between calls.
[<ReferenceEquality>]
type EnvironmentDefinition =
    {
        /// For messages and files, such as "point_mass".
        Name: string

        /// Environments side by side; multiples of 32 waste nothing.
        Envs: int

        /// Steps after which an episode is truncated.
        EpisodeLimit: int

        /// Simulated seconds of one step.
        StepSeconds: float

        /// Numbers in the state.
        StateSize: int
        Actions: ActionSpace

        /// Writes the first state of an episode: `fun random state -> ...`.
        Reset: Draws -> float[] -> unit

        /// Advances the state by one step, in place: `fun random state action -> ...`.
        Step: Draws -> float[] -> float[] -> Outcome

        /// The observation groups.
        Views: View list
    }

    interface ISingleEnvironment with
        member definition.Spec =
            EnvironmentSpec(
                definition.Name,
                [|
                    for view in definition.Views do
                        ObservationGroup(
                            view.Group,
                            [| for name, size in view.Components -> ObservationComponent(name, size) |]
                        )
                |],
                definition.Actions,
                definition.EpisodeLimit,
                definition.StepSeconds
            )

        member definition.StateSize = definition.StateSize
        member definition.Reset(random, state) = definition.Reset random state

        member definition.Step(random, state, action) =
            let outcome = definition.Step random state action
            struct (outcome.Reward, outcome.Terminated)

        member definition.Observe(group, state, observation) =
            definition.Views[group].Observe state observation

    interface IEnvironmentConfig with
        member definition.Envs = definition.Envs
        member definition.Spec = PerEnvironment.CheckedSpec(definition, definition.Envs)

        member definition.Create(envs, seed) =
            new PerEnvironment(definition, envs, seed)
