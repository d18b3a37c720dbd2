/// What is done with policies: training teachers, evaluating, playing, comparing.
module Distill.Tests.PolicyTests

open System
open System.Globalization
open System.IO
open Distill
open Distill.Algorithms
open Distill.Environments.Quadrotor
open Distill.Policies
open Distill.Storage
open Distill.Tests.RunTests
open Xunit

let private student =
    Path.Combine(AppContext.BaseDirectory, "fixtures", "raptor", "raptor-student.safetensors")

let private invariant (text: string) =
    Double.Parse(text, CultureInfo.InvariantCulture)

[<Fact>]
let ``a trained teacher carries its command, seed and measured return, and resuming changes nothing`` () =
    use place = new Workplace()

    let training =
        { TrainTeacher.defaults with
            Environment = CartPole.balance { envs = 64 }
            EvaluationInterval = 2
            EvaluationEpisodes = 32
            FinalEpisodes = 32
        }

    let saved (name: string) = place.Path $"{name}.safetensors"

    let train (name: string) settings =
        Run.trainTeacherWith
            ([ $"logs={place.Path name}"; $"save_to={saved name}" ] @ settings)
            training
            (PpoConfig(Iterations = 6, Seed = 5UL))

    let whole = train "whole" [ "iterations=6" ]
    use teacher = PolicyFile.Load(saved "whole")
    Assert.Equal("5", teacher.Metadata["seed"])
    Expect.close 1e-2 (invariant teacher.Metadata["return"]) whole.Evaluation.MeanReturn "recorded return"
    let spread = whole.Evaluation.StdReturn / sqrt 32.0
    Expect.close 1e-4 (invariant teacher.Metadata["return_standard_error"]) spread "its standard error"
    Assert.Contains("iterations=6", teacher.Metadata["command"])

    let stopped = train "stopped" [ "iterations=3" ]
    let resumed = train "stopped" [ $"resume={stopped.Folder}"; "iterations=6" ]

    let last (result: TrainingResult) =
        use policy =
            PolicyFile.Load((RunFolder.Open result.Folder).Checkpoint "final_teacher.safetensors")

        policy.Network.Parameters.Span.ToArray()

    Assert.Equal<float32 array>(last whole, last resumed)

    let report = File.ReadAllText(Path.Combine(whole.Folder, "report.html"))
    Assert.Contains("Return of the teacher alone", report)
    Assert.Contains("<small>teacher, ", report)
    Assert.DoesNotContain("student", report.Substring(report.IndexOf "<main>"))
    let rows = MetricsLog.Read whole.Folder

    for name in [ "Loss/value"; "Loss/surrogate"; "Perf/total_fps"; "evaluation/mean_return" ] do
        Assert.Contains(rows[5].Metrics, fun metric -> metric.Key = name)

[<Fact>]
let ``an evaluation has a row for every drone and one for all, and a CSV with the same numbers`` () =
    use place = new Workplace()
    let csv = place.Path "results/drones.csv"

    let comparison =
        Run.evaluateWith
            [ $"policy={student}"; "drones=[crazyflie,x500_real]"; $"csv={csv}"; "episodes=16" ]
            Evaluate.defaults

    Assert.Equal<string list>([ "crazyflie"; "x500_real"; "all" ], comparison.Rows |> List.map fst)
    Assert.Equal<int list>([ 16; 16; 32 ], comparison.Rows |> List.map (fun (_, result) -> result.Episodes))

    let mean label =
        (comparison.Rows |> List.find (fun (name, _) -> name = label) |> snd).MeanReturn

    Expect.close 1e-3 ((mean "crazyflie" + mean "x500_real") / 2.0) (mean "all") "mean of all"
    // The released policy flies both.
    Assert.InRange(mean "crazyflie", 500.0, 700.0)
    let lines = File.ReadAllLines csv
    Assert.Equal(4, lines.Length)

    Assert.Equal(
        "drone,mean_return,std_return,mean_length,share_terminated,episodes,position_error,velocity_error",
        lines[0]
    )

    Assert.Equal(mean "x500_real", invariant (lines[2].Split(',')[1]))
    let _, ofX500 = comparison.Rows[1]
    Assert.Equal(ofX500.Mean "position_error", invariant (lines[2].Split(',')[6]))
    Assert.Contains("velocity_error", string comparison)

