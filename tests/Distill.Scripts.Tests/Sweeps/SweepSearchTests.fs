/// Searches that run: trials that stop at rungs and go on, stops and restarts, workers, Slurm.
module Distill.Tests.SweepSearchTests

open System
open System.IO
open Distill
open Distill.Tests.RunTests
open Distill.Tests.SweepScriptTests
open Xunit

/// Eight short iterations of the pole, and where its sweep is kept.
let private pole (place: Workplace) =
    let path = place.Path "teacher.safetensors"

    if not (File.Exists path) then
        saveTeacher path

    distillation {
        name "pole"
        environment (CartPole.balance { envs = 32 })
        teacher (Teacher.load path)
        student (Student.gru { hidden = 4 })
        acting (Acting.teacherUntil 2)
        retain (Retain.latest 2_000)
        loss (Loss.crossEntropy 0.0)
        collect (Collect.stepsPerEnv 10)
        iterations 8
        evaluationInterval 1
        evaluationEpisodes 32
        finalEpisodes 32
    }

let private sweepIn (place: Workplace) (logs: string) (arguments: string list) =
    Run.sweepWith ($"logs={place.Path logs}" :: arguments) (Sweep.ofJob (Distil.job (pole place)))

let private rates = "learning_rate=log_uniform(1e-4,1e-1)"

let private halving =
    [
        "--search"
        "asha"
        "--sampler"
        "tpe"
        "--trials"
        "16"
        "--eta"
        "2"
        "--min"
        "2"
        "--batch"
        "4"
    ]

let private root (place: Workplace) (logs: string) = place.Path $"{logs}/pole/sweep"

/// What the search has left: each trial's settings, state and, of what has metrics, the evaluations.
let private traces (root: string) =
    [
        for trial in (Sweep.load root).Trials do
            let state =
                match trial.State with
                | Paused(iterations, value) -> $"paused {iterations} {value:R}"
                | state -> string state

            trial.Record.Hash, trial.Record.Label, state, trial.Curve "evaluation/mean_return"
    ]
    |> List.sort

let private table (root: string) =
    File.ReadAllText(Path.Combine(root, "results.csv"))

[<Fact>]
let ``trials stop at rungs and go on bit for bit, and only the best are trained to the end`` () =
    use place = new Workplace()
    sweepIn place "logs" (rates :: halving) |> ignore
    let trials = (Sweep.load (root place "logs")).Trials
    Assert.Equal(16, trials.Length)

    let iterations (trial: SweepTrial) = trial.Run.Value.Iterations
    let counts = trials |> List.countBy iterations |> Map.ofList
    Assert.Equal<int list>([ 2; 4; 8 ], List.ofSeq counts.Keys)
    Assert.True(counts[8] >= 4 && counts[2] >= 4, $"{counts}")

    // A trial that has come further was, at the rung where another waits, among the best half of those that had come there.
    let returnAt (rung: int) (trial: SweepTrial) =
        trial.Curve "evaluation/mean_return"
        |> List.filter (fun (i, _) -> i <= rung)
        |> List.map snd
        |> List.max

    for rung in [ 2; 4 ] do
        let there = trials |> List.filter (fun trial -> iterations trial >= rung)
        let best = there |> List.map (returnAt rung) |> List.max
        let further = there |> List.filter (fun trial -> iterations trial > rung)
        Assert.Contains(further, fun trial -> returnAt rung trial = best)

    for trial in trials do
        match trial.State with
        | Paused(at, value) ->
            Assert.Equal(iterations trial, at)
            Assert.Equal(returnAt at trial, value)
            Assert.False(File.Exists(Path.Combine(trial.Folder, "result.csv")))
        | state -> Assert.True(state.IsFinished, string state)

        let cost = trial.Cost.Value
        Assert.Equal(int64 (iterations trial) * 320L, cost.Steps)
        Assert.InRange(cost.CoreSeconds, 0.001, 1000.0)

    // The best of them, trained without a stop, measures the same and has the same metrics and student.
    let finished = trials |> List.filter _.State.IsFinished |> List.head
    let rate = finished.Settings["optimizer.learning_rate"]
    let whole = sweepIn place "whole" [ $"learning_rate={rate}"; "seed=0" ]
    let alone = List.exactlyOne whole.Trials
    Assert.Equal(alone.Result, finished.Result)
    Assert.Equal<(int * float) list>(alone.Curve "training/loss", finished.Curve "training/loss")

    let bytes (trial: SweepTrial) =
        File.ReadAllBytes(Path.Combine(trial.Folder, "checkpoints", "final_student.safetensors"))

    Assert.Equal<byte array>(bytes alone, bytes finished)

