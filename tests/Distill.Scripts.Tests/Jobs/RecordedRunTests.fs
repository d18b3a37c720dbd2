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
open Distill.Tests.Tools
open System.Text.RegularExpressions
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

/// Runs Python of docs/recorded-data.md, by its number there, with a loop of the fixtures; what it writes is in the workplace.
let private runGuide (python: string) (place: Workplace) (number: int) (loop: string) =
    let text =
        File.ReadAllText(Path.Combine(RepositoryRules.root, "docs", "recorded-data.md"))

    let blocks =
        Regex.Matches(text, "^```python\n(.*?)^```", RegexOptions.Multiline ||| RegexOptions.Singleline)

    File.WriteAllText(place.Path "record.py", blocks[number].Groups[1].Value)

    let fixture =
        Path.Combine(RepositoryRules.root, "tests", "fixtures", "recorded", loop)

    succeedIn (place.Path ".") python [ fixture; place.Path "record.py"; place.Path "." ] |> ignore

let private rowsOf (path: string) (name: string) =
    (Npz.Read path |> Seq.find (fun array -> array.Name = name)).ToFloats()

/// One iteration on recorded rows, and what it said of them.
let private learn (place: Workplace) (path: string) (settings: string list) =
    let logs = place.Path "logs"

    Run.distilWith
        ([ $"logs={logs}"; $"files=[{path}]"; "iterations=1"; "steps_per_env=10"; "report=false" ] @ settings)
        (distillation {
            environment (Recorded.data [ path ])
            student (Student.mlp { hidden = [ 8 ] })
        })

[<Fact>]
let ``the episodes of an evaluation are data that a student can be made from`` () =
    use place = new Workplace()
    let teacher = place.Path "teacher.safetensors"
    saveTeacher teacher
    let path = place.Path "episodes/pole.npz"

    let evaluation =
        Run.evaluateWith
            [ $"policy={teacher}"; "environment=cart_pole"; "episodes=6"; $"record={path}" ]
            Evaluate.defaults

    Assert.Contains("6", string evaluation)
    let result = offline place path []
    Assert.Contains("Lowest loss on the recorded data", string result)
    Assert.True(Double.IsFinite result.Loss.Value)

[<NumpyFact>]
let ``the guide's Gymnasium loop writes rows that count and end as they should, in both ways to reset`` () =
    use place = new Workplace()
    runGuide numpy.Value.Value place 0 "gymnasium_loop.py"

    for mode, pause in [ "NEXT_STEP", 1; "SAME_STEP", 0 ] do
        let path = place.Path $"{mode}.npz"
        let column name = rowsOf path name |> Array.chunkBySize 4

        let observation, weights, terminated, truncated =
            column "observation", column "weights", column "terminated", column "truncated"

        for env in 0..3 do
            for time in 0..49 do
                let within = time % (3 + env + pause)
                let what = $"{mode}, environment {env}, time {time}"
                let paused = within = 3 + env
                let last = within = 2 + env
                Assert.True((weights[time][env] = (if paused then 0f else 1f)), what)
                Assert.True((terminated[time][env] = (if last && env % 2 = 0 then 1f else 0f)), what)
                Assert.True((truncated[time][env] = (if paused || last && env % 2 = 1 then 1f else 0f)), what)

                Assert.Equal<float32 array>(
                    [| float32 env; float32 within |],
                    observation[2 * time + env / 2][2 * (env % 2) .. 2 * (env % 2) + 1]
                )

        Assert.True((learn place path [ "choices=2"; "loss=cross_entropy" ]).Loss.Value < 1.0)

[<TorchFact>]
let ``the guide's rsl_rl loop writes rows that end as they should`` () =
    use place = new Workplace()
    runGuide torch.Value.Value place 1 "rsl_rl_loop.py"
    let path = place.Path "rsl_rl.npz"
    let terminated, truncated = rowsOf path "terminated", rowsOf path "truncated"

    for env in 0..3 do
        for time in 0..49 do
            let last = time % (3 + env) = 2 + env
            Assert.Equal((if last && env % 2 = 0 then 1f else 0f), terminated[4 * time + env])
            Assert.Equal((if last && env % 2 = 1 then 1f else 0f), truncated[4 * time + env])

    for group, size in [ "policy", 2; "privileged", 1; "policy+privileged", 3 ] do
        let result = learn place path [ $"student.observation_group={group}" ]

        use policy =
            PolicyFile.Load((RunFolder.Open result.Folder).Checkpoint "final_student.safetensors")

        Assert.Equal(size, policy.Network.Spec.Inputs)
