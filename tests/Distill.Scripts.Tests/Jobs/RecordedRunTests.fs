/// Runs that begin with recorded data, and those that have nothing else.
module Distill.Tests.RecordedRunTests

open System
open System.IO
open Distill
open Distill.Algorithms
open Distill.Environments.Recorded
open Distill.Policies
open Distill.Storage
open Distill.Tests.RunTests
open Xunit

/// The dataset of a short teacher-driven run, and its folder.
let private recorded (place: Workplace) =
    let result =
        run place [ "acting=teacher_always"; "iterations=3"; "recorded=[student_action]"; "report=false" ]

    Path.Combine(result.Folder, "dataset.npz")

let private alone (file: string) =
    distillation {
        name "alone"
        environment (Recorded.data [ file ])
        student (Student.gru { hidden = 4 })
        loss (Loss.crossEntropy 0.0)
        collect (Collect.seedDataOnly 20)
        heldOut 0.3
        earlyStopping 2
        iterations 6
        saveInterval 2
    }

let private offline (place: Workplace) (file: string) (settings: string list) =
    let logs = place.Path "logs"
    Run.distilWith ([ $"logs={logs}" ] @ settings) (alone file)

let private file (name: string) (result: DistillationResult) = Path.Combine(result.Folder, name)

let private weights (name: string) (result: DistillationResult) =
    use policy = PolicyFile.Load((RunFolder.Open result.Folder).Checkpoint name)
    policy.Network.Parameters.Span.ToArray()

[<Fact>]
let ``recorded rows alone make a student without any environment, kept by its loss on what is held out`` () =
    use place = new Workplace()
    let rows = recorded place
    let result = offline place rows []
    Assert.Contains("Lowest loss on the recorded data", string result)
    let losses = (RunRecord.read result.Folder).Series "Loss/held_out"
    Assert.Equal(6, losses.Length)
    Assert.Equal(losses |> List.map snd |> List.min, result.Loss.Value)
    let lowest = losses |> List.minBy snd |> fst
    Assert.Equal(lowest, result.BestIteration)

    // The student knows what its numbers are.
    use best =
        PolicyFile.Load((RunFolder.Open result.Folder).Checkpoint "best_student.safetensors")

    Assert.Equal("cart_pole", best.Metadata["environment"])
    Assert.Contains("angle", best.Metadata["observation"])
    Assert.Equal(string lowest, best.Metadata["iteration"])
    let page = File.ReadAllText(file "report.html" result)
    Assert.Contains("Loss of the best student", page)

    Assert.Contains(
        "were not evaluated",
        (Expect.throws<DistillException>(fun () -> ignore result.Student)).Message
    )

    // The whole in settings.
    let again =
        Run.distilWith
            [
                $"logs={place.Path(nameof offline)}"
                "collection=seed_data_only"
                "environment=recorded"
                $"files=[{rows}]"
                "name=alone"
                "student.hidden=4"

                "loss=cross_entropy"
                "steps_per_env=20"
                "held_out=0.3"
                "early_stopping=2"
                "iterations=6"
            ]
            Experiment.empty

    Assert.Equal<float32 array>(
        weights "best_student.safetensors" result,
        weights "best_student.safetensors" again
    )

[<Fact>]
let ``a run on recorded rows that was stopped goes on bit for bit, and not with other data`` () =
    use place = new Workplace()
    let rows = recorded place
    let whole = offline place rows []
    let part = offline place rows [ "until=3" ]
    Assert.True(part.Interruption.IsSome)
    let resumed = offline place rows [ $"resume={part.Folder}"; "until=0" ]

    for name in [ "best_student.safetensors"; "final_student.safetensors" ] do
        Assert.Equal<float32 array>(weights name whole, weights name resumed)

    let stopped = offline place rows [ "until=3" ]
    let arrays = Npz.Read rows |> List.ofSeq
    let actions = arrays |> List.find (fun array -> array.Name = "actions")
    let changed = actions.ToFloats()
    changed[0] <- 1f - changed[0]

    Npz.Write(
        rows,
        [
            for array in arrays do
                if array.Name = "actions" then
                    Tensor.OfFloats(array.Name, ReadOnlySpan changed, Seq.toArray array.Shape)
                else
                    array
        ]
    )

    let refusal =
        Expect.throws<DistillException>(fun () ->
            offline place rows [ $"resume={stopped.Folder}"; "until=0" ] |> ignore)

    Assert.Contains("not those that this run began with", refusal.Message)

