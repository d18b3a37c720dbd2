/// Distillation from many teachers, each for its own variant of the environment.
module Distill.Tests.ManyTeachersTests

open System
open Xunit
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Tests.CollectorTests
open Distill.Tests.DistillationTestbed

let private drones = [| "crazyflie"; "x500_real"; "race"; "mrs"; "fs" |]

let private envs = 75

let private environment (assignment: DroneAssignment) : IEnvironmentConfig =
    QuadrotorConfig(Envs = envs, Drones = drones, EpisodeLimit = 25, DroneAssignment = assignment)

let private mlp = NetworkSpec.Mlp(26, [ 8; 8 ], 4, Activation.Tanh)

/// A teacher for each drone, the last two the same.
let private teachers (spec: NetworkSpec) normalize =
    new TeacherPolicies(
        [| for seed in 1..4 -> randomPolicy seed 0.4f spec "teacher" normalize |],
        [| 0; 1; 2; 3; 3 |]
    )

/// The labels of the teachers, what they read, and which rows count.
let private collect assignment (set: TeacherPolicies) steps whole share threads =
    use pool = new WorkerPool(threads)
    use environment = (environment assignment).Create(envs, 7UL)

    use student =
        randomPolicy 9 0.3f (NetworkSpec.GruStack(22, 8, 6, 0, 4)) "student" false

    use rollout =
        new Rollout(
            envs,
            steps,
            Columns [| struct ("observation", 22); struct ("label", 4); struct ("teacher", 26) |],
            student.MemorySize
        )

    use collector =
        new RolloutCollector(
            environment,
            set.Teach environment,
            student,
            rollout,
            RandomStream(3UL, "acting"),
            whole,
            pool
        )

    [
        for _ in 1..2 do
            collector.Collect share

            readColumn rollout "label",
            readColumn rollout "teacher",
            Array.copy rollout.EpisodeStart,
            Array.copy rollout.Valid
    ],
    [| for env in 0 .. envs - 1 -> set.OfVariant[environment.VariantOf env] |]

let private ofValid (valid: byte[]) (labels: float32[]) =
    labels |> Array.mapi (fun i v -> if valid[i / 4] = 0uy then 0f else v)

[<Fact>]
let ``each environment's labels are its own teacher's, whoever drives, however drones are spread`` () =
    for spec, normalize in [ mlp, true; NetworkSpec.GruStack(26, 8, 6, 0, 4), false ] do
        use set = teachers spec normalize

        for assignment in Enum.GetValues<DroneAssignment>() do
            for share, whole, steps in
                [ 0.0, true, 25; 0.0, false, 40; 0.0, false, 64; 0.5, false, 40; 1.0, true, 25 ] do
                let what = $"{spec}, {assignment}, {share}, {steps}"
                let rollouts, policyOf = collect assignment set steps whole share 1

                let mutable memories =
                    [|
                        for policy in set.Policies ->
                            Array.init envs (fun _ -> Array.zeroCreate<float32> policy.MemorySize)
                    |]

                for labels, read, starts, valid in rollouts do
                    let single =
                        [|
                            for i, policy in Seq.indexed set.Policies ->
                                replay policy steps read starts memories[i]
                        |]

                    let expected =
                        Array.init labels.Length (fun i -> single[policyOf[i / 4 / steps]][i])

                    Paths.sameBits (ofValid valid labels) (ofValid valid expected) what
                    Expect.isTrue (Array.contains 1uy valid) what

                for threads in [ 2; 4 ] do
                    Expect.isTrue
                        (fst (collect assignment set steps whole share threads) = rollouts)
                        $"{what}: {threads} threads"

                for path in Paths.all do
                    Expect.isTrue
                        (Paths.on path (fun () -> fst (collect assignment set steps whole share 2)) = rollouts)
                        $"{what}: {path}"
