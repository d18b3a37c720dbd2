/// Settings on the command line, and experiments as records.
module Distill.Tests.SettingsTests

open System
open System.Collections.Generic
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Storage
open FsCheck
open FsCheck.FSharp
open Xunit
open YamlDotNet.Serialization

let private pole =
    distillation {
        name "pole"
        environment (CartPole.balance { envs = 64 })
        teacher (Teacher.load "pole.safetensors")
        student (Student.gru { hidden = 8 })
        acting (Acting.teacherUntil 10)
        retain (Retain.latest 20_000)
        loss (Loss.crossEntropy 0.05)
        iterations 30
    }

let private with' (settings: string list) (experiment: Experiment) =
    (Experiment.withSettings settings experiment).Config

let private refusal (settings: string list) (experiment: Experiment) =
    (Expect.throws<DistillException>(fun () -> Experiment.withSettings settings experiment |> ignore)).Message

let private mentions (part: string) (text: string) = Assert.Contains(part, text)

/// Experiments of many kinds, made by settings on top of a declared one.
let private experiments =
    let one (name: string) (values: string list) =
        Gen.elements values |> Gen.map (fun value -> [ $"{name}={value}" ])

    let number (name: string) (low: int) (high: int) =
        Gen.choose (low, high) |> Gen.map (fun value -> [ $"{name}={value}" ])

    let acting =
        Gen.oneof
            [
                one "acting" [ "student_always"; "teacher_always"; "linear_beta"; "exponential_beta" ]
                number "phase1_iterations" 0 1000
            ]

    let student =
        Gen.oneof
            [
                Gen.listOfLength 2 (Gen.choose (1, 99))
                |> Gen.map (fun sizes -> [ "student=mlp"; $"""hidden=[{String.Join(",", sizes)}]""" ])
                number "hidden" 1 64
            ]

    Gen.sequenceToList
        [
            acting
            student
            one "retention" [ "first_in_first_out"; "reservoir"; "newest_rollout" ]
            one "sampling" [ "permutation"; "recency_weighted" ]
            one "collection" [ "steps_per_iteration"; "episodes_per_epoch" ]
            one "environment" [ "cart_pole"; "quadrotor" ]
            one "loss" [ "mse"; "huber"; "cross_entropy"; "gaussian_log_likelihood" ]
            one "learning_rate" [ "1e-4"; "0.003"; "1" ]
            one "normalize_observations" [ "true"; "false" ]
            number "seed" 0 Int32.MaxValue
        ]
    |> Gen.map List.concat
    |> Gen.map (fun settings -> Experiment.withSettings settings pole)
    |> Arb.fromGen

let private asArguments (settings: (string * string) list) =
    settings |> List.map (fun (name, text) -> name + "=" + text)

[<Fact>]
let ``names in code and in text are each other's inverse`` () =
    let words =
        Gen.elements [ 'a' .. 'z' ]
        |> Gen.nonEmptyListOf
        |> Gen.map (List.toArray >> String)
        |> Gen.nonEmptyListOf

    Property.check (
        Prop.forAll (Arb.fromGen words) (fun words ->
            let snake = String.Join("_", words)
            Names.snake (Names.pascal snake) = snake)
    )

    Assert.Equal("phase1_iterations", Names.snake "Phase1Iterations")
    Assert.Equal("MaxBufferSize", Names.pascal "max_buffer_size")

[<Fact>]
let ``a computation expression builds the record and nothing else`` () =
    let config = pole.Config
    Assert.Equal("pole", config.Name)
    Assert.Equal("pole.safetensors", pole.Teacher.Teacher)
    Assert.Equal(64, config.Environment.Envs)
    Assert.Equal(30, config.Iterations)
    Assert.Equal(TeacherUntil 10, config.Acting :?> TeacherUntil)
    Assert.Equal(FirstInFirstOut 20_000L, config.Retention :?> FirstInFirstOut)
    Assert.Equal(CrossEntropy 0.05, config.Loss :?> CrossEntropy)
    Assert.Equal(8, (config.Student :?> GruStudent).Hidden)
    // What is not said has the defaults of the record.
    let defaults = DistillationConfig(Environment = CartPoleConfig())
    Assert.Equal(defaults.Optimizer, config.Optimizer)
    Assert.Equal(defaults.EvaluationInterval, config.EvaluationInterval)

