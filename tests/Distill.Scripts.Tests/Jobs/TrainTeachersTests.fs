/// Sets of teachers: the same bits alone and side by side, stopped and gone on with, and what is said of them.
module Distill.Tests.TrainTeachersTests

open System
open System.IO
open System.Threading
open Distill
open Distill.Algorithms
open Distill.Environments.Quadrotor
open Distill.Policies
open Distill.Tests.RunTests
open Xunit

let private training =
    { TrainTeacher.defaults with
        Environment =
            Quadrotor.mixture { envs = 32 } |> Quadrotor.flying (Drones.sample { number = 5; seed = 3 })
        SaveInterval = 2
        EvaluationInterval = 3
        EvaluationEpisodes = 8
        FinalEpisodes = 16
    }

let private ppo =
    PpoConfig.Quadrotor
    |> Settings.set <@ _.Iterations @> 6
    |> Settings.set <@ _.NumMiniBatches @> (Schedule.constant 2.0)
    |> Settings.set <@ _.Actor @> (Student.mlp { hidden = [ 8 ] } |> Student.reading "privileged")

let private train (set: string) (settings: string list) : TeachersResult =
    Run.trainTeachersWith
        settings
        { TrainTeachers.defaults with Set = set; Recipe = "short" }
        training
        (Reinforcement.ppo Teacher.none ppo)

/// What of a set must not depend on how it came about: the parameters of each teacher, and the table without its costs.
let private content (set: string) =
    [
        for row in (TeacherSet.Read set).Teachers do
            use policy = PolicyFile.Load(Path.Combine(set, row.Policy))

            row.Variant,
            policy.Network.Parameters.Span.ToArray(),
            (row.Return, row.Length, row.ShareTerminated, row.Episodes, row.Seed, row.Recipe)
    ]

[<Fact>]
let ``a teacher has the same bits alone and beside any number of others`` () =
    use place = new Workplace()
    let one, three = place.Path "one", place.Path "three"
    let result = train one [ "threads=1" ]
    train three [ "threads=3"; "worker=2" ] |> ignore
    let expected = content one
    Assert.Equal(5, expected.Length)
    Assert.Equal<(string * float32 array * _) list>(expected, content three)
    Assert.True(result.Set.Teachers |> Seq.forall (fun row -> row.CoreSeconds > 0.0))

    let alone =
        Run.trainTeacherWith
            [
                $"environment.drones=[{one}/drones/00003.json]"
                "sampled=null"
                "threads=1"
                $"""folder={place.Path "alone"}"""
                "report=false"
            ]
            training
            ppo

    use policy =
        PolicyFile.Load(Path.Combine(alone.Folder, "checkpoints", "best_teacher.safetensors"))

    let _, parameters, (mean, _, _, _, _, _) = expected[3]
    Assert.Equal<float32 array>(parameters, policy.Network.Parameters.Span.ToArray())
    Assert.Equal(mean, alone.Evaluation.MeanReturn)

[<Fact>]
let ``a set that was stopped goes on to the same bits`` () =
    use place = new Workplace()
    let whole, stopped = place.Path "whole", place.Path "stopped"
    train whole [ "threads=2" ] |> ignore

    // Stopped as by Ctrl-C as soon as the first has left a state, again and again.
    let rec goOn (stops: int) =
        use over = new ManualResetEventSlim()

        let watcher =
            Thread(fun () ->
                let runs = Path.Combine(stopped, "runs")

                let begun () =
                    Directory.Exists runs
                    && Directory.GetFiles(runs, "state.safetensors", SearchOption.AllDirectories).Length > 0

                while not over.IsSet && not (begun ()) do
                    Thread.Sleep 1

                if not over.IsSet then
                    match AppContext.GetData "distill.interrupt" with
                    | :? Func<bool> as interrupt -> interrupt.Invoke() |> ignore
                    | _ -> ())

        watcher.Start()

        let finished =
            try
                train stopped [ "threads=2" ] |> ignore
                true
            with Script.Stopped(130, sentence) ->
                Assert.Contains("the same command goes on with the others", sentence)
                false

        over.Set()
        watcher.Join()

        if finished then
            stops
        elif stops = 3 then
            train stopped [ "threads=2" ] |> ignore
            4
        else
            goOn (stops + 1)

    Assert.True(goOn 0 > 0)
    Assert.Equal<(string * float32 array * _) list>(content whole, content stopped)