[<Fact>]
let ``an evaluation takes any environment, and only quadrotors are played`` () =
    use place = new Workplace()
    let teacher = place.Path "teacher.safetensors"
    saveTeacher teacher

    let comparison =
        Run.evaluateWith [ $"policy={teacher}"; "environment=cart_pole"; "episodes=16" ] Evaluate.defaults

    let label, result = List.exactlyOne comparison.Rows
    Assert.Equal(("all", 16, 500.0), (label, result.Episodes, result.MeanReturn))

    let play () =
        Run.playWith [ $"policy={teacher}"; "environment=cart_pole" ] Play.defaults |> ignore

    Assert.Contains("only flights of quadrotors and hands", Expect.throws<DistillException>(play).Message)

[<Fact>]
let ``numbers that evaluations, flights and teachers cannot work with are refused in a sentence`` () =
    let refused (part: string) (work: unit -> unit) =
        Assert.Contains(part, Expect.throws<DistillException>(work).Message)

    let evaluate (setting: string) () =
        Run.evaluateWith [ $"policy={student}"; setting ] Evaluate.defaults |> ignore

    refused "threads=-1 cannot work" (evaluate "threads=-1")
    refused "episodes=0 cannot work" (evaluate "episodes=0")

    refused "episodes=-2 cannot work" (fun () ->
        Run.playWith [ $"policy={student}"; "episodes=-2" ] Play.defaults |> ignore)

    for setting in
        [
            "threads=-1"
            "save_interval=0"
            "evaluation_interval=0"
            "evaluation_episodes=0"
            "final_episodes=0"
        ] do
        refused $"{setting} cannot work" (fun () ->
            Run.trainTeacherWith [ setting ] TrainTeacher.defaults (PpoConfig()) |> ignore)

[<Fact>]
let ``a flight leaves trajectories whose errors are the ones that are printed`` () =
    use place = new Workplace()
    let output = place.Path "play"

    let result =
        Run.playWith
            [
                $"policy={student}"
                "episodes=3"
                $"output={output}"
                "task=figure_eight"
                "episode_limit=300"
            ]
            Play.defaults

    let arrays =
        Npz.Read(Path.Combine(output, "trajectories.npz"))
        |> Seq.map (fun array -> array.Name, array)
        |> Map.ofSeq

    Assert.Equal<int list>([ 3; 300; 4 ], List.ofSeq arrays["orientation"].Shape)
    Assert.Equal<int64 array>([| 300L; 300L; 300L |], arrays["length"].ToIntegers())

    let position, reference =
        arrays["position"].ToFloats(), arrays["reference_position"].ToFloats()

    let errors =
        [|
            for row in 0 .. 3 * 300 - 1 ->
                sqrt (
                    Seq.sum
                        [
                            for i in 0..2 ->
                                (float position[3 * row + i] - float reference[3 * row + i]) ** 2.0
                        ]
                )
        |]

    Expect.close 1e-9 result.Position.Mean (Array.average errors) "mean error"
    Expect.close 1e-9 result.Position.Max (Array.max errors) "largest error"
    Assert.InRange(result.Position.Median, 0.0, result.Position.P95)
    // It follows the path, which reaches 1 m away.
    Assert.InRange(result.Position.Max, 0.0, 0.6)
    Assert.True(File.Exists(Path.Combine(output, "flight.html")))
    Assert.True(File.Exists(Path.Combine(output, "replay.html")))
    Assert.Equal(3, File.ReadAllLines(Path.Combine(output, "tracking.csv")).Length)

