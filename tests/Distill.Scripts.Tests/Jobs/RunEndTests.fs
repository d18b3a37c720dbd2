/// How runs end: finished, though not all could be written, or interrupted where there is no script, as a notebook's host asks
/// for it. The console and the host's request belong to the whole process, so that no other test runs meanwhile.
[<Xunit.Collection "alone">]
module Distill.Tests.RunEndTests

open System
open System.IO
open Distill
open Distill.Storage
open Distill.Tests.RunTests
open Xunit

[<CollectionDefinition("alone", DisableParallelization = true)>]
type Alone() = class end

/// Interrupts what runs when a line that begins with the text is printed for the nth time.
type private Interrupting(text: string, nth: int) =
    inherit StringWriter()
    let mutable printed = 0

    override writer.WriteLine(line: string | null) =
        base.WriteLine line

        if (nonNull line).StartsWith text then
            printed <- printed + 1

            match AppContext.GetData "distill.interrupt" with
            | :? Func<bool> as interrupt when printed = nth -> Assert.True(interrupt.Invoke())
            | _ -> ()

let private interruptedAt (text: string) (nth: int) (work: unit -> 'Result) : 'Result * string =
    let output = Console.Out
    let console = new Interrupting(text, nth)

    try
        Console.SetOut console
        work (), string console
    finally
        Console.SetOut output

let private pole (place: Workplace) =
    let path = place.Path "teacher.safetensors"
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
        iterations 9
        evaluationInterval 3
        evaluationEpisodes 32
        finalEpisodes 32
    }

[<Fact>]
let ``a page that cannot be written does not hide the result`` () =
    use place = new Workplace()
    let folder = place.Path "run"
    Directory.CreateDirectory(Path.Combine(folder, "report.html", "in the way")) |> ignore
    let mutable result = None

    let text =
        printed (fun () -> result <- Some(run place [ "iterations=1"; $"folder={folder}" ]))

    Assert.Equal(500.0, result.Value.Teacher.MeanReturn)
    Assert.True(File.Exists(Path.Combine(folder, "result.csv")))
    Assert.Contains("The report could not be written.", text)

[<Fact>]
let ``results that cannot be written are printed`` () =
    use place = new Workplace()
    let folder = place.Path "run"
    Directory.CreateDirectory(Path.Combine(folder, "result.csv", "in the way")) |> ignore

    let text =
        printed (fun () ->
            Assert.Contains("result.csv", refusal place [ "iterations=1"; $"folder={folder}" ]))

    Assert.Contains("best student", text)

[<Fact>]
let ``resuming a finished run says that it was finished`` () =
    use place = new Workplace()
    let folder = (run place [ "iterations=2" ]).Folder
    let again = [ $"resume={folder}"; "iterations=2" ]
    let finished = "This run has finished: all its 2 iterations were done before."
    Assert.Contains(finished, printed (fun () -> run place again |> ignore))
    Assert.True(File.Exists(Path.Combine(folder, "result.csv")))
    // One that goes on has not, and as long as it has no result of its own there is none.
    let longer = [ $"resume={folder}"; "iterations=3" ]
    Assert.DoesNotContain("This run has finished", printed (fun () -> run place longer |> ignore))
    File.Delete((RunFolder.Open folder).Checkpoint "state.safetensors")
    let sentence = refusal place longer
    Assert.Contains("has finished", sentence)
    Assert.Contains("no state", sentence)

[<Fact>]
let ``states of finished runs are said where they are, and removed by clean runs`` () =
    use place = new Workplace()
    let mutable finished = ""
    let text = printed (fun () -> finished <- (run place [ "iterations=1" ]).Folder)

    let state (folder: string) =
        (RunFolder.Open folder).Checkpoint "state.safetensors"

    Assert.Contains($"State: {Command.shortest (state finished)}, 0.", text)
    Assert.Contains("MiB: more iterations can go on from it", text)
    let stopped = (run place [ "iterations=1" ]).Folder
    File.Delete(Path.Combine(stopped, "result.csv"))
    let busy = (run place [ "iterations=1" ]).Folder
    let trial = place.Path "logs/pole/sweep/a-1"
    run place [ "iterations=1"; $"folder={trial}" ] |> ignore
    let stranger = place.Path "logs/checkpoints"
    Directory.CreateDirectory stranger |> ignore
    File.WriteAllText(Path.Combine(stranger, "state.safetensors"), "of nobody knows what")

    let clean () =
        printed (fun () -> Cleaning.removeStates (place.Path "logs"))

    let text = using ((RunFolder.Open busy).Lock()) (fun _ -> clean ())

    Assert.Equal<bool list>(
        [ false; true; true; false ],
        [ for folder in [ finished; stopped; busy; trial ] -> File.Exists(state folder) ]
    )

    Assert.True(File.Exists(Path.Combine(stranger, "state.safetensors")))
    Assert.Contains($"Removed {Command.shortest (state finished)}", text)
    Assert.Contains("States of 2 finished runs removed", text)
    Assert.Contains("2 kept", text)
    Assert.Contains("States of 1 finished run removed", clean ())
    Assert.Contains("States of 0 finished runs removed", clean ())

