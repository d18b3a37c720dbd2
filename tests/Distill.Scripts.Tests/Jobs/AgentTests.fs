/// Agents: runs that are loaded, go on in memory and are saved, as if nothing had happened.
module Distill.Tests.AgentTests

open System
open System.IO
open Distill
open Distill.Algorithms
open Distill.Environments
open Distill.Storage
open Distill.Tests.RunTests
open Xunit

/// Settings of all sorts, which the folder must bring back.
let private settings =
    [
        "report=false"
        "student.head=categorical"
        "sampling=loss_prioritized"
        "learning_rate=linear(2e-3,1e-3,8)"
        "max_buffer_size=3000"
        "recorded=[state]"
        "held_out=0.1"
        "early_stopping=2"
        "target_return=490.5"
    ]

/// The blocks of a state, but for what time and evaluations leave there.
let private blocks (folder: string) =
    let state = SafeTensors.Read((RunFolder.Open folder).Checkpoint Runner.stateName)

    [
        for tensor in state.Tensors do
            if tensor.Name.StartsWith "algorithm." then
                tensor.Name, tensor.Data.ToArray()
    ]

let private checkpoint (folder: string) (name: string) =
    File.ReadAllBytes((RunFolder.Open folder).Checkpoint name)

let private refusalOf (load: unit -> Agent) =
    (Expect.throws<DistillException>(fun () -> using (load ()) ignore)).Message

[<Fact>]
let ``an agent goes on as the run would have, and from where it is saved so do others`` () =
    use place = new Workplace()
    let run more = run place (settings @ more)
    let whole = (run [ "iterations=12" ]).Folder
    let stopped = (run [ "iterations=5" ]).Folder


    /// Its files with what they hold, but for the lock, which names whoever last looked.
    let content () =
        [
            for path in Directory.GetFiles(stopped, "*", SearchOption.AllDirectories) |> Array.sort do
                if not ((nonNull (Path.GetFileName path)).StartsWith ".lock") then
                    path, File.ReadAllBytes path
        ]

    let before = content ()
    use agent = Agent.load stopped
    Assert.Equal(5, agent.Iteration)
    let reports = agent.Iterate() :: agent.Iterate 3
    Assert.Equal<int list>([ 5; 6; 7; 8 ], reports |> List.map _.Iteration)
    let half = agent.Save(place.Path "half")
    agent.Iterate 3 |> ignore
    agent.Save(place.Path "full") |> ignore
    Assert.Equal<(string * byte array) list>(blocks whole, blocks (place.Path "full"))

    // One more of those that were saved half-way.
    use again = Agent.load half
    again.Iterate 3 |> ignore
    again.Save(place.Path "again") |> ignore
    Assert.Equal<(string * byte array) list>(blocks whole, blocks (place.Path "again"))
    let resumed = run [ $"resume={half}"; "iterations=12" ]

    for name in [ "final_student.safetensors"; "final_student.pt" ] do
        Assert.Equal<byte array>(checkpoint whole name, checkpoint resumed.Folder name)

    // Where it was loaded from nothing has changed.
    Assert.Equal<(string * byte array) list>(before, content ())