[<Fact>]
let ``every setting can be written down and given back`` () =
    Property.check (
        Prop.forAll experiments (fun experiment ->
            let settings = Experiment.settings experiment
            let again = Experiment.withSettings (asArguments settings) Experiment.empty
            Experiment.settings again = settings)
    )

[<Fact>]
let ``every setting is found by its full name, and by its last part where that is unique`` () =
    let settings = Experiment.settings Experiment.empty

    let last (name: string) =
        name.Substring(name.LastIndexOf '.' + 1)

    for name, text in settings do
        let same = settings |> List.filter (fun (other, _) -> last other = last name)

        for written in (if same.Length = 1 then [ name; last name ] else [ name ]) do
            let again = Experiment.withSettings [ $"{written}={text}" ] Experiment.empty
            Assert.Equal<(string * string) list>(settings, Experiment.settings again)

[<Fact>]
let ``params in YAML read back as the same settings`` () =
    let rec flatten (prefix: string) (node: obj | null) =
        [
            for entry in (nonNull node :?> Dictionary<obj, obj | null>) do
                match string entry.Key, entry.Value with
                | "kind", value -> prefix.TrimEnd '.' + "=" + string value
                | name, (:? Dictionary<obj, obj | null> as inner) ->
                    yield! flatten (prefix + name + ".") inner
                | name, (:? List<obj> as items) -> prefix + name + "=[" + String.Join(",", items) + "]"
                | name, null -> prefix + name + "=null"
                | name, value -> prefix + name + "=" + string value
        ]

    Property.checkMany
        30
        (Prop.forAll experiments (fun experiment ->
            let texts =
                [ box experiment.Teacher; experiment.Config ]
                |> List.map (nonNull >> Settings.tree >> Yaml.ToText)

            let read =
                texts
                |> List.collect (fun text ->
                    flatten "" (DeserializerBuilder().Build().Deserialize<obj> text))

            let again = Experiment.withSettings read Experiment.empty
            Experiment.settings again = Experiment.settings experiment))

[<Fact>]
let ``numbers, words, lists and null are read as what the field is`` () =
    let quadrotor = Experiment.withSettings [ "environment=quadrotor"; "loss=mse" ] pole

    let config =
        quadrotor
        |> with'
            [
                "max_buffer_size=500_000"
                "phase1_iterations=200"
                "learning_rate=3e-4"
                "environment.envs=2048"
                "student.hidden=32"
                "task=figure_eight"
                "figure_eight.interval=10"
                "drones=crazyflie,x500"
                "reward_constant=null"
                "initial_states.guidance=0.5"
                "run_name=a=b"
            ]

    let environment = config.Environment :?> QuadrotorConfig
    Assert.Equal(500_000L, config.Retention.Limit)
    Assert.Equal(200, (config.Acting :?> TeacherUntil).Phase1Iterations)
    Assert.Equal(3e-4, config.Optimizer.LearningRate.Value)
    Assert.Equal(2048, environment.Envs)
    Assert.Equal(QuadrotorTask.FigureEight, environment.Task)
    Assert.Equal(10.0, environment.FigureEight.LoopSeconds)
    Assert.Equal<string list>([ "crazyflie"; "x500" ], List.ofSeq environment.Drones)
    Assert.False environment.RewardConstant.HasValue
    Assert.Equal(0.5, (nonNull environment.InitialStates).Guidance)
    Assert.Equal("a=b", config.RunName)
    let without = quadrotor |> with' [ "initial_states=null" ]
    Assert.Null((without.Environment :?> QuadrotorConfig).InitialStates)