[<Fact>]
let ``tracking statistics of known errors`` () =
    let error = TrackingError.ofErrors [| 4.0; 1.0; 2.0; 3.0; 0.0 |]
    Expect.close 1e-12 error.Mean 2.0 "mean"
    Expect.close 1e-12 error.Median 2.0 "median"
    Expect.close 1e-12 error.P95 3.8 "p95"
    Expect.close 1e-12 error.Max 4.0 "max"

[<Fact>]
let ``a policy that does not fit, or is missing, is refused`` () =
    let refusal settings =
        (Expect.throws<DistillException>(fun () -> Run.evaluateWith settings Evaluate.defaults |> ignore))
            .Message

    Assert.Contains("policy=FILE", refusal [])
    Assert.Contains("policy reads 22 numbers", refusal [ $"policy={student}"; "policy_group=teacher" ])
    Assert.Contains("zeppelin", refusal [ $"policy={student}"; "drones=zeppelin" ])

[<Fact>]
let ``a comparison runs every variant with every seed on the same budget`` () =
    use place = new Workplace()
    let file = place.Path "teacher.safetensors"
    saveTeacher file
    let logs = place.Path "logs"

    let experiment =
        distillation {
            name "who"
            environment (CartPole.balance { envs = 32 })
            teacher (Teacher.load file)
            student (Student.mlp { hidden = [ 8 ] })
            acting (Acting.teacherUntil 1)
            loss (Loss.crossEntropy 0.0)
            collect (Collect.stepsPerEnv 10)
            iterations 4
            evaluationEpisodes 32
            finalEpisodes 32
        }

    let compare () =
        experiment
        |> Run.compareWith [ $"logs={logs}"; "seeds=2"; "phase1_iterations=2" ] (fun phase1 ->
            [ "student only", Acting.studentAlways; "two stages", Acting.teacherUntil phase1 ])

    let comparison = compare ()

    Assert.Equal<(string * int) list>(
        [ "student only", 2; "two stages", 2 ],
        comparison.Rows |> List.map (fun (label, results) -> label, results.Length)
    )

    let against = List.exactlyOne comparison.Comparisons
    Assert.Equal(("two stages", "student only", 2), (against.A, against.B, against.Differences.Length))
    Assert.Contains(string against, string comparison)

    let folders =
        comparison.Rows |> List.collect snd |> List.map (fun (run, _) -> run.Folder)

    Assert.Contains("two-stages_seed-1-", List.last folders)

    let agent =
        File.ReadAllText(Path.Combine(List.last folders, "params", "agent.yaml"))

    Assert.Contains("phase1_iterations: 2", agent)
    Assert.Contains("seed: 1", agent)
    let table = Path.Combine(logs, "who", "comparison.csv")
    let whole = File.ReadAllLines table
    Assert.Equal(5, whole.Length)

    // Run again, it keeps what has finished; what was stopped goes on.
    let result (folder: string) = Path.Combine(folder, "result.csv")
    let before = File.GetLastWriteTimeUtc(result folders[0])
    File.Delete(result (List.last folders))
    compare () |> ignore
    Assert.Equal<string array>(whole, File.ReadAllLines table)
    Assert.Equal(before, File.GetLastWriteTimeUtc(result folders[0]))
    Assert.True(File.Exists(result (List.last folders)))

