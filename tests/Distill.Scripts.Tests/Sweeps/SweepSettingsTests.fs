/// Sweeps as declarations and on the command line: which trials there are.
module Distill.Tests.SweepSettingsTests

open System.IO
open Distill
open Distill.Networks
open Distill.Algorithms
open Distill.Tests.RunTests
open Xunit

/// An experiment whose teacher is in the workplace.
let private pole (place: Workplace) =
    let path = place.Path "teacher.safetensors"

    if not (File.Exists path) then
        saveTeacher path

    distillation {
        name "pole"
        environment (CartPole.balance { envs = 32 })
        teacher (Teacher.load path)
        student (Student.gru { hidden = 4 })
        acting (Acting.teacherUntil 4)
        retain (Retain.latest 4_000)
        loss (Loss.crossEntropy 0.0)
        iterations 12
    }

let private trialsOf (sweep: Sweep<'T>) (arguments: string list) =
    Trials.declared (SweepOptions.parse arguments) sweep

let private trials (place: Workplace) (arguments: string list) =
    trialsOf (Sweep.ofJob (Distil.job (pole place))) arguments

let private refusal (place: Workplace) (arguments: string list) =
    (Expect.throws<DistillException>(fun () -> trials place arguments |> ignore)).Message

let private hashes (trials: Trial list) =
    trials |> List.map (fun trial -> trial.Record.Hash)

let private configs (trials: Trial list) =
    trials |> List.map (fun trial -> trial.Job.Get<DistillationConfig>())

[<Fact>]
let ``commas separate values, but not within brackets`` () =
    let splits (text: string) (parts: string list) =
        Assert.Equal<string list>(parts, SweepSettings.splitValues text)

    splits "100_000,1_000_000" [ "100_000"; "1_000_000" ]
    splits "[64,64],[32,32]" [ "[64,64]"; "[32,32]" ]
    splits "[64,64]" [ "[64,64]" ]
    splits "log_uniform(1e-4,1e-2)" [ "log_uniform(1e-4,1e-2)" ]
    splits "" [ "" ]

[<Fact>]
let ``lists on the command line make the product with the seeds`` () =
    use place = new Workplace()

    let found =
        trials place [ "max_buffer_size=100_000,1_000_000"; "phase1_iterations=1,3,5"; "seed=0,7" ]

    Assert.Equal(12, found.Length)
    Assert.Equal(12, found |> hashes |> List.distinct |> List.length)

    Assert.Equal<(int * uint64) list>(
        [ 1, 0UL; 1, 7UL; 3, 0UL ],
        configs found
        |> List.take 3
        |> List.map (fun config -> (config.Acting :?> TeacherUntil).Phase1Iterations, config.Seed)
    )

    Assert.Equal("phase1_iterations-1_max_buffer_size-100000_seed-7", found[1].Record.Label)

[<Fact>]
let ``values of list settings are told apart by brackets`` () =
    use place = new Workplace()

    let hidden (text: string) =
        trials place [ "student=mlp"; $"hidden={text}" ]
        |> configs
        |> List.map (fun config -> (config.Student :?> MlpStudent).Hidden |> List.ofSeq)

    Assert.Equal<int list list>([ [ 64; 32 ] ], hidden "[64,32]")
    Assert.Equal<int list list>([ [ 64; 32 ]; [ 8 ] ], hidden "[64,32],[8]")
    let sentence = refusal place [ "student=mlp"; "hidden=64,32" ]
    Assert.Contains("write hidden=[64,…] for one", sentence)
    // The same name may be a list in one variant and a number in another.
    Assert.Equal(2, (trials place [ "hidden=4,8" ]).Length)

[<Fact>]
let ``ranges on the command line are searched, not listed`` () =
    use place = new Workplace()
    let setting = "learning_rate=log_uniform(1e-4,1e-2)"
    Assert.Contains("has no grid", refusal place [ setting ])
    let found = trials place [ setting; "--search"; "random:6" ]
    Assert.Equal(6, found.Length)

    for config in configs found do
        Assert.InRange(config.Optimizer.LearningRate.Value, 1e-4, 1e-2)

    let more = trials place [ setting; "--search"; "random:8" ]
    Assert.Equal<string list>(hashes found, hashes more |> List.take 6)

[<Fact>]
let ``mistakes are one sentence`` () =
    use place = new Workplace()
    Assert.Contains("did you mean iterations", refusal place [ "iteration=1,2" ])
    Assert.Contains("empty value", refusal place [ "iterations=1,,2" ])
    Assert.Contains("learning_rate=", refusal place [ "learning_rate=0.1,fast" ])
    Assert.Contains("num_learning_epochs=0", refusal place [ "num_learning_epochs=1,0" ])
    Assert.Contains("did you mean --dry-run", refusal place [ "--dry-rum" ])
    Assert.Contains("--workers 0", refusal place [ "--workers"; "0" ])
    Assert.Contains("There is no teacher", refusal place [ "teacher=nowhere.safetensors" ])

[<Fact>]
let ``a trial is known by what can change its result`` () =
    use place = new Workplace()
    let hash (arguments: string list) = (trials place arguments |> hashes).Head
    let plain = hash []
    Assert.Equal(plain, hash [ "threads=3"; "device=auto"; "run_name=other" ])
    Assert.Equal(plain, hash [ "max_buffer_size=4000"; "seed=0" ])
    Assert.NotEqual<string>(plain, hash [ "seed=1" ])
    Assert.NotEqual<string>(plain, hash [ "max_buffer_size=4001" ])
    // A teacher is known by its content.
    let copy = place.Path "copy.safetensors"
    File.Copy(place.Path "teacher.safetensors", copy)
    Assert.Equal(plain, hash [ $"teacher={copy}" ])
    let bytes = File.ReadAllBytes copy
    bytes[bytes.Length - 1] <- bytes[bytes.Length - 1] ^^^ 1uy
    File.WriteAllBytes(copy, bytes)
    Assert.NotEqual<string>(plain, hash [ $"teacher={copy}" ])

[<Fact>]
let ``a misspelt setting of list, results and best is one sentence with names like it`` () =
    use place = new Workplace()

    let refusal (arguments: string list) =
        (Expect.throws<DistillException>(fun () ->
            Sweeping.main arguments (Sweep.ofJob (Distil.job (pole place)))))
            .Message

    let logs = $"""logs={place.Path "logs"}"""

    for command in [ "list"; "results"; "best" ] do
        Assert.Equal(
            "There is no setting 'iteration'; did you mean iterations?",
            refusal [ command; logs; "iteration=3" ]
        )

        Assert.Contains("is not a setting", refusal [ command; logs; "iterations" ])

    // Names that other systems have for settings and their values mean the same here.
    for settings in
        [ "n_epochs=12"; "num_envs=32"; "loss=mse"; "max_buffer_size=4_000"; "acting.phase1_iterations=4" ] do
        Sweeping.main [ "list"; logs; settings ] (Sweep.ofJob (Distil.job (pole place)))

    for arguments in [ []; [ "abc"; "def" ]; [ "seed=1" ] ] do
        Assert.Contains("first letters of a trial's hash", refusal ("show" :: logs :: arguments))

    Assert.Contains("No trial in", refusal [ "show"; logs; "abc" ])
    Assert.Contains(place.Path "logs", refusal [ "show"; "abc"; logs ])

type private Point = { Rows: int; Phase1: int }

let private declared (place: Workplace) =
    sweep {
        name "rows"

        parameters (
            space {
                let! rows = choice [ 1_000; 2_000 ]
                and! phase1 = choice [ 2; 4 ]
                return { Rows = rows; Phase1 = phase1 }
            }
        )

        experiment (fun point ->
            { pole place with
                Config =
                    pole(place).Config
                    |> Settings.set <@ _.Retention @> (Retain.latest point.Rows)
                    |> Settings.set <@ _.Acting @> (Acting.teacherUntil point.Phase1)
            })

        seeds [ 0; 1; 2 ]
    }

[<Fact>]
let ``a declared sweep has its points with every seed`` () =
    use place = new Workplace()
    let found = trialsOf (declared place) []
    Assert.Equal(12, found.Length)
    let fourth = found[3].Record.Settings

    Assert.Equal<string list>(
        [ "1000"; "4" ],
        [ fourth["retention.max_buffer_size"]; fourth["acting.phase1_iterations"] ]
    )

    Assert.Equal<string list>([ "rows" ], configs found |> List.map _.Name |> List.distinct)

[<Fact>]
let ``the command line grows a declared sweep, and keeps what it has`` () =
    use place = new Workplace()
    let before = trialsOf (declared place) [] |> hashes |> set

    let after =
        trialsOf (declared place) [ "max_buffer_size=1_000,2_000,3_000" ] |> hashes

    Assert.Equal(18, after.Length)
    Assert.True(Set.isSubset before (set after))

[<Fact>]
let ``a trial that was written down runs as it was though the script has changed`` () =
    use place = new Workplace()

    let trial =
        (trials place [ "student=mlp"; "hidden=[8,8],[4]"; "seed=3" ] |> List.item 1).Record

    let changed =
        { pole place with Config = pole(place).Config |> Settings.set <@ _.Iterations @> 99 }

    let recovered =
        (Trials.recover trial (Sweep.ofJob (Distil.job changed))).Get<DistillationConfig>()

    Assert.Equal(12, recovered.Iterations)
    Assert.Equal(3UL, recovered.Seed)
    Assert.Equal<int list>([ 4 ], (recovered.Student :?> MlpStudent).Hidden |> List.ofSeq)
    let path = place.Path "trials.jsonl"
    File.WriteAllText(path, "{}\n" + TrialRecord.toJson trial + "\n")
    Assert.Equal(trial, TrialRecord.read path 1)

    for line in [ 0; 2 ] do
        let error =
            Expect.throws<DistillException>(fun () -> TrialRecord.read path line |> ignore)

        Assert.Contains("does not describe a trial", error.Message)