[<Fact>]
let ``an interrupted run saves, reports, says how to go on, and returns what there is`` () =
    use place = new Workplace()
    let experiment = pole place

    let run settings =
        Run.distilWith ($"""logs={place.Path "logs"}""" :: settings) experiment

    let whole = run []
    Assert.Equal(None, whole.Interruption)
    let result, text = interruptedAt "[5/9]" 1 (fun () -> run [])
    let file (name: string) = Path.Combine(result.Folder, name)
    let sentence = result.Interruption.Value
    Assert.StartsWith("Stopped after iteration 5 of 9; go on with: ", sentence)
    Assert.Contains(sentence, text)
    Assert.Contains(sentence, string result)
    Assert.Contains("resume=", sentence)
    Assert.Equal((32, 32), (result.Student.Episodes, result.FinalStudent.Episodes))
    Assert.Equal(3, result.BestIteration)
    Assert.Contains("stopped or running: 5 of 9", File.ReadAllText(file "report.html"))
    // It has not finished.
    Assert.False(File.Exists(file "result.csv"))
    let resumed = run [ $"resume={result.Folder}" ]
    Assert.Equal(None, resumed.Interruption)
    Assert.True(File.Exists(file "result.csv"))

    let student (result: DistillationResult) =
        File.ReadAllBytes((RunFolder.Open result.Folder).Checkpoint "final_student.safetensors")

    Assert.Equal<byte array>(student whole, student resumed)
    // A run that had finished and goes on has no result until it has finished again.
    let longer, _ =
        interruptedAt "[10/12]" 1 (fun () -> run [ $"resume={result.Folder}"; "iterations=12" ])

    Assert.True(longer.Interruption.IsSome)
    Assert.False(File.Exists(file "result.csv"))

[<Fact>]
let ``a run that is interrupted before its first evaluation returns its newest student`` () =
    use place = new Workplace()

    let result, _ =
        interruptedAt "[1/9]" 1 (fun () ->
            Run.distilWith [ $"""logs={place.Path "logs"}"""; "report=false" ] (pole place))

    Assert.Equal(1, result.BestIteration)
    Assert.Equal(result.FinalStudent.MeanReturn, result.Student.MeanReturn)

[<Fact>]
let ``an interrupted sweep returns the trials that have finished, and goes on`` () =
    use place = new Workplace()
    let experiment = pole place

    let run () =
        Run.sweepWith [ $"""logs={place.Path "logs"}"""; "seed=0,1,2" ] (Sweep.ofJob (Distil.job experiment))

    // In the second trial.
    let results, text = interruptedAt "[5/9]" 2 run
    Assert.Equal(1, results.Count)
    Assert.Contains("The sweep was interrupted; the same call goes on with it.", text)

    Assert.Equal<string list>(
        [ "finished"; "interrupted"; "waiting" ],
        results.Trials |> List.map (_.State >> string) |> List.sort
    )

    let again, text = interruptedAt "never" 1 run
    Assert.Equal(3, again.Count)
    // The second went on, the third began.
    Assert.Equal(2, text.Split("[1/9]").Length)

[<Fact>]
let ``the interrupted training of a teacher returns the teacher so far`` () =
    use place = new Workplace()

    let training =
        { TrainTeacher.defaults with
            Environment = Distill.Environments.CartPole.CartPoleConfig(Envs = 32)
            EvaluationEpisodes = 32
            FinalEpisodes = 32
            SaveTo = place.Path "teacher.safetensors"
        }

    let result, text =
        interruptedAt "[2/9]" 1 (fun () ->
            Run.trainTeacherWith
                [ $"""logs={place.Path "logs"}"""; "iterations=9" ]
                training
                (Distill.Algorithms.PpoConfig()))

    Assert.Equal(2, result.Iteration)
    Assert.StartsWith("Stopped after iteration 2 of 9", result.Interruption.Value)
    Assert.Contains(result.Interruption.Value, text)
    Assert.False(File.Exists(place.Path "teacher.safetensors"))
