namespace Distill

open System
open Distill.Compute
open Distill.Environments
open Distill.Evaluation
open Distill.Policies

/// One episode of a hand on a table, step by step: the state before every step. World frame right-handed with z up, the table's top at 0.
type ManipulationRecording =
    {
        /// What was to be done: reach, push, pick_place, drawer_open, button_press.
        Task: string
        /// Seconds of one step.
        StepTime: float
        /// Origin of the hand, 45 mm above the tips of its fingers, world, m, `[steps][3]`.
        Hand: float[][]
        /// Distance of the fingers in units of 0.1 m, `[steps]`.
        Opening: float[]
        /// Centre of the puck, or a centimetre before the drawer's handle, or the button's top: world, m, `[steps][3]`.
        Object: float[][]
        /// Its unit quaternion (w, x, y, z), `[steps][4]`.
        ObjectOrientation: float[][]
        /// World, m.
        Goal: float[]
        /// `[steps][4]`: the hand's motion along x, y, z in cm, and how hard the fingers close.
        Action: float[][]
        /// Of the step from this state, `[steps]`.
        Reward: float[]
        /// Distance to the goal of what is to be there, after the step from this state, m, `[steps]`.
        ToGoal: float[]
        /// Whether the goal was reached after the last step.
        Success: bool
        /// Whether the episode ended because the simulation was not finite.
        Terminated: bool
    }

module ManipulationRecording =
    /// Numbers that are kept of a step: observation (39), action (4), reward, whether the episode ended, success, distance.
    type private Recorder(environment: IBatchedEnvironment, acting: ActingPolicy option) =
        let expert = environment.Spec.Group "expert"

        let part (kept: float32[]) first count =
            Span(kept, first * Panel.Width, count * Panel.Width)

        let steps =
            Array.init (Panel.Count environment.Count) (fun _ -> ResizeArray<float32[]>())

        member _.Episode(environment: int) : float[][] =
            [|
                for kept in steps[environment / Panel.Width] ->
                    [|
                        for i in environment % Panel.Width .. Panel.Width .. kept.Length - 1 -> float kept[i]
                    |]
            |]

        interface IRollout with
            member _.Begin panel = environment.Reset panel

            member _.Act step =
                let kept = Array.zeroCreate (47 * Panel.Width)
                environment.Observe(step.Panel, 0, part kept 0 39)

                match acting with
                | None -> environment.Observe(step.Panel, expert, step.Action.Values)
                | Some policy ->
                    let observation = step.Own.Panel policy.Policy.Network.Spec.Inputs
                    policy.Observe(step.Panel, observation)
                    policy.Policy.Decide(policy.Forward(step.Panel, observation, step.Own), step.Action)

                step.Action.Values.CopyTo(part kept 39 4)
                steps[step.Panel].Add kept
                true

            member _.Take step =
                let kept = Seq.last steps[step.Panel]
                step.Reward.CopyTo(part kept 43 1)
                step.Terminated.CopyTo(part kept 44 1)
                step.Measures.Slice(0, Panel.Width).CopyTo(part kept 45 1)
                step.Measures.Slice(2 * Panel.Width, Panel.Width).CopyTo(part kept 46 1)
                true

            member _.End(_, _) = ()

    let private recorded (environment: IBatchedEnvironment) (acting: ActingPolicy option) =
        use pool = new WorkerPool(1)
        let recorder = Recorder(environment, acting)
        use loop = new RolloutLoop(environment, pool, recorder, true)
        loop.Run environment.Spec.EpisodeLimit

        [
            for i in 0 .. environment.Count - 1 do
                let all = recorder.Episode i
                let terminated = all |> Array.tryFindIndex (fun kept -> kept[44] <> 0.0)

                let steps =
                    match terminated with
                    | Some last -> Array.truncate (last + 1) all
                    | None -> all

                let rows first count =
                    steps |> Array.map (fun kept -> Array.sub kept first count)

                {
                    Task = environment.Spec.Variants[environment.VariantOf i]
                    StepTime = environment.Spec.StepSeconds
                    Hand = rows 0 3
                    Opening = steps |> Array.map (Array.item 3)
                    Object = rows 4 3
                    ObjectOrientation = rows 7 4 |> Array.map (fun q -> [| q[3]; q[0]; q[1]; q[2] |])
                    Goal = Array.sub steps[0] 36 3
                    Action = rows 39 4
                    Reward = steps |> Array.map (Array.item 43)
                    ToGoal = steps |> Array.map (Array.item 46)
                    Success = (Array.last steps)[45] > 0.0
                    Terminated = terminated.IsSome
                }
        ]

    /// Records an episode of each of this many environments, which have the tasks in turn, with a policy that acts deterministically.
    let record (config: IEnvironmentConfig) (policy: Policy) (seed: uint64) (episodes: int) =
        use environment = config.Create(episodes, seed)
        use acting = new ActingPolicy(policy, environment, "policy")
        recorded environment (Some acting)

    /// The same with the scripted expert.
    let ofExpert (config: IEnvironmentConfig) (seed: uint64) (episodes: int) =
        use environment = config.Create(episodes, seed)
        recorded environment None