[<Fact>]
let ``students are compared by a measure, variant by variant, in episodes that none of them has seen`` () =
    use place = new Workplace()
    let logs = place.Path "logs"

    let raptor = student

    let drones =
        distillation {
            name "students"

            environment (
                QuadrotorConfig(Envs = 32, EpisodeLimit = 60, Drones = [| "crazyflie"; "x500_real" |])
            )

            teacher (Teacher.load raptor)
            acting (Acting.teacherUntil 1)
            collect (Collect.stepsPerEnv 10)
            iterations 2
            evaluationEpisodes 4
            finalEpisodes 4
        }

    let students =
        [
            for name, group in [ "absolute", "student"; "relative", "tracking" ] ->
                name, Student.mlp { hidden = [ 8 ] } |> Student.reading group
        ]

    let options =
        { StudentComparison.defaults with Measure = "position_error"; Episodes = 3; EpisodesSeed = 77UL }

    let compare () =
        Run.compareStudentsWith [ $"logs={logs}"; "seeds=2"; "threads=1" ] students options drones

    let comparison = compare ()

    let find variant name =
        comparison.Scores |> List.find (fun score -> score.Variant = variant && score.Student = name)

    Assert.Equal<(string * string * int) list>(
        [
            for variant in [ "crazyflie"; "x500_real"; "all" ] do
                for name, seeds in [ "absolute", 2; "relative", 2; "teacher", 1 ] -> variant, name, seeds
        ],
        [ for score in comparison.Scores -> score.Variant, score.Student, score.Seeds ]
    )

    // By hand: the best student of each run in the same episodes.
    let errors (name: string) (variant: string) =
        [
            for folder in
                Directory.GetDirectories(Path.Combine(logs, "students"), $"{name}_seed-*") |> Array.sort do
                let alone =
                    { Evaluate.defaults with
                        Policy = folder
                        Environment = drones.Config.Environment
                        Episodes = 3
                        Seed = 77UL
                    }

                let rows = (Run.evaluateWith [] alone).Rows
                (rows |> List.find (fst >> (=) variant) |> snd).Mean "position_error"
        ]

    for variant in [ "crazyflie"; "x500_real"; "all" ] do
        let one, other = errors "absolute" variant, errors "relative" variant
        Assert.Equal(2, one.Length)
        Assert.Equal(List.average one, (find variant "absolute").Score.Estimate, 9)
        let own = find variant "relative"
        let difference = Statistics.mean95 (List.map2 (-) other one)
        Assert.Equal(Some difference, own.Difference)
        Assert.Equal(own.Score.Estimate / (find variant "teacher").Score.Estimate, own.OfTeacher, 9)

    let runs = Directory.GetDirectories(Path.Combine(logs, "students"), "*_seed-*")
    Assert.Equal(4, runs.Length)

    for run in runs do
        let name = (Path.GetFileName run |> nonNull).Replace("_seed", "")

        Assert.Equal<byte[]>(
            File.ReadAllBytes(Path.Combine(run, "checkpoints", "best_student.safetensors")),
            File.ReadAllBytes(
                Path.Combine(logs, "students", "students", name[.. name.LastIndexOf '-' - 1] + ".safetensors")
            )
        )

    let file = Path.Combine(logs, "students", "students.csv")
    let whole = File.ReadAllLines file

    Assert.Equal(
        "variant,student,seeds,position_error,position_error_low,position_error_high,minus_absolute,minus_absolute_low,minus_absolute_high,share_of_teacher",
        whole[0]
    )

    Assert.Equal(10, whole.Length)

    Assert.Contains(
        "position_error of the students",
        File.ReadAllText(Path.Combine(logs, "students", "students.html"))
    )

    // Run again, it trains none of them anew.
    let results =
        Directory.GetFiles(Path.Combine(logs, "students"), "result.csv", SearchOption.AllDirectories)

    let times = results |> Array.map File.GetLastWriteTimeUtc
    compare () |> ignore
    Assert.Equal<string array>(whole, File.ReadAllLines file)
    Assert.Equal<DateTime array>(times, results |> Array.map File.GetLastWriteTimeUtc)

