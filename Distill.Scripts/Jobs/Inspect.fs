namespace Distill

open Distill.Compute
open Distill.Environments
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
    /// A policy at work on one panel.
    type private Pilot(policy: Policy, role: string, environment: IBatchedEnvironment) =
        do policy.Check(environment.Spec, role)
        let group = environment.Spec.Group policy.ObservationGroup
        let scratch = new PolicyScratch(policy)

        member val Observation: float32[] = Array.zeroCreate (policy.Network.Spec.Inputs * Panel.Width)
        member val Memory: float32[] = Array.zeroCreate (policy.MemorySize * Panel.Width)
        member val Action: float32[] = Array.zeroCreate (environment.Spec.Actions.Floats * Panel.Width)

        member own.Act() =
            environment.Observe(0, group, own.Observation)
            policy.Act(own.Observation, own.Memory, own.Action, scratch)

        interface System.IDisposable with
            member _.Dispose() = scratch.Dispose()

    /// The numbers that a panel has for its first environment.
    let private first (panel: float32[]) =
        Array.init (panel.Length / Panel.Width) (fun i -> float panel[i * Panel.Width])

    /// One episode of one environment: the student acts, deterministically, and the teacher is asked. The same seed gives
    /// every student the same initial state.
    let episode
        (environment: IEnvironmentConfig)
        (teacher: TeacherFile)
        (student: string)
        (seed: uint64)
        : Inspection =
        use environment = environment.Create(1, RandomStream(seed, "inspection").Seed())
        use teacherPolicy = Teacher.read teacher
        use studentPolicy = PolicyFile.Load student
        use teacher = new Pilot(teacherPolicy, "teacher", environment)
        use student = new Pilot(studentPolicy, "student", environment)
        let lanes () : float32[] = Array.zeroCreate Panel.Width
        let reward, terminated, truncated = lanes (), lanes (), lanes ()
        environment.Reset 0

        let steps =
            [|
                while terminated[0] = 0f && truncated[0] = 0f do
                    student.Act()
                    teacher.Act()
                    environment.Step(0, student.Action, reward, terminated, truncated)

                    {|
                        Observation = first student.Observation
                        Student = first student.Action
                        Teacher = first teacher.Action
                        Memory = first student.Memory
                        Reward = float reward[0]
                    |}
            |]

        {
            StepTime = environment.Spec.StepSeconds
            Observation = steps |> Array.map _.Observation
            Student = steps |> Array.map _.Student
            Teacher = steps |> Array.map _.Teacher
            Memory = steps |> Array.map _.Memory
            Reward = steps |> Array.map _.Reward
            Terminated = terminated[0] <> 0f
        }