[<Fact>]
let ``an agent is at hand: student, evaluation, settings, dataset`` () =
    use place = new Workplace()
    let result = run place (settings @ [ "iterations=4" ])
    use agent = Agent.load result.Folder

    use final =
        Policies.PolicyFile.Load((RunFolder.Open result.Folder).Checkpoint "final_student.safetensors")

    Assert.Equal<float32 array>(
        final.Network.Parameters.Span.ToArray(),
        agent.Student.Network.Parameters.Span.ToArray()
    )

    use pool = new Compute.WorkerPool(1)

    use evaluator =
        new Evaluation.Evaluator(agent.Config.Environment, 40, agent.Config.Seed, pool)

    Assert.Equal<float32 array>((evaluator.Run final).Returns, (agent.Evaluate 40).Returns)
    Assert.Equal(4, agent.Config.Iterations)
    Assert.Equal(agent.Config, agent.Experiment.Config)
    Assert.Contains(("optimizer.learning_rate", "linear(0.002,0.001,8)"), agent.Settings)
    Assert.Equal(4L * 32L * 20L, agent.DatasetRows)
    Assert.Equal<(string * int) list>([ "observation", 4; "label", 1; "state", 4 ], agent.DatasetColumns)
    let path = place.Path "data/rows.npz"
    agent.ExportDataset path

    Assert.Equal<byte array>(
        File.ReadAllBytes(Path.Combine(result.Folder, "dataset.npz")),
        File.ReadAllBytes path
    )

    let html = agent.ToHtml()

    for part in [ "4 of 4"; "2560 rows of at most 3000"; "after"; "pole" ] do
        Assert.Contains(part, html)

    agent.Iterate() |> ignore
    Assert.Contains("behavior loss", string agent)

    // What it saves is a run for every reader.
    let saved = agent.Save(place.Path "saved")
    let record = RunRecord.read saved
    Assert.Equal<int64 seq>([ 0L .. 4L ], record.Metrics |> Seq.map _.Iteration)
    Assert.Equal(Some(5L * 640L), RunCost.read saved |> Option.map _.Steps)
    Assert.Equal<byte array>(checkpoint result.Folder "best_student.pt", checkpoint saved "best_student.pt")

    for name in [ "student_5.safetensors"; "student_5.pt" ] do
        use student = Policies.PolicyFile.Load((RunFolder.Open saved).Checkpoint name)

        Assert.Equal<float32 array>(
            agent.Student.Network.Parameters.Span.ToArray(),
            student.Network.Parameters.Span.ToArray()
        )

    Assert.Contains(
        "is there already",
        (Expect.throws<DistillException>(fun () -> agent.Save saved |> ignore)).Message
    )

    (agent :> IDisposable).Dispose()

    Assert.Contains(
        "disposed",
        (Expect.throws<DistillException>(fun () -> agent.Iterate() |> ignore)).Message
    )

[<Fact>]
let ``a folder that is no agent's is refused by a sentence`` () =
    use place = new Workplace()
    let folder = (run place [ "iterations=1"; "report=false" ]).Folder
    let load () = Agent.load folder
    using ((RunFolder.Open folder).Lock()) (fun _ -> Assert.Contains("in use by process", refusalOf load))
    let state = (RunFolder.Open folder).Checkpoint Runner.stateName
    let bytes = File.ReadAllBytes state
    File.Delete state
    Assert.Contains("has finished", refusalOf load)
    File.Delete(Path.Combine(folder, "result.csv"))
    Assert.Contains("no checkpoint to go on from", refusalOf load)
    File.WriteAllBytes(state, Array.append bytes[.. bytes.Length - 2] [| ~~~(Array.last bytes) |])
    Assert.Contains("its checksum is wrong", refusalOf load)
    File.WriteAllBytes(state, bytes)
    let yaml = Path.Combine(folder, "params", "agent.yaml")
    let text = File.ReadAllText yaml

    for was, is, sentence in
        [
            "iterations: 1\n", "iterations: many\n", "iterations=many cannot be"
            "iterations: 1\n", "tierations: 1\n", "'tierations' is none of this version"
            "seed: 0\n", "seed: 0\nseed: 1\n", "agent.yaml"
            "learning_rate: 0.001\n", "learning_rate: mine\n", "does not say its optimizer.learning_rate"
        ] do
        Assert.Contains(was, text)
        File.WriteAllText(yaml, text.Replace("\n" + was, "\n" + is).Replace(" " + was, " " + is))
        Assert.Contains(sentence, refusalOf load)

    File.WriteAllText(yaml, text)
    Assert.Contains("is not a run folder", refusalOf (fun () -> Agent.load (place.Path "nowhere")))
    let policy = (RunFolder.Open folder).Checkpoint "best_student.safetensors"
    let logs = place.Path "logs"

    let evaluation =
        { Evaluate.defaults with
            Name = "looked"
            Policy = policy
            Environment = CartPole.balance { envs = 32 }
        }

    (Evaluate.job evaluation).Run { Training.options with Logs = logs } []

    let looked =
        Directory.GetDirectories(Path.Combine(logs, "looked")) |> Array.exactlyOne

    Assert.Contains(
        "is a run of kind evaluation, which trains no policy",
        refusalOf (fun () -> Agent.load looked)
    )

    using (load ()) (fun agent -> Assert.Equal(1, agent.Iteration))

/// A point that is pushed along a line.
let private point: EnvironmentDefinition =
    {
        Name = "point"
        Envs = 32
        EpisodeLimit = 10
        StepSeconds = 0.1
        StateSize = 1
        Actions = Actions.continuous 1
        Reset = fun random state -> state[0] <- random.Uniform(-1.0, 1.0)
        Step =
            fun _ state action ->
                state[0] <- state[0] + 0.1 * action[0]
                { Reward = -abs state[0]; Terminated = false }
        Views =
            [
                {
                    Group = "student"
                    Components = [ "position", 1 ]
                    Observe = fun state seen -> seen[0] <- state[0]
                }
            ]
    }