[<Fact>]
let ``a set of teachers teaches, and those that are not good enough are named`` () =
    use place = new Workplace()
    let set = place.Path "set"
    let result = train set [ "threads=1"; "min_return=10000" ]
    Assert.Contains("5 of them return less than 10000: 00000", string result)
    Assert.Contains("5 of 5", string result)

    let student =
        distillation {
            name "of-a-set"
            environment (QuadrotorConfig(Envs = 10, Drones = [| Path.Combine(set, "drones") |]))
            teacher (Teacher.set set)
            student (Student.gru { hidden = 4 } |> Student.reading "tracking")
            acting (Acting.teacherUntil 1)
            collect (Collect.episodes 10)
            iterations 2
            evaluationEpisodes 10
            finalEpisodes 10
        }
        |> Run.distilWith [ $"""folder={place.Path "run"}"""; "report=false"; "threads=1" ]

    Assert.Equal(10, student.Teacher.Episodes)

[<Fact>]
let ``a set has a measure beside the return, a gate of it, numbers of iterations of its own, and critics``
    ()
    =
    use place = new Workplace()
    let set = place.Path "set"

    let settings =
        [ "threads=1"; "best_by=position_error"; "variant_iterations=[1,2,1,2,1]"; "keep_critics=true" ]

    let make (settings: string list) =
        Run.trainTeachersWith
            (settings @ [ "iterations=7" ])
            { TrainTeachers.defaults with Set = set }
            training
            (Reinforcement.sac
                Teacher.none
                (SacConfig(StepsPerEnv = 4, LearningStarts = 100, UpdateToData = 0.1, MiniBatchSize = 32)))

    let result = make settings

    for other in [ "variant_iterations=[1,2,1,2,2]"; "variant_iterations=[]" ] do
        let error =
            Expect.throws<DistillException>(fun () -> make (settings @ [ other ]) |> ignore)

        Assert.Contains("began with other settings", error.Message)

    let read = TeacherSet.Read set
    Assert.Equal("position_error", read.Measure)
    Assert.Contains("mean position_error", string result)

    for row in read.Teachers do
        let name = row.Variant
        use teacher = PolicyFile.Load(Path.Combine(set, row.Policy))
        Assert.True(row.Measure.Value > 0.0)
        Assert.Equal((if name = "00001" || name = "00003" then 2 else 1), int teacher.Metadata["iteration"])

        for i in 1..2 do
            use critic =
                PolicyFile.Load(Path.Combine(set, "critics", name, $"critic_{i}.safetensors"))

            Assert.Equal(1, critic.Network.Spec.Outputs)
            Assert.Equal(teacher.Network.Spec.Inputs + 4, critic.Network.Spec.Inputs)
            Assert.Equal("teacher+action", critic.ObservationGroup)

    let refused (settings: string list) =
        (Expect.throws<DistillException>(fun () -> train (place.Path "other") settings |> ignore)).Message

    Assert.Contains("variant_iterations has 2 numbers for 5 variants", refused [ "variant_iterations=[1,2]" ])
    Assert.Contains("variant_iterations=0 cannot work", refused [ "variant_iterations=[1,2,0,1,1]" ])

    for measure in [ "return"; "position_error" ] do
        Assert.Contains(
            $"min_measure=1 cannot work with best_by={measure}",
            refused [ "min_measure=1"; $"best_by={measure}" ]
        )

    let named = TeacherSet(place.Path "named", [| yield! read.Teachers |], "success")
    let gated = TeachersResult(named, 5, [], None, Some 1e9)
    Assert.Contains("5 of them have a success of less than 1000000000: 00000 (", string gated)

