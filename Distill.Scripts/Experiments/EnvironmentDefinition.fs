// Environments of a user's own, from functions of one environment.
namespace Distill

open System
open Distill.Compute
open Distill.Environments

/// Random numbers of one environment in one step. They are functions of (seed, environment, episode, step) and of how many
/// were drawn before in that step, so they do not depend on threads.
type Draws internal (stream: RandomStream) =
    let mutable environment = 0u
    let mutable episode = 0u
    let mutable step = 0u
    let mutable drawn = 0u

    /// Begins the numbers of a step, from 1; 0 is the reset.
    member internal _.Start(ofEnvironment: int, ofEpisode: float32, ofStep: float32) =
        environment <- uint32 ofEnvironment
        episode <- uint32 ofEpisode
        step <- uint32 ofStep
        drawn <- 0u

    /// Uniform on [low, high).
    member _.Uniform(low: float, high: float) : float =
        drawn <- drawn + 1u
        low + (high - low) * float (stream.Uniform(environment, episode, step, drawn))

    /// Normal, of this mean and standard deviation.
    member _.Normal(mean: float, deviation: float) : float =
        drawn <- drawn + 1u
        mean + deviation * float (stream.Normal(environment, episode, step, drawn))

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
        StepTime: float

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

    interface IEnvironmentConfig with
        member definition.Envs = definition.Envs

        member definition.Create(envs, seed) =
            new DefinedEnvironment(definition, envs, seed)

/// Working memory for one panel: the state, action and observation of the environment that is computed.
and private PanelScratch(definition: EnvironmentDefinition, stream: RandomStream, spec: EnvironmentSpec) =
    member val Draws = Draws stream
    member val State: float[] = Array.zeroCreate definition.StateSize
    member val Action: float[] = Array.zeroCreate spec.Actions.Floats

    member val Observations: float[][] =
        spec.Groups |> Seq.map (fun group -> Array.zeroCreate group.Size) |> Array.ofSeq

/// The batch that a definition makes.
and private DefinedEnvironment(definition: EnvironmentDefinition, count: int, seed: uint64) =
    // Counts are kept in single precision, which is exact up to here.
    let largest = 1 <<< 24

    let require (holds: bool) (name: string) (value: int) (right: string) =
        if not holds then
            raise (DistillException $"{definition.Name}: {name} is {value}; it must be {right}.")

    do
        require (count >= 1 && count <= largest) "envs" count $"between 1 and {largest}"

        require
            (definition.EpisodeLimit >= 1 && definition.EpisodeLimit <= largest)
            "episode_limit"
            definition.EpisodeLimit
            $"between 1 and {largest}"

        require (definition.StateSize >= 1) "state_size" definition.StateSize "at least 1"
        require (definition.Actions.Size >= 1) "the size of actions" definition.Actions.Size "at least 1"
        require (not definition.Views.IsEmpty) "the number of views" 0 "at least 1"

    let views = List.toArray definition.Views

    let spec =
        EnvironmentSpec(
            definition.Name,
            [|
                for view in views do
                    ObservationGroup(
                        view.Group,
                        [| for name, size in view.Components -> ObservationComponent(name, size) |]
                    )
            |],
            definition.Actions,
            definition.EpisodeLimit,
            definition.StepTime
        )

    let stateSize = definition.StateSize

    // A panel's rows: the state, steps of the episode so far, number of the episode.
    let stepRow, episodeRow = stateSize, stateSize + 1
    let panelLength = (stateSize + 2) * Panel.Width
    let panels = Panel.Count count
    let values = new FloatBuffer(int64 panels * int64 panelLength)

    let stream = RandomStream(seed, definition.Name)

    let scratch = Array.init panels (fun _ -> PanelScratch(definition, stream, spec))

    let rowsOf (panel: int) =
        values.Slice(panel * panelLength, panelLength)

    let load (rows: Span<float32>) (lane: int) (state: float[]) =
        for i in 0 .. stateSize - 1 do
            state[i] <- float rows[i * Panel.Width + lane]

    let store (rows: Span<float32>) (lane: int) (state: float[]) =
        for i in 0 .. stateSize - 1 do
            rows[i * Panel.Width + lane] <- float32 state[i]

    /// Starts the next episode of one environment.
    let start (panel: int) (rows: Span<float32>) (lane: int) =
        let own = scratch[panel]
        let episode = rows[episodeRow * Panel.Width + lane] + 1f
        rows[episodeRow * Panel.Width + lane] <- episode
        rows[stepRow * Panel.Width + lane] <- 0f
        own.Draws.Start(panel * Panel.Width + lane, episode, 0f)
        Array.Clear own.State
        definition.Reset own.Draws own.State
        store rows lane own.State

    interface IBatchedEnvironment with
        member _.Spec = spec
        member _.Count = count

        member _.State = [ struct (definition.Name + ".state", values) ]

        member _.Reset(panel) =
            let rows = rowsOf panel

            for lane in 0 .. Panel.Width - 1 do
                start panel rows lane

        member _.Observe(panel, group, observation) =
            let rows = rowsOf panel
            let own = scratch[panel]
            let seen = own.Observations[group]

            for lane in 0 .. Panel.Width - 1 do
                load rows lane own.State
                views[group].Observe own.State seen

                for i in 0 .. seen.Length - 1 do
                    observation[i * Panel.Width + lane] <- float32 seen[i]

        member _.Step(panel, actions, reward, terminated, truncated) =
            let rows = rowsOf panel
            let own = scratch[panel]

            for lane in 0 .. Panel.Width - 1 do
                load rows lane own.State

                for i in 0 .. own.Action.Length - 1 do
                    own.Action[i] <- float actions[i * Panel.Width + lane]

                let step = rows[stepRow * Panel.Width + lane] + 1f
                own.Draws.Start(panel * Panel.Width + lane, rows[episodeRow * Panel.Width + lane], step)
                let outcome = definition.Step own.Draws own.State own.Action
                let late = not outcome.Terminated && step >= float32 definition.EpisodeLimit
                reward[lane] <- float32 outcome.Reward
                terminated[lane] <- if outcome.Terminated then 1f else 0f
                truncated[lane] <- if late then 1f else 0f

                if outcome.Terminated || late then
                    start panel rows lane
                else
                    rows[stepRow * Panel.Width + lane] <- step
                    store rows lane own.State

        member _.Dispose() = values.Dispose()