[<Fact>]
let ``what was made in the script is named, and given from there`` () =
    use place = new Workplace()
    let file = place.Path "pusher.safetensors"

    using
        (new Policies.Policy(
            Networks.NetworkSpec(1, [| Networks.Dense(1, Compute.Activation.Identity) |], Networks.Head.Plain),
            "student"
        ))
        (fun teacher -> Policies.PolicyFile.Save(file, teacher))

    let experiment =
        distillation {
            name "pushed"
            environment point
            teacher (Teacher.load file)
            student (Student.mlp { hidden = [ 4 ] })
            acting (Acting.teacherUntil 1)
            exploration (Schedule.custom "none" (fun _ -> 0.0))
            collect (Collect.stepsPerEnv 10)
            iterations 2
            evaluationEpisodes 32
            finalEpisodes 32
        }

    let logs = place.Path "logs"
    let result = Run.distilWith [ $"logs={logs}"; "report=false"; "seed=3" ] experiment
    let sentence = refusalOf (fun () -> Agent.load result.Folder)
    Assert.Contains("does not say its environment, exploration, made in the script", sentence)
    Assert.Contains("Agent.loadWith", sentence)
    use agent = Agent.loadWith experiment result.Folder
    Assert.Equal(3UL, agent.Config.Seed)
    Assert.Equal(2, (agent.Iterate()).Iteration)
    let other = Experiment.withSettings [ "learning_rate=0.5" ] experiment
    Assert.Contains("learning_rate: 0.001", refusalOf (fun () -> Agent.loadWith other result.Folder))

[<Fact>]
let ``a training by PPO is an agent without dataset`` () =
    use place = new Workplace()

    let training =
        { TrainTeacher.defaults with
            Environment = CartPole.balance { envs = 32 }
            EvaluationEpisodes = 32
            FinalEpisodes = 32
        }

    let run more =
        let logs = place.Path "logs"
        (Run.trainTeacherWith ([ $"logs={logs}"; "report=false" ] @ more) training (PpoConfig())).Folder

    let whole, stopped = run [ "iterations=4" ], run [ "iterations=2" ]
    use agent = Agent.load stopped
    agent.Iterate 2 |> ignore
    let saved = agent.Save(place.Path "saved")
    Assert.Equal<(string * byte array) list>(blocks whole, blocks saved)

    Assert.Contains(
        "keeps no dataset",
        (Expect.throws<DistillException>(fun () -> agent.DatasetRows |> ignore)).Message
    )

    Assert.Contains("kind ppo", (Expect.throws<DistillException>(fun () -> agent.Config |> ignore)).Message)
    Assert.Contains(("clip_param", "0.2"), agent.Settings)

    Assert.Contains(
        "is a run of kind ppo and no distillation",
        refusalOf (fun () -> Agent.loadWith Experiment.empty stopped)
    )

[<Fact>]
let ``what every kind of every choice says in a folder is read back`` () =
    use place = new Workplace()

    let jobs =
        [
            Distil.job Experiment.empty
            TrainTeacher.job TrainTeacher.defaults (PpoConfig())
            TrainTeacher.sacJob TrainTeacher.single (SacConfig())
        ]

    for job in jobs do
        let catalogue = Settings.catalogue job.Records

        let choices =
            [
                for setting in catalogue do
                    match Settings.kinds setting.Property.PropertyType with
                    | [] -> ()
                    | kinds when setting.Needs = "" -> setting.Name, List.map fst kinds
                    | _ -> ()
            ]

        // The first kinds of all choices, then the second ones, and so on.
        for round in 0 .. (choices |> List.map (snd >> List.length) |> List.max) - 1 do
            let chosen =
                choices |> List.map (fun (name, kinds) -> $"{name}={kinds[round % kinds.Length]}")

            let required =
                [
                    for setting in catalogue do
                        if List.contains setting.Needs chosen && setting.Default = "none" then
                            setting.Name + "=1"
                ]

            let records = (job.With(chosen @ required)).Records
            let folder = RunFolder.CreateAt(place.Path $"{job.Kind}-{round}")

            for name, tree in Training.parameters records do
                folder.WriteParameters(name, tree)

            let again, made = Settings.ofTree (Training.written folder) job.Records
            Assert.Empty made

            let text (records: obj list) =
                Training.parameters records |> List.map (snd >> Yaml.ToText)

            Assert.Equal<string list>(text records, text again)