[<Fact>]
let ``a student beside a teacher is compared with it, resumed and fine-tuned`` () =
    use place = new Workplace()
    let teacher = place.Path "teacher.safetensors"
    saveTeacher teacher

    let training =
        { TrainTeacher.defaults with
            Name = "improve"
            Environment = CartPole.balance { envs = 64 }
            EvaluationInterval = 2
            EvaluationEpisodes = 32
            FinalEpisodes = 32
        }

    let ppo =
        PpoConfig(
            Iterations = 6,
            Actor = Student.gru { hidden = 6 },
            DistillationCoef = Schedule.linear 1.0 0.0 6,
            PpoCoef = Schedule.linear 0.0 1.0 3,
            Beta = Schedule.linear 1.0 0.0 4,
            CriticWarmup = 1,
            Schedule = RateSchedule.Fixed
        )

    let improve settings =
        Run.improveWith settings training (Teacher.load teacher) ppo

    let whole = improve [ $"""folder={place.Path "whole"}""" ]
    Assert.True whole.Difference.IsSome
    Assert.Contains("Student - teacher: ", string whole)

    let file (folder: string) (name: string) =
        (RunFolder.Open(place.Path folder)).Checkpoint name

    let weights (path: string) =
        use policy = PolicyFile.Load path
        policy.Network.Parameters.Span.ToArray()

    improve [ $"""folder={place.Path "stopped"}"""; "iterations=3" ] |> ignore
    improve [ $"""resume={place.Path "stopped"}"""; "iterations=6" ] |> ignore

    Assert.Equal<float32 array>(
        weights (file "whole" "final_student.safetensors"),
        weights (file "stopped" "final_student.safetensors")
    )

    let report = File.ReadAllText(Path.Combine(whole.Folder, "report.html"))
    Assert.Contains("Schedule of distillation_coef.", report)
    // Fine-tuned from its file, by PPO alone; while the critic warms up it stays as it is.
    let student = file "whole" "final_student.safetensors"

    let tuned =
        Run.trainTeacherWith
            [ $"""folder={place.Path "tuned"}"""; $"actor={student}"; "critic_warmup=2"; "iterations=2" ]
            training
            (PpoConfig())

    Assert.Equal<float32 array>(weights student, weights (file "tuned" "final_teacher.safetensors"))
    Assert.True tuned.Difference.IsNone

    let refusal =
        Expect.throws<DistillException>(fun () ->
            Run.trainTeacherWith [ "beta=0.5" ] training (PpoConfig()) |> ignore)

    Assert.Contains("need a teacher: add teacher=FILE", refusal.Message)

[<Fact>]
let ``a teacher trained by SAC is saved, resumed, loaded, flown and distilled as one trained by PPO`` () =
    use place = new Workplace()
    let saved = place.Path "teacher.safetensors"

    let training =
        { TrainTeacher.single with
            Environment = Quadrotor.mixture { envs = 2 }
            EvaluationInterval = 2
            EvaluationEpisodes = 16
            FinalEpisodes = 16
        }

    let train settings =
        Run.sacWith
            ([ "critic_hidden=[16,16]"; "buffer_size=150"; "tau=0.01" ] @ settings)
            training
            (SacConfig(Iterations = 4, StepsPerEnv = 20, LearningStarts = 30, Seed = 5UL))

    let whole = train [ $"""folder={place.Path "whole"}"""; $"save_to={saved}" ]
    train [ $"""folder={place.Path "stopped"}"""; "iterations=2" ] |> ignore
    train [ $"""resume={place.Path "stopped"}"""; "iterations=4" ] |> ignore

    let weights (folder: string) =
        use policy =
            PolicyFile.Load((RunFolder.Open(place.Path folder)).Checkpoint "final_teacher.safetensors")

        policy.Network.Parameters.Span.ToArray()

    Assert.Equal<float32 array>(weights "whole", weights "stopped")
    use teacher = PolicyFile.Load saved
    Assert.Equal("5", teacher.Metadata["seed"])
    Assert.Equal(Networks.Head.SquashedGaussian, teacher.Network.Spec.Head)
    Expect.close 1e-2 (invariant teacher.Metadata["return"]) whole.Evaluation.MeanReturn "recorded return"
    let report = File.ReadAllText(Path.Combine(whole.Folder, "report.html"))
    Assert.Contains("\"critic\"", report)
    Assert.Contains("Policy/alpha", report)

    use agent = Agent.load whole.Folder
    Assert.Contains(("replay_capacity", "150"), agent.Settings)
    Assert.Equal(4, (agent.Iterate()).Iteration)

    let flight = Run.playWith [ $"policy={saved}"; "episodes=2" ] Play.defaults

    Assert.NotEmpty(string flight)

    let student =
        Run.distilWith
            [
                $"""folder={place.Path "student"}"""
                $"teacher={saved}"
                "iterations=1"
                "envs=32"
                "steps_per_env=5"
                "final_episodes=16"
                "report=false"
            ]
            Experiment.empty

    Assert.True(student.Interruption.IsNone)

