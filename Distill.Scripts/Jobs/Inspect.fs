namespace Distill

open System
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Evaluation
open Distill.Policies
open Distill.Storage

/// One episode that a student flies while the teacher looks on, step by step.
type Inspection =
    {
        /// Seconds of one step.
        StepTime: float

        /// What the student saw, `[steps][size of its observation group]`.
        Observation: float[][]

        /// What the student did, `[steps][actions]`. Choices are their index.
        Student: float[][]

        /// What the teacher would have done in the same state, `[steps][actions]`.
        Teacher: float[][]

        /// What the student remembered after the step, `[steps][memory]`; rows are empty without memory.
        Memory: float[][]

        /// `[steps]`.
        Reward: float[]

        /// Whether the episode ended in a terminal state; if not, by the limit of steps.
        Terminated: bool
    }

    member inspection.Steps = inspection.Reward.Length

    /// Seconds since the start of the episode at each step.
    member inspection.Time =
        Array.init inspection.Steps (fun step -> inspection.StepTime * float step)

    /// Distance between student's and teacher's action at each step: root mean square over the numbers of an action.
    member inspection.Disagreement =
        Array.map2
            (fun (student: float[]) (teacher: float[]) ->
                Array.map2 (fun a b -> (a - b) ** 2.0) student teacher |> Array.average |> sqrt)
            inspection.Student
            inspection.Teacher

module Inspect =
    /// The numbers that a panel has for its first environment.
    let private first (panel: Panel) =
        let numbers = Array.zeroCreate panel.Features

        for i in 0 .. numbers.Length - 1 do
            numbers[i] <- float panel.Values[i * panel.Lanes]

        numbers

    /// What a step of the student shows.
    type private Step = { Observation: float[]; Student: float[]; Teacher: float[]; Memory: float[] }

    /// The student acts in the first environment of a panel, and the teacher is asked.
    type private Episode(student: ActingPolicy, teacher: ITeacher, environment: IBatchedEnvironment) =
        let watch = FiniteWatch 1
        let counted = Array.create<byte> Panel.Width 1uy
        member val Steps = ResizeArray<Step>()
        member val Rewards = ResizeArray<float>()
        member val Terminated = false with get, set

        /// Throws what was found where a number is not finite.
        member _.Check() = watch.Check()

        interface IRollout with
            member _.Begin _ = environment.Reset 0

            member episode.Act step =
                let label = step.Own.Panel step.Action.Features
                let observation = step.Own.Panel(student.Policy.Network.Spec.Inputs)
                student.Observe(0, observation)
                student.Policy.Decide(student.Forward(0, observation, step.Own), step.Action)

                let known =
                    teacher.Act(0, step.Number, int64 step.Number, label, Panel(), watch, counted, step.Own)

                episode.Steps.Add
                    {
                        Observation = first observation
                        Student = first step.Action
                        Teacher = first label
                        Memory = first (student.Memory 0)
                    }

                known

            member episode.Take step =
                episode.Rewards.Add(float step.Reward[0])
                episode.Terminated <- step.Terminated[0] <> 0f
                not (step.Done 0)

            member _.End(_, _) = ()

    /// One episode of one environment: the student acts, deterministically, and the teacher is asked. The same seed gives
    /// every student the same initial state.
    let episode
        (environment: IEnvironmentConfig)
        (teacher: TeacherFile)
        (student: string)
        (seed: uint64)
        : Inspection =
        use environment = environment.Create(1, RandomStream(seed, "inspection").Seed())
        use teachers = Teacher.readAll teacher environment.Spec
        use studentPolicy = PolicyFile.Load student
        use teacher = teachers.Teach environment
        use student = new ActingPolicy(studentPolicy, environment, "student")
        use pool = new WorkerPool(1)
        let episode = Episode(student, teacher, environment)
        use loop = new RolloutLoop(environment, pool, episode)
        loop.Run Int32.MaxValue
        episode.Check()

        let column (choose: Step -> float[]) =
            episode.Steps |> Seq.map choose |> Seq.toArray

        {
            StepTime = environment.Spec.StepSeconds
            Observation = column _.Observation
            Student = column _.Student
            Teacher = column _.Teacher
            Memory = column _.Memory
            Reward = episode.Rewards.ToArray()
            Terminated = episode.Terminated
        }

    /// What an encoder's file says of it, in a sentence.
    let private ofEncoder (path: string) (notes: Collections.Generic.IReadOnlyDictionary<string, string>) =
        use network = EncoderFile.Load path
        let config = network.Config

        let trained =
            match notes.TryGetValue "episodes", notes.TryGetValue "tasks", notes.TryGetValue "iterations" with
            | (true, episodes), (true, tasks), (true, iterations) ->
                $", trained in {iterations} iterations on {episodes} episodes of {tasks}"
            | _ -> ""

        let found =
            match notes.TryGetValue "tasks_found", notes.TryGetValue "tasks_found_after" with
            | (true, share), (true, steps) ->
                match Names.number share with
                | Some share ->
                    $"; a probe found {100.0 * share:F1} %% of the held-out ones' tasks after {steps} steps"
                | None -> ""
            | _ -> ""

        $"{path} is a trajectory encoder: {config.Encoding} numbers from up to {config.Window} steps of {network.States} numbers of a state, "
        + $"{network.Actions} of an action and the reward; {config.Layers} layers of {config.Model}, {network.Parameters.Length} parameters{trained}{found}."

    let private ofTrajectories (path: string) =
        let data = Trajectories.Load path

        let tasks =
            [
                for task, name in Seq.indexed data.TaskNames ->
                    $"{data.Tasks.ToArray() |> Seq.filter ((=) task) |> Seq.length} of {name}"
            ]

        $"{path} holds {data.Episodes} episodes of {data.Steps} steps, {data.StateSize} numbers of a state and {data.ActionSize} of an action: "
        + String.Join(", ", tasks)
        + "."

    let private ofPolicy (path: string) =
        use policy = PolicyFile.Load path

        $"{path} is a policy: {policy.Architecture}, {policy.Network.ParameterCount} parameters, reads '{policy.ObservationGroup}'."

    /// What a file holds, in a sentence: a policy, a trajectory encoder, or the episodes that one is trained on.
    let file (path: string) : string =
        if path.EndsWith ".safetensors" then
            match (SafeTensors.Read path).Metadata with
            | notes when notes.ContainsKey EncoderFile.Key -> ofEncoder path notes
            | notes when notes.ContainsKey Trajectories.NamesKey -> ofTrajectories path
            | _ -> ofPolicy path
        else
            ofPolicy path