[<Fact>]
let ``where an environment is given, students of recorded rows are evaluated there, beside a teacher if one is named``
    ()
    =
    use place = new Workplace()
    let rows = recorded place

    let judged (settings: string list) =
        run
            place
            ([ "collection=seed_data_only"; $"seed_data=[{rows}]"; "steps_per_env=20"; "report=false" ]
             @ settings)

    let beside = judged []
    Assert.Equal(64, beside.Student.Episodes)
    Assert.True(beside.Teacher.MeanReturn > 400.0)
    let without = judged [ "teacher=" ]
    Assert.Equal<float32 array>(beside.Student.Returns, without.Student.Returns)
    Assert.Contains("Student return", string without)
    Expect.throws<DistillException>(fun () -> ignore without.Teacher) |> ignore

    Assert.True(
        (Expect.throws<DistillException>(fun () -> judged [ "teacher="; "seed_labels=teacher" ] |> ignore))
            .Message.Contains
            "no teacher"
    )

[<Fact>]
let ``seed data are in the dataset before the first iteration, and the run goes on as any other`` () =
    use place = new Workplace()
    let rows = recorded place

    let seeded settings =
        run place ([ $"seed_data=[{rows}]"; "report=false" ] @ settings)

    let whole = seeded []
    let sizes = (RunRecord.read whole.Folder).Series "dataset/rows" |> List.map snd
    Assert.Equal(3.0 * 640.0 + 640.0, sizes.Head)
    let part = seeded [ "until=5" ]
    let resumed = seeded [ $"resume={part.Folder}"; "until=0" ]

    Assert.Equal<float32 array>(
        weights "final_student.safetensors" whole,
        weights "final_student.safetensors" resumed
    )

    Assert.NotEqual<float32 array>(
        weights "final_student.safetensors" (run place [ "report=false" ]),
        weights "final_student.safetensors" whole
    )

[<Fact>]
let ``what recorded data lack or have wrong is said in a sentence`` () =
    use place = new Workplace()
    let rows = recorded place

    let says (part: string) (settings: string list) =
        Assert.Contains(part, refusal place settings)

    let arrays = Npz.Read rows |> List.ofSeq

    let seeds (change: Tensor list -> Tensor list) =
        let path = place.Path "changed.npz"
        Npz.Write(path, change arrays)
        $"seed_data=[{path}]"

    let without (name: string) =
        seeds (List.filter (fun array -> array.Name <> name))

    let floats (name: string) (values: float32 array) (shape: int array) =
        seeds (
            List.map (fun array ->
                if array.Name = name then
                    Tensor.OfFloats(name, ReadOnlySpan values, shape)
                else
                    array)
        )

    says "no array 'actions'; it has: observations/student, student_actions" [ without "actions" ]
    says "no array 'observations/student'; it has: actions" [ without "observations/student" ]

    says
        "has 3 numbers a row, but observation group 'student' of cart_pole has 4"
        [ floats "observations/student" (Array.zeroCreate 5760) [| 1920; 3 |] ]

    says
        "has the shape [1919], but 'observations/student' has the rows [1920]"
        [ floats "actions" (Array.zeroCreate 1919) [| 1919 |] ]

    says
        "has the shape [1920, 2, 2, 1]"
        [ floats "observations/student" (Array.zeroCreate 7680) [| 1920; 2; 2; 1 |] ]

    says "there are no rows" [ floats "observations/student" [||] [| 0; 4 |] ]
    let hole = Array.zeroCreate 7680
    hole[4001] <- nanf
    says "'observations/student' has NaN in row 1000" [ floats "observations/student" hole [| 1920; 4 |] ]

    says
        "has 2 in row 0, and a choice of cart_pole is 0 to 1"
        [ floats "actions" (Array.create 1920 2f) [| 1920 |] ]

    says "has 0.5 in row 0, and a flag is 0 or 1" [ floats "terminated" (Array.create 1920 0.5f) [| 1920 |] ]
    says "There is no .npz file" [ "seed_data=[nowhere.npz]" ]

    says
        "has no recorded data"
        [ $"""seed_data=[{Directory.CreateDirectory(place.Path "empty").FullName}]""" ]

    says "retention=first_in_first_out" [ $"seed_data=[{rows}]"; "retention=newest_rollout" ]
    says "has nothing to train on" [ "collection=seed_data_only" ]
    says "they are no environment" [ "environment=recorded"; $"files=[{rows}]" ]

    says
        "recorded actions are the labels"
        [ "environment=recorded"; $"files=[{rows}]"; "collection=seed_data_only" ]

    says "seed_labels=teacher" [ $"seed_data=[{rows}]"; "loss=kl" ]