[<Fact>]
let ``a student of SAC beside a guide goes on where it was stopped, and its steps to a measure are told`` () =
    use place = new Workplace()

    let training =
        { TrainTeacher.single with
            Environment =
                Quadrotor.mixture { envs = 4 } |> Quadrotor.flying (Drones.sample { number = 2; seed = 3 })
            EvaluationInterval = 2
            EvaluationEpisodes = 16
            FinalEpisodes = 16
            BestBy = "position_error"
        }

    let calls = ref 0

    let guide =
        Teacher.compute "tracking" (fun _ action ->
            Threading.Interlocked.Increment calls |> ignore
            Array.fill action 0 action.Length 0.1)

    let train settings =
        calls.Value <- 0

        let result =
            Run.guidedSacWith
                ([ "critic_hidden=[16,16]"; "imitation.weight=linear(1,0,2)"; "imitation.deviation=0.5" ]
                 @ settings)
                training
                guide
                (SacConfig(Iterations = 4, StepsPerEnv = 20, LearningStarts = 30, Seed = 5UL))

        result, calls.Value

    let whole, asked = train [ $"""folder={place.Path "whole"}""" ]
    train [ $"""folder={place.Path "stopped"}"""; "iterations=4"; "until=3" ] |> ignore
    let resumed, _ = train [ $"""resume={place.Path "stopped"}"""; "until=0" ]
    Assert.True(asked > 0)

    let weights (folder: string) (file: string) =
        use policy =
            PolicyFile.Load((RunFolder.Open folder).Checkpoint(file + ".safetensors"))

        policy.Network.Parameters.Span.ToArray()

    for file in [ "final_student"; "critic_1"; "critic_2" ] do
        Assert.Equal<float32 array>(weights whole.Folder file, weights resumed.Folder file)

    let run = RunRecord.read whole.Folder
    Assert.Equal<int list>([ 1; 2 ], run.Series "Policy/likeness" |> List.map fst)
    Assert.Equal<int list>([ 2; 4 ], run.Series "evaluation/position_error" |> List.map fst)

    for name in training.Environment.Spec.Variants do
        for measure in [ "return"; "position_error" ] do
            Assert.Equal(2, (run.Series $"variants/{name}/{measure}").Length)

    let report = File.ReadAllText(Path.Combine(whole.Folder, "report.html"))
    Assert.Contains("Mean position_error of these episodes, by variant.", report)

    // The same with a measure of which more is better, and one that is never reached.
    let told measure target =
        let folder = $"folder={place.Path measure}"

        train [ folder; $"best_by={measure}"; $"target_measure={target}"; "report=false" ]
        |> fst
        |> fun result -> string result, result.StepsToTarget

    let words, steps = told "length" 1.0
    Assert.Equal(Some 160.0, steps)
    Assert.Contains("Steps to a length of 1: 160", words)
    Assert.Equal(None, told "return" 1e9 |> snd)

    let refused (settings: string list) =
        (Expect.throws<DistillException>(fun () -> train settings |> ignore)).Message

    Assert.Contains("of which less is better", refused [ "target_measure=1" ])

    Assert.Contains(
        "cannot both be looked for",
        refused [ "best_by=return"; "target_measure=1"; "target_return=1" ]
    )

[<Fact>]
let ``a memory or choices are refused before anything is computed by SAC`` () =
    let refused (settings: string list) training =
        (Expect.throws<DistillException>(fun () -> Run.sacWith settings training (SacConfig()) |> ignore))
            .Message

    Assert.Contains("its actor cannot have a memory", refused [ "actor=gru" ] TrainTeacher.single)

    let choices =
        { TrainTeacher.single with Environment = CartPole.balance { envs = 1 } }

    Assert.Contains("use PPO there", refused [] choices)
