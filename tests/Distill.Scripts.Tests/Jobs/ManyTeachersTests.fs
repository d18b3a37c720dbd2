/// Runs with a set of teachers, each for its own drone.
module Distill.Tests.ManyTeachersRunTests

open System
open System.IO
open Distill
open Distill.Compute
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.RunTests
open Xunit

let private names = [ "crazyflie"; "x500_real"; "race" ]

/// A set of small random teachers in the workplace.
let private saveSet (place: Workplace) (names: string list) =
    let folder = place.Path "teachers"
    Directory.CreateDirectory(Path.Combine(folder, TeacherSet.Policies)) |> ignore

    let rows =
        [|
            for i, name in List.indexed names do
                use policy = new Policy(NetworkSpec.Mlp(26, [ 8 ], 4, Activation.Tanh), "teacher")

                policy.Network.Initialize(RandomStream(uint64 i, "teacher"))
                let file = $"{TeacherSet.Policies}/{name}.safetensors"
                PolicyFile.Save(Path.Combine(folder, file), policy)

                TeacherRow(
                    Variant = name,
                    Policy = file,
                    Return = 0.0,
                    Length = 1.0,
                    ShareTerminated = 1.0,
                    Episodes = 1L,
                    CoreSeconds = 0.0,
                    Seed = uint64 i,
                    Recipe = "random"
                )
        |]

    TeacherSet(folder, rows).Write()
    folder

let private experiment (folder: string) =
    distillation {
        name "many"

        environment (
            Quadrotor.mixture { envs = 33 }
            |> Settings.set <@ _.Drones @> (List.toArray names)
            |> Settings.set <@ _.EpisodeLimit @> 30
        )

        teacher (Teacher.set folder)
        student (Student.gru { hidden = 5 })
        preset Experiment.raptor
        collect (Collect.packed 33)
        acting (Acting.teacherUntil 1)
        activeTeachers (Active.worst 2)
        variantFocus (Schedule.constant 0.3)
        steadyStateEpisodes 2
        miniBatchSize (Schedule.constant 2.0)
        iterations 5
        evaluationInterval 2
        evaluationEpisodes 33
        finalEpisodes 66
    }

let private run (place: Workplace) (settings: string list) =
    let logs = place.Path "logs"
    Run.distilWith ([ $"logs={logs}"; "report=false" ] @ settings) (experiment (place.Path "teachers"))

let private refusal (place: Workplace) (settings: string list) =
    (Expect.throws<DistillException>(fun () -> run place settings |> ignore)).Message

[<Fact>]
let ``a set of teachers acts as one policy, and a run with it goes on bit for bit`` () =
    use place = new Workplace()
    let folder = saveSet place names
    let whole = run place []
    let stopped = run place [ "until=2" ]
    let resumed = run place [ $"resume={stopped.Folder}"; "until=0"; "threads=1" ]

    for name in [ "best_student.safetensors"; "final_student.safetensors" ] do
        let file (folder: string) =
            File.ReadAllBytes((RunFolder.Open folder).Checkpoint name)

        Assert.Equal<byte array>(file whole.Folder, file resumed.Folder)

    // Each drone's episodes are those of its own teacher.
    let config = (experiment folder).Config
    use pool = new WorkerPool(1)

    use evaluator =
        new Evaluation.Evaluator(config.Environment, 66, config.Seed + 1UL, pool)

    use all = (TeacherSet.Read folder).Load config.Environment.Spec
    let together = evaluator.Run all

    for i, name in List.indexed names do
        use alone = PolicyFile.Load(Path.Combine(folder, "policies", name + ".safetensors"))
        let single = evaluator.Run alone

        for episode in 0..65 do
            if together.Variants[episode] = i then
                Assert.Equal(single.Returns[episode], together.Returns[episode])

    Assert.Equal(66, whole.Teacher.Episodes)

    let inspected =
        Inspect.episode
            config.Environment
            (Teacher.set folder)
            ((RunFolder.Open whole.Folder).Checkpoint "final_student.safetensors")
            1UL

    Assert.True(inspected.Steps > 0)

[<Fact>]
let ``a set that lacks a teacher, or has one that is too bad, is refused by its name`` () =
    use place = new Workplace()
    saveSet place [ "crazyflie"; "race" ] |> ignore
    Assert.Contains("has none for 'x500_real'", refusal place [])
    saveSet place names |> ignore
    let message = refusal place [ "min_teacher_return=1000"; "teacher_episodes=2" ]
    Assert.Contains("3 of 3 teachers have a mean return below min_teacher_return=1000", message)
    Assert.Contains("crazyflie (", message)
    let nowhere = place.Path "nowhere"
    Assert.Contains("nowhere", refusal place [ $"teacher={nowhere}" ])

    let guide () =
        Run.improveWith
            [ "iterations=1" ]
            (TrainTeacher.defaults)
            (Teacher.set (place.Path "teachers"))
            (Distill.Algorithms.PpoConfig())
        |> ignore

    Assert.Contains(
        "is a set of teachers, but one policy is needed",
        (Expect.throws<DistillException> guide).Message
    )

[<Fact>]
let ``the teachers that come with Distill fly the first of the sampled drones, as their table says`` () =
    let set =
        TeacherSet.Read(Path.Combine(RepositoryRules.root, "assets", "teachers", "sampled"))

    let fleet =
        Quadrotor.mixture { envs = 32 } |> Quadrotor.flying (Drones.sample { number = 32; seed = 0 })

    use pool = new WorkerPool(2)
    use evaluator = new Evaluation.Evaluator(fleet, 4 * 32, 1UL, pool)
    use teachers = set.Load (fleet :> Environments.IEnvironmentConfig).Spec
    let flown = evaluator.Run teachers
    let written = set.Teachers |> Seq.averageBy _.Return
    Assert.InRange(flown.MeanReturn, written - 25.0, written + 25.0)

    for teacher in set.Teachers do
        let file = Path.Combine(set.Folder, "drones", teacher.Variant + ".json")
        Assert.True(File.Exists file, file)