[<Fact>]
let ``a search goes on where it was stopped, and ends as one that was not`` () =
    use place = new Workplace()
    let undisturbed = root place "whole"
    sweepIn place "whole" (rates :: halving) |> ignore
    let whole = traces undisturbed
    // Nothing is left to do.
    sweepIn place "whole" (rates :: halving) |> ignore
    Assert.Equal<(string * string * string * (int * float) list) list>(whole, traces undisturbed)

    // As if it had been killed: a trial without its result, one without its checkpoint, one that never began.
    let trials = (Sweep.load undisturbed).Trials
    let finished, waiting = trials |> List.partition _.State.IsFinished
    File.Delete(Path.Combine(finished[0].Folder, "result.csv"))
    File.Delete(Path.Combine(waiting[0].Folder, "checkpoints", "state.safetensors"))
    File.Delete(Path.Combine(waiting[0].Folder, "metrics.jsonl"))
    Directory.Delete(waiting[1].Folder, true)
    Assert.NotEqual<(string * string * string * (int * float) list) list>(whole, traces undisturbed)
    let tableBefore = table undisturbed
    sweepIn place "whole" (rates :: halving) |> ignore
    Assert.Equal<(string * string * string * (int * float) list) list>(whole, traces undisturbed)
    Assert.Equal(tableBefore, table undisturbed)

    // Another seed of the search tries other points.
    sweepIn place "other" (rates :: "--search-seed" :: "1" :: halving) |> ignore
    let hashes = List.map (fun (hash, _, _, _) -> hash)
    Assert.Empty(Set.intersect (set (hashes whole)) (set (hashes (traces (root place "other")))))

[<Fact>]
let ``a search over trials that a grid has run runs nothing`` () =
    use place = new Workplace()
    let settings = [ "learning_rate=1e-4,1e-3,1e-2,1e-1"; "hidden=2,4" ]
    Assert.Equal(8, (sweepIn place "logs" settings).Count)
    let before = table (root place "logs")

    /// What a search says of itself.
    let said (logs: string) (search: string list) =
        let text = printed (fun () -> sweepIn place logs (settings @ search) |> ignore)

        text, text.Split '\n' |> Array.find _.StartsWith("pole: ")

    for i, search in
        List.indexed
            [
                [ "--search"; "asha"; "--min"; "2"; "--eta"; "2" ]
                [ "--search"; "tpe:8" ]
                [ "--search"; "asha"; "--min"; "2"; "--eta"; "2"; "--sampler"; "tpe"; "--trials"; "20" ]
            ] do
        let text, summary = said "logs" search
        Assert.DoesNotContain("to run", text)
        // All eight points, each once, though more were asked for.
        Assert.Contains("pole: 8 points", summary)
        Assert.Contains("the best that it found is ", summary)
        // It finds no more than one that has nothing of the grid: not what only the grid has trained to the end.
        Assert.Equal(summary, snd (said $"alone{i}" search))

    Assert.Equal(before, table (root place "logs"))

[<Fact>]
let ``a point that fails is never promoted, and the search ends without it`` () =
    use place = new Workplace()
    // A loss for numbers does not fit the choice of the pole's side.
    let settings =
        [
            "loss=cross_entropy,mse"
            "learning_rate=1e-3,1e-2"
            "--search"
            "asha"
            "--min"
            "4"
            "--eta"
            "2"
        ]

    let results = sweepIn place "logs" settings
    Assert.Equal(4, results.Trials.Length)
    Assert.Equal(2, results.Trials |> List.filter _.State.IsFailed |> List.length)
    Assert.InRange(results.Count, 1, 2)

[<Fact>]
let ``a dry run of a search says what its next batch is, and writes nothing`` () =
    use place = new Workplace()

    let text =
        printed (fun () -> sweepIn place "logs" (rates :: "--dry-run" :: halving) |> ignore)

    Assert.Contains("to run", text)
    Assert.False(Directory.Exists(place.Path "logs"))