[<Fact>]
let ``environments around others have settings of their own, and those of the others under the same names``
    ()
    =
    let hands =
        distillation {
            environment (
                Manipulation.tasks [ Environments.Manipulation.ManipulationTask.Push ] { envs = 8 }
                |> Environment.encoded { encoder = "a.safetensors"; states = "reduced" }
            )
        }

    let changed =
        (Experiment.withSettings
            [ "encoder=b.safetensors"; "environment.envs=64"; "tasks=[reach,push]"; "states=student" ]
            hands)
            .Config.Environment
        :?> Policies.EncodedConfig

    Assert.Equal(("b.safetensors", "student"), (changed.Encoder, changed.States))
    let inner = changed.Environment :?> Environments.Manipulation.ManipulationConfig
    Assert.Equal((64, 2), (inner.Envs, inner.Tasks.Count))

    let made =
        (Experiment.withSettings
            [ "environment=encoded"; "encoder=b.safetensors"; "environment.envs=32" ]
            Experiment.empty)
            .Config.Environment

    Assert.Equal(32, made.Envs)

[<Fact>]
let ``digits may be grouped anywhere between digits`` () =
    Property.check (fun (NonNegativeInt value) ->
        let plain = string value
        let grouped = String.Join("_", plain.ToCharArray())
        (pole |> with' [ $"iterations={grouped}" ]).Iterations = value)

[<Fact>]
let ``of several values for one setting the last counts`` () =
    Assert.Equal(7, (pole |> with' [ "iterations=5"; "iterations=7" ]).Iterations)

[<Fact>]
let ``a choice is switched by its kind, in whatever order, and keeps what both kinds have`` () =
    let reservoir = pole |> with' [ "retention=reservoir" ]
    Assert.Equal(Reservoir 20_000L, reservoir.Retention :?> Reservoir)

    for settings in [ [ "student=mlp"; "hidden=[64,64]" ]; [ "hidden=[64,64]"; "student=mlp" ] ] do
        let student =
            (pole |> with' ("observation_group=state" :: settings)).Student :?> MlpStudent

        Assert.Equal<int list>([ 64; 64 ], List.ofSeq student.Hidden)
        Assert.Equal("state", student.ObservationGroup)
        Assert.Equal(Activation.Elu, student.Activation)

    // A kind that is in place already keeps its values.
    Assert.Equal(10, ((pole |> with' [ "acting=teacher_until" ]).Acting :?> TeacherUntil).Phase1Iterations)

[<Fact>]
let ``the flags and names of other systems are understood`` () =
    Assert.IsType<NewestRollout>((pole |> with' [ "use_dagger=false" ]).Retention) |> ignore
    Assert.IsType<NewestRollout>((pole |> with' [ "on_policy=true" ]).Retention) |> ignore
    Assert.Equal(20_000L, (pole |> with' [ "use_dagger=true" ]).Retention.Limit)
    Assert.IsType<StudentAlways>((pole |> with' [ "use_two_stage_training=false" ]).Acting) |> ignore

    Assert.Equal(
        50,
        ((pole |> with' [ "epoch_teacher_forcing=50" ]).Acting :?> TeacherUntil).Phase1Iterations
    )

    Assert.Equal(9, (pole |> with' [ "n_epochs=9" ]).Iterations)
    Assert.True((pole |> with' [ "normalise_observations=true" ]).Student.NormalizeObservations)
    Assert.IsType<LossPrioritized>((pole |> with' [ "sampling=loss_prioritised" ]).Sampling) |> ignore
    pole |> refusal [ "use_dagger=perhaps" ] |> mentions "true or false"

    let config =
        (distillation { environment (Quadrotor.mixture { envs = 64 }) })
        |> with'
            [
                "env.scene.num_envs=128"
                "num_steps_per_env=24"
                "agent.max_iterations=300"
                "experiment_name=velocity"
                "agent.algorithm.loss_type=huber"
                "optim_steps=5"
                "buffer_size=1e5"
                "agent.algorithm.learning_rate=3e-4"
                "shuffle=false"
                "device=cpu"
            ]

    Assert.Equal(128, config.Environment.Envs)
    Assert.Equal(StepsPerIteration 24, config.Collection :?> StepsPerIteration)
    Assert.Equal(300, config.Iterations)
    Assert.Equal("velocity", config.Name)
    Assert.IsType<Huber>(config.Loss) |> ignore
    Assert.Equal(5, config.NumLearningEpochs.Whole)
    Assert.Equal(100_000L, config.Retention.Limit)
    Assert.Equal(3e-4, config.Optimizer.LearningRate.Value)
    Assert.IsType<InOrder>(config.Sampling) |> ignore

    for name in [ "teacher_checkpoint"; "checkpoint" ] do
        let teacher = (Experiment.withSettings [ $"{name}=model_1500.pt" ] pole).Teacher
        Assert.Equal("model_1500.pt", teacher.Teacher)

    let training, ppo =
        Settings.apply2
            [ "num_envs=64"; "max_iterations=7"; "num_steps_per_env=16" ]
            (TrainTeacher.defaults, PpoConfig())

    Assert.Equal((64, 7, 16), (training.Environment.Envs, ppo.Iterations, ppo.StepsPerEnv))

    Assert.Equal("a.pt", (Settings.apply1 [ "checkpoint=a.pt" ] Play.defaults).Policy)

[<Fact>]
let ``a name that systems use for different things is asked back`` () =
    let sentence = pole |> refusal [ "batch_size=256" ]
    sentence |> mentions "mini_batch_size"
    sentence |> mentions "steps_per_env"

[<Fact>]
let ``distillations and PPO have a device, and everything else is computed on the CPU`` () =
    Assert.Equal(ComputeDevice.Cpu, pole.Config.Device)
    Assert.Equal(ComputeDevice.Cpu, PpoConfig().Device)

    for text, device in [ "cpu", ComputeDevice.Cpu; "auto", ComputeDevice.Auto; "cuda:0", ComputeDevice.Cuda ] do
        Assert.Equal(device, (pole |> with' [ $"device={text}" ]).Device)

        let _, ppo =
            Settings.apply2 [ $"device={text}" ] (TrainTeacher.defaults, PpoConfig())

        Assert.Equal(device, ppo.Device)

    Settings.apply1 [ "device=cpu" ] TrainTeacher.defaults |> ignore

    (Expect.throws<DistillException>(fun () ->
        Settings.apply1 [ "device=cuda" ] TrainTeacher.defaults |> ignore))
        .Message
    |> mentions "device=cpu"

[<Fact>]
let ``whole numbers may have exponents`` () =
    Assert.Equal(100_000L, (pole |> with' [ "max_buffer_size=1e5" ]).Retention.Limit)
    Assert.Equal(3UL, (pole |> with' [ "seed=3e0" ]).Seed)
    pole |> refusal [ "iterations=1e-1" ] |> mentions "a whole number"
    pole |> refusal [ "iterations=1e11" ] |> mentions "a whole number"

[<Fact>]
let ``several values for a run name the sweep`` () =
    let sentence = pole |> refusal [ "max_buffer_size=5_000,10_000" ]
    sentence |> mentions "build.fsx sweep"
    pole |> refusal [ "max_buffer_size=5_000,many" ] |> mentions "a whole number"

[<Fact>]
let ``a file stands for the student that it holds`` () =
    for settings in
        [ [ "student=logs/a/best_student.pt" ]; [ "student=file"; "student.file=logs/a/best_student.pt" ] ] do
        let student = (pole |> with' settings).Student :?> FileStudent
        Assert.Equal("logs/a/best_student.pt", student.File)
        // What both kinds have stays.
        Assert.Equal(pole.Config.Student.ObservationGroup, student.ObservationGroup)

[<Fact>]
let ``whole episodes bring the defaults of their regime, where nothing else was said`` () =
    let regime (config: DistillationConfig) =
        config.Iterations,
        config.Optimizer.LearningRate.Value,
        (config.Acting :?> TeacherUntil).Phase1Iterations,
        config.MiniBatchSize.Whole,
        config.EvaluationInterval

    let bare =
        distillation {
            environment (CartPole.balance { envs = 8 })
            collect (Collect.episodes 100)
        }

    Assert.Equal((100, 1e-4, 50, 256, 1), regime bare.Config)
    let byName = Experiment.empty |> with' [ "collection=episodes_per_epoch" ]
    Assert.Equal((100, 1e-4, 50, 256, 1), regime byName)
    Assert.Equal(100, (byName.Collection :?> EpisodesPerEpoch).NumEpisodes)

    let said =
        distillation {
            environment (CartPole.balance { envs = 8 })
            iterations 30
            collect (Collect.episodes 20)
            acting (Acting.teacherUntil 3)
        }

    Assert.Equal((30, 1e-4, 3, 256, 1), regime said.Config)

    let onTheCommandLine =
        Experiment.empty
        |> with'
            [ "learning_rate=2e-3"; "collection=episodes_per_epoch"; "num_episodes=7"; "iterations=1500" ]

    Assert.Equal((1500, 2e-3, 50, 256, 1), regime onTheCommandLine)
    Assert.Equal(7, (onTheCommandLine.Collection :?> EpisodesPerEpoch).NumEpisodes)

[<Fact>]
let ``presets have other systems' numbers`` () =
    let numbers (config: DistillationConfig) =
        config.Retention.Limit,
        (config.Collection :?> StepsPerIteration).StepsPerEnv * config.Environment.Envs,
        config.Optimizer.LearningRate.Value,
        config.NumLearningEpochs.Whole,
        config.MiniBatchSize.Whole,
        config.Optimizer.MaxGradNorm.Value

    let of' settings =
        numbers (Experiment.empty |> with' settings)

    Assert.Equal((10_000L, 1000, 1e-3, 1, 32, 10.0), of' [ "preset=prt_rl"; "num_envs=8" ])
    Assert.Equal((100_000L, 2000, 1e-3, 5, 128, 5.0), of' [ "preset=low_dimensional"; "envs=50" ])

    Assert.Equal(
        (100_000L, 2000, 1e-3, 5, 64, 5.0),
        of' [ "mini_batch_size=64"; "preset=low_dimensional"; "envs=50" ]
    )

    let scripted =
        distillation {
            environment (CartPole.balance { envs = 10 })
            preset Preset.prtRl
            epochs 2
        }

    Assert.Equal((10_000L, 1000, 1e-3, 2, 32, 10.0), numbers scripted.Config)
    Assert.IsType<StudentAlways>(scripted.Config.Acting) |> ignore
    Experiment.empty |> refusal [ "preset=prt-rl" ] |> mentions "prt_rl"

/// The values of settings after a preset.
let private after (preset: string) (names: string list) =
    // From where no number is what it should be.
    let elsewhere =
        Experiment.empty
        |> with'
            [
                "envs=50"
                "student=mlp"
                "student.observation_group=tracking"
                "acting=linear_beta"
                "retention=reservoir"
                "max_buffer_size=7"
                "sampling=in_order"
                "teacher_deterministic=false"
                "iterations=7"
                "num_learning_epochs=7"
                "num_mini_batches=7"
                "mini_batch_size=7"
                "sequence_length=7"
                "gradient_length=7"
                "learning_rate=7"
                "max_grad_norm=7"
                "beta1=0.7"
                "beta2=0.7"
                "optimizer.epsilon=7"
                "floor=7"
                "weight_decay=7"
                "save_interval=7"
                "evaluation_interval=7"
                "evaluation_episodes=7"
            ]

    let config =
        { Experiment.empty with Config = elsewhere } |> with' [ $"preset={preset}" ]

    let values = Settings.describe [ config ] |> Map.ofList
    names |> List.map (fun name -> values[name])

[<Fact>]
let ``the presets of rsl_rl have the numbers of its code and of its forks`` () =
    Assert.Equal<string list>(
        [ "student_always"; "newest_rollout"; "1"; "0.001"; "15"; "0" ],
        after
            "rsl_rl"
            [
                "acting"
                "retention"
                "num_learning_epochs"
                "optimizer.learning_rate"
                "gradient_length"
                "optimizer.max_grad_norm"
            ]
    )

    Assert.Equal<string list>(
        [ "600"; "1000000"; "400"; "1500"; "4"; "8"; "0"; "0.001"; "1"; "15"; "100" ],
        after
            "rsl_rl_dagger"
            [
                "acting.phase1_iterations"
                "retention.max_buffer_size"
                "collection.steps_per_env"
                "iterations"
                "num_learning_epochs"
                "num_mini_batches"
                "mini_batch_size"
                "optimizer.learning_rate"
                "optimizer.max_grad_norm"
                "gradient_length"
                "save_interval"
            ]
    )

[<Fact>]
let ``the preset of RAPTOR has the numbers of its post-training`` () =
    let expected =
        [
            "collection", "episodes_per_epoch"
            "collection.pack_episodes", "true" // gather_epoch
            "steady_state_episodes", "50" // STEADY_STATE_POSITION_CORRECTION
            "iterations", "1000" // N_EPOCH
            "acting.phase1_iterations", "10" // EPOCH_TEACHER_FORCING
            "teacher_deterministic", "true" // TEACHER_DETERMINISTIC
            "retention", "newest_rollout" // ON_POLICY
            "sampling", "permutation" // SHUFFLE
            "num_learning_epochs", "1"
            "mini_batch_size", "64" // BATCH_SIZE
            "sequence_length", "0"
            "gradient_length", "500" // SEQUENCE_LENGTH
            "student", "gru"
            "student.hidden", "16" // HIDDEN_DIM
            "student.dense_after", "0"
            "student.observation_group", "tracking"
            "optimizer.learning_rate", "0.0001"
            "optimizer.beta1", "0.9"
            "optimizer.beta2", "0.999"
            "optimizer.epsilon", "1E-07"
            "optimizer.floor", "1E-07"
            "optimizer.weight_decay", "0"
            "optimizer.max_grad_norm", "0"
            "evaluation_interval", "1"
            "evaluation_episodes", "100" // NUM_EPISODES_EVAL
        ]

    let names = List.map fst expected
    Assert.Equal<(string * string) list>(expected, List.zip names (after "raptor" names))

[<Fact>]
let ``every preset gives an experiment that can run`` () =
    let plain =
        distillation {
            environment (Quadrotor.mixture { envs = 32 })
            student (Student.mlp { hidden = [ 8 ] } |> Student.reading "tracking")
        }

    for _, preset in Experiment.presets do
        let config = (preset plain).Config
        Assert.Null(Record.Exception(fun () -> config.Validate()))
        Assert.Equal("tracking", config.Student.ObservationGroup)

[<Fact>]
let ``a kind that needs a value says so`` () =
    let student = Experiment.withSettings [ "acting=student_always" ] pole
    student |> refusal [ "acting=teacher_until" ] |> mentions "phase1_iterations"
    let both = student |> with' [ "phase1_iterations=3"; "acting=teacher_until" ]
    Assert.Equal(3, (both.Acting :?> TeacherUntil).Phase1Iterations)

[<Fact>]
let ``an unknown name gets the near ones`` () =
    pole |> refusal [ "max_bufer_size=1" ] |> mentions "did you mean max_buffer_size?"
    pole |> refusal [ "phase1_iteration=1" ] |> mentions "phase1_iterations"
    pole |> refusal [ "quetzalcoatl=1" ] |> mentions "there are: "

[<Fact>]
let ``a setting of a kind that is not chosen says which kind it belongs to`` () =
    let sentence = pole |> refusal [ "acting=student_always"; "phase1_iterations=3" ]
    sentence |> mentions "acting=teacher_until"

[<Fact>]
let ``a wrong value gets what would be right`` () =
    pole |> refusal [ "iterations=many" ] |> mentions "a whole number"
    pole |> refusal [ "iterations=1.5" ] |> mentions "a whole number"
    pole |> refusal [ "iterations=99999999999" ] |> mentions "a whole number"
    pole |> refusal [ "seed=-1" ] |> mentions "a whole number from 0"
    pole |> refusal [ "learning_rate=nan" ] |> mentions "a number"
    pole |> refusal [ "normalize_observations=1" ] |> mentions "true or false"
    pole |> refusal [ "loss=hubber" ] |> mentions "huber"
    pole |> refusal [ "iterations" ] |> mentions "name=value"
    pole |> refusal [ "optimizer=adagrad" ] |> mentions "one of adam"

type Wheel = { Radius: float }

type Cart = { Front: Wheel; Back: Wheel }

[<Fact>]
let ``a name that could be two settings is refused with both`` () =
    let cart = { Front = { Radius = 1.0 }; Back = { Radius = 2.0 } }
    let apply setting = Settings.apply [ setting ] [ cart ]
    let refusal = Expect.throws<DistillException>(fun () -> apply "radius=3" |> ignore)
    Assert.Contains("front.radius or back.radius", refusal.Message)
    Assert.Equal<obj list>([ box { cart with Back = { Radius = 3.0 } } |> nonNull ], apply "back.radius=3")

[<Fact>]
let ``a number can be a schedule of the iteration, which is written down and read back`` () =
    let changed =
        pole
        |> with'
            [
                "learning_rate=linear(1e-3,1e-4,200)"
                "num_learning_epochs=piecewise(0:8,20:2)"
                "smoothing=cosine(0.1,0,20)"
                "acting=mixed"
                "beta=decay(1,0.7)"
            ]

    Assert.Equal(5.5e-4, changed.Optimizer.LearningRate.At 100, 12)
    Assert.Equal(5.0, changed.NumLearningEpochs.At 10)
    Assert.Equal(0.49, changed.Acting.TeacherShare 2, 12)

    Assert.Equal<string list>(
        [ "acting.beta"; "loss.smoothing"; "num_learning_epochs"; "optimizer.learning_rate" ],
        Settings.schedules [ changed ] |> List.map fst |> List.sort
    )

    let again =
        Settings.describe [ changed ]
        |> List.map (fun (name, text) -> $"{name}={text}")
        |> fun arguments -> Settings.apply arguments [ pole.Config ]

    Assert.Equal<(string * string) list>(Settings.describe [ changed ], Settings.describe again)
    Assert.Contains("learning_rate: linear(0.001,0.0001,200)", Storage.Yaml.ToText(Settings.tree changed))
    pole |> refusal [ "learning_rate=linear(1,2)" ] |> mentions "or a schedule of the iteration"
    pole |> refusal [ "iterations=linear(1,2,3)" ] |> mentions "a whole number"

[<Fact>]
let ``a function can only be set in the script`` () =
    let scheduled =
        distillation {
            acting (
                Acting.schedule (Schedule.custom "mine" (fun iteration -> if iteration < 3 then 1.0 else 0.0))
            )
        }

    Assert.Equal(1.0, scheduled.Config.Acting.TeacherShare 2)
    Assert.Equal("mine", (dict (Experiment.settings scheduled))["acting.beta"])
    Experiment.empty |> refusal [ "acting=mixed"; "beta=mine" ] |> mentions "a number, or a schedule"

[<Fact>]
let ``any text is either understood or refused with a sentence`` () =
    let names = Experiment.settings pole |> List.map fst

    let texts = ArbMap.defaults |> ArbMap.generate<char array> |> Gen.map String

    let arguments =
        Gen.oneof [ texts; Gen.map2 (fun name text -> name + "=" + text) (Gen.elements names) texts ]

    Property.checkMany
        500
        (Prop.forAll (Arb.fromGen arguments) (fun argument ->
            try
                Experiment.withSettings [ argument ] pole |> ignore
            with :? DistillException as refusal ->
                if refusal.Message = "" then
                    failwith "an empty sentence"))

[<Fact>]
let ``every setting is described, and help finds it by its name and by other systems'`` () =
    Assert.Equal<string list>([], Help.undescribed ())
    let phase1 = Help.setting "phase1_iterations"
    phase1 |> mentions "acting.phase1_iterations, with acting=teacher_until"
    phase1 |> mentions "40 %"
    phase1 |> mentions "default: 500"
    Help.setting "retention" |> mentions "reservoir: A uniform sample"
    Help.setting "buffer_size" |> mentions "retention.max_buffer_size"
    Help.setting "use_dagger" |> mentions "newest_rollout"

    let refusal =
        Expect.throws<DistillException>(fun () -> Help.setting "max_bufer_size" |> ignore)

    refusal.Message |> mentions "did you mean max_buffer_size?"

[<Fact>]
let ``every number of an algorithm says when to raise it and when to lower it`` () =
    let reasoned =
        [
            "seed" // no seed is better than another
            "threads" // results do not depend on it
            "target_return" // what is to be reached is the user's
            "until" // where to stop is the user's
            "target_measure" // as target_return
        ]

    Assert.Equal<string list>(reasoned, Help.undirected ())

/// What a function of a module gives for some arguments.
let private made (modules: Type) (result: Type) : obj list =
    let argument (t: Type) : obj =
        if t = typeof<int> then
            3
        elif t = typeof<float> then
            0.5
        elif t = typeof<string> then
            "some.safetensors"
        elif t = typeof<MemorySize> then
            ({ hidden = 4 }: MemorySize)
        elif t = typeof<LayerSizes> then
            ({ hidden = [ 4 ] }: LayerSizes)
        else
            Schedule.linear 1.0 0.0 5

    [
        for p in modules.GetProperties() do
            if p.PropertyType = result then
                nonNull (p.GetValue null)

        for f in modules.GetMethods() do
            let parameters = f.GetParameters() |> Array.map _.ParameterType

            if f.ReturnType = result && not f.IsSpecialName && not (Array.contains result parameters) then
                nonNull (f.Invoke(null, Array.map argument parameters))
    ]

[<Fact>]
let ``every kind of every choice has a function that makes it`` () =
    let scripts = typeof<Experiment>.Assembly

    for choice, modules in
        [
            typeof<StudentConfig>, "Student"
            typeof<Acting>, "ActingModule"
            typeof<Retention>, "Retain"
            typeof<Sampling>, "Sample"
            typeof<Loss>, "LossModule"
            typeof<Collection>, "Collect"
        ] do
        let functions =
            [ $"Distill.{modules}"; $"""Distill.{modules.Replace("Module", "")}""" ]
            |> List.pick (scripts.GetType >> Option.ofObj)

        let kinds =
            choice.Assembly.GetTypes()
            |> Array.filter (fun t -> choice.IsAssignableFrom t && not t.IsAbstract)
            |> Array.map _.Name
            |> set

        Assert.Equal<Set<string>>(kinds, made functions choice |> List.map _.GetType().Name |> set)

[<Fact>]
let ``every field of a distillation has an operation, and an operation sets its field alone`` () =
    let other: (Type * obj) list =
        [
            typeof<int>, 7919
            typeof<string>, "another"
            typeof<bool>, false
            typeof<float>, 0.25
            typeof<string list>, [ "student_action" ]
            typeof<SeedLabels>, SeedLabels.Teacher
            typeof<ComputeDevice>, ComputeDevice.Auto
            typeof<IEnvironmentConfig>, CartPole.balance { envs = 7 }
            typeof<StudentConfig>, Student.mlp { hidden = [ 5 ] }
            typeof<Acting>, Acting.studentAlways
            typeof<ActiveTeachers>, Active.worst 3
            typeof<Retention>, Retain.newestRollout
            typeof<Sampling>, Sample.inOrder
            typeof<Loss>, Loss.huber 2.0
            typeof<Collection>, Collect.stepsPerEnv 77
            typeof<OptimizerConfig>, AdamConfig(LearningRate = 0.5)
            typeof<Schedule>, Schedule.linear 7919.0 7920.0 3
        ]

    let fields = typeof<DistillationConfig>.GetProperties() |> Array.filter _.CanWrite

    let changed =
        [
            for operation in typeof<DistillationBuilder>.GetMethods() do
                match operation.GetParameters() |> Array.map _.ParameterType with
                | [| of'; takes |] when of' = typeof<Experiment> && List.exists (fst >> (=) takes) other ->
                    let value = other |> List.find (fst >> (=) takes) |> snd

                    let changed =
                        nonNull (operation.Invoke(distillation, [| Experiment.empty; value |])) :?> Experiment

                    [
                        for field in fields do
                            if field.GetValue changed.Config <> field.GetValue Experiment.empty.Config then
                                field.Name
                    ]
                    |> List.exactlyOne
                | _ -> ()
        ]

    Assert.Equal<string list>(fields |> Array.map _.Name |> Array.sort |> List.ofArray, List.sort changed)