[<Fact>]
let ``what cannot become a set of teachers is refused in a sentence`` () =
    use place = new Workplace()
    let set = place.Path "set"
    train set [ "threads=1"; "iterations=1" ] |> ignore

    let message (work: unit -> TeachersResult) =
        (Expect.throws<DistillException>(fun () -> work () |> ignore)).Message

    Assert.Contains(
        "has 'gamma: 0.99' where the script now gives 'gamma: 0.98'",
        message (fun () -> train set [ "iterations=1"; "gamma=0.98" ])
    )

    Assert.Contains(
        "has 'iterations: 1' where the script now gives 'iterations: 6'",
        message (fun () -> train set [])
    )

    Assert.Contains("save_to=x names one file", message (fun () -> train set [ "save_to=x" ]))
    Assert.Contains("worker=-1 cannot work", message (fun () -> train set [ "worker=-1" ]))

    let twice =
        { training with Environment = QuadrotorConfig(Drones = [| "crazyflie"; "crazyflie" |]) }

    let with' (training: TrainTeacher) () =
        Run.trainTeachersWith
            []
            { TrainTeachers.defaults with Set = place.Path "other" }
            training
            (Reinforcement.ppo Teacher.none ppo)

    Assert.Contains("Two of the drones are called 'crazyflie'", message (with' twice))

    Assert.Contains(
        "cannot be all of one variant",
        message (with' { training with Environment = CartPole.balance { envs = 4 } })
    )

    Assert.False(Directory.Exists(place.Path "other"))

[<Fact>]
let ``a sweep over workers shares a set`` () =
    use place = new Workplace()
    let set, alone = place.Path "set", place.Path "alone"
    train alone [ "threads=1" ] |> ignore

    let job =
        TrainTeachers.job
            { TrainTeachers.defaults with Set = set; Recipe = "short" }
            TrainTeacher.defaults
            training
            (Reinforcement.ppo Teacher.none ppo)

    let results =
        Sweep.ofJob job |> Run.sweepWith [ $"""logs={place.Path "logs"}"""; "worker=0,1" ]

    Assert.Equal(2, results.Count)
    Assert.True(results.Trials |> Seq.forall _.Result.IsSome)
    Assert.Equal<(string * float32 array * _) list>(content alone, content set)

[<Fact>]
let ``a stage begins, goes on where it was stopped, and is left alone where it has finished`` () =
    use place = new Workplace()
    let folder = place.Path "stage"
    let calls = ResizeArray<string list>()

    let stage (more: string list) =
        Run.stage folder (fun own ->
            calls.Add own
            Run.trainTeacherWith (own @ [ "threads=1"; "report=false" ] @ more) training ppo)

    stage [ "until=2" ]
    Assert.False(File.Exists(Path.Combine(folder, "result.csv")))
    stage [ "until=0" ]
    Assert.True(File.Exists(Path.Combine(folder, "result.csv")))
    stage []
    Assert.Equal<string list list>([ [ $"folder={folder}" ]; [ $"resume={folder}" ] ], List.ofSeq calls)

[<Fact>]
let ``a stage whose inputs have changed begins anew, and what it was is kept`` () =
    use place = new Workplace()
    let folder, input = place.Path "stage", place.Path "input.txt"
    let calls = ResizeArray<string>()

    let stage (setting: string) =
        Run.stageFrom [ input; setting ] folder (fun own ->
            calls.Add(own |> List.exactlyOne)
            File.WriteAllText(Path.Combine(folder, "result.csv"), File.ReadAllText input + setting))

    let content (folder: string) =
        File.ReadAllText(Path.Combine(folder, "result.csv"))

    File.WriteAllText(input, "a")
    stage "seed=0"
    stage "seed=0"
    Assert.Equal<string list>([ $"folder={folder}" ], List.ofSeq calls)

    // Another content of the same file, then another setting, then the first content again.
    File.WriteAllText(input, "b")
    stage "seed=0"
    stage "seed=1"
    File.WriteAllText(input, "a")
    stage "seed=1"
    stage "seed=1"
    Assert.Equal(4, calls.Count)

    Assert.Equal<string list>(
        [ "aseed=1"; "aseed=0"; "bseed=0"; "bseed=1" ],
        [ for name in [ folder; folder + ".1"; folder + ".2"; folder + ".3" ] -> content name ]
    )

[<Fact>]
let ``a training goes on with the critic of another`` () =
    use place = new Workplace()

    let train (name: string) (settings: string list) =
        Run.trainTeacherWith
            ([
                $"folder={place.Path name}"
                "threads=1"
                "report=false"
                "critic.observation_group=privileged"
             ]
             @ settings)
            training
            ppo

    let first =
        train "first" [ "critic.hidden=[8]"; "critic.normalize_observations=true" ]

    let file = Path.Combine(first.Folder, "checkpoints", "critic.safetensors")
    use kept = PolicyFile.Load file
    Assert.Equal(1, kept.Network.Spec.Outputs)
    // So small a step that nothing moves.
    let second =
        train
            "second"
            [
                $"critic={file}"
                "iterations=1"
                "schedule=fixed"
                "learning_rate=1e-30"
                "critic_learning_rate=1e-30"
            ]

    use again =
        PolicyFile.Load(Path.Combine(second.Folder, "checkpoints", "critic.safetensors"))

    Assert.Equal<float32 array>(
        kept.Network.Parameters.Span.ToArray(),
        again.Network.Parameters.Span.ToArray()
    )

    Assert.True((nonNull kept.Normalizer).Count > 0L)