[<Fact>]
let ``searches that cannot work are one sentence`` () =
    use place = new Workplace()

    let refusal (arguments: string list) =
        (Expect.throws<DistillException>(fun () -> sweepIn place "logs" arguments |> ignore)).Message

    let asha = [ "--search"; "asha"; "--sampler"; "random"; "--trials"; "8" ]

    Assert.Equal(
        "asha with a first rung at 8 of 8 iterations has nothing to halve; lower --min.",
        refusal (rates :: asha @ [ "--min"; "8" ])
    )

    Assert.Equal(
        "asha compares evaluations, but the first is after 4 iterations and the first rung at 2: lower evaluation_interval, or raise --min.",
        refusal (rates :: "evaluation_interval=4" :: asha @ [ "--min"; "2" ])
    )

    Assert.Equal(
        "asha with rungs at 1, 4, 8 iterations brings one point of 16 to the end, and this search has 8: ask for more trials, or raise --min.",
        refusal (rates :: asha @ [ "--min"; "1" ])
    )

    Assert.Contains(
        "asha compares trials after the same iterations",
        refusal [ "iterations=8,16"; "hidden=2,4"; "--search"; "asha"; "--min"; "4" ]
    )

    Assert.Contains("has no grid", refusal [ rates; "--search"; "asha"; "--min"; "4" ])
    Assert.Contains("must be a whole number from 1", refusal (rates :: halving @ [ "--batch"; "0" ]))
    Assert.Contains("--search-seed x cannot be", refusal (rates :: "--search-seed" :: "x" :: halving))

    let evaluation =
        sweep {
            parameters (choice [ 1; 2 ])
            job (fun _ -> Evaluate.job Evaluate.defaults)
            search (Search.Asha { Sampler = Search.Grid; Eta = 2; Min = 1; Max = 0 })
        }

    let error =
        Expect.throws<DistillException>(fun () ->
            Run.sweepWith [ $"""logs={place.Path "logs"}""" ] evaluation |> ignore)

    Assert.Contains("has no setting 'iterations'", error.Message)
    Assert.False(Directory.Exists(place.Path "logs"))

/// The search of the script in SweepScriptTests, small enough for processes.
let private small =
    [
        rates
        "iterations=40"
        "evaluation_interval=10"
        "--search"
        "asha"
        "--sampler"
        "tpe"
        "--trials"
        "4"
        "--eta"
        "4"
        "--min"
        "10"
        "--batch"
        "4"
    ]

[<Fact>]
let ``a search that was killed ends as an undisturbed one, with another number of workers`` () =
    use place = new Workplace()
    let path = script place
    let whole, killed = place.Path "whole", place.Path "killed"
    succeed path ([ $"logs={whole}"; "--workers"; "2" ] @ small) |> ignore
    let sweepOf (logs: string) = Path.Combine(logs, "pole", "sweep")
    use running = start path ([ $"logs={killed}"; "--workers"; "1" ] @ small)

    waitUntil "a trial under way" (fun () ->
        Directory.Exists(sweepOf killed)
        && Directory.GetDirectories(sweepOf killed, "*seed*")
           |> Array.exists (fun folder -> trialUnderWay folder ()))

    running.Kill(entireProcessTree = true)
    running.WaitForExit()
    let output = succeed path ([ $"logs={killed}"; "--workers"; "1" ] @ small)
    Assert.Contains("pole: 4 points trained ", output)

    Assert.Equal<(string * string * string * (int * float) list) list>(
        traces (sweepOf whole),
        traces (sweepOf killed)
    )

    Assert.Equal(table (sweepOf whole), table (sweepOf killed))
    let best = succeed path [ "best"; $"logs={killed}" ]
    Assert.Contains("Pareto front against core-seconds", best)
    // Each trial's process took a second at least, and those that went on are paid for twice.
    for trial in (Sweep.load (sweepOf killed)).Trials do
        Assert.InRange(trial.Cost.Value.CoreSeconds, 0.2, 1000.0)
        Assert.Equal(int64 trial.Run.Value.Iterations * 1600L, trial.Cost.Value.Steps)

[<SweepSlurmTests.SlurmFact>]
let ``on Slurm a search goes on batch by batch, and ends as a local one`` () =
    use place = new Workplace()
    use _ = new SweepSlurmTests.OneNode(place, [])
    let path = script place
    let here, there = place.Path "here", place.Path "there"
    let sweepOf (logs: string) = Path.Combine(logs, "pole", "sweep")

    let rec submit (calls: int) =
        let output = succeed path ([ $"logs={there}"; "--on"; "slurm" ] @ small)

        if output.Contains "of this batch to end; then the same command goes on with the search" then
            waitUntil "the batch" (fun () -> ask "squeue" [ "--noheader" ] = "")
            submit (calls + 1)
        else
            Assert.Contains("the best that it found is ", output)
            calls

    // Four points, and then the best of them to the end.
    Assert.Equal(3, submit 1)
    succeed path ([ $"logs={here}"; "--workers"; "2" ] @ small) |> ignore

    Assert.Equal<(string * string * string * (int * float) list) list>(
        traces (sweepOf here),
        traces (sweepOf there)
    )
