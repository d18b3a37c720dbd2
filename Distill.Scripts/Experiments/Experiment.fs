namespace Distill

open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Environments.Recorded
open Distill.Networks
open Microsoft.FSharp.Quotations

/// A distillation, fully described: the teacher and everything else.
type Experiment = { Teacher: TeacherFile; Config: DistillationConfig }

/// Settings that belong together.
type Preset = Experiment -> Experiment

module Experiment =
    /// What an experiment is that says nothing; it still needs a teacher.
    let empty: Experiment =
        { Teacher = Teacher.none; Config = DistillationConfig(Environment = QuadrotorConfig()) }

    let private apply (settings: string list) (experiment: Experiment) : Experiment =
        let teacher, config =
            Settings.apply2 settings (experiment.Teacher, experiment.Config)

        { Teacher = teacher; Config = config }

    /// Names of the settings that have their defaults.
    let atDefault (experiment: Experiment) : Set<string> =
        Settings.atDefault [ empty.Teacher; empty.Config ] [ experiment.Teacher; experiment.Config ]

    // The defaults of the episode-driven regime.
    let private ofEpisodes =
        [
            "iterations", "100"
            "phase1_iterations", "50"
            "learning_rate", "1e-4"
            "mini_batch_size", "256"
            "evaluation_interval", "1"
        ]

    /// The experiment in epochs of whole episodes; what has the default of the iteration-driven regime gets that of this one:
    /// 100 epochs, the teacher driving 50, learning rate 1e-4, mini-batches of 256, an evaluation after every epoch.
    let inEpisodes (experiment: Experiment) : Experiment =
        let untouched = atDefault experiment

        let isUntouched (name: string) = Set.exists (Names.means name) untouched

        if experiment.Config.Collection.WholeEpisodes then
            experiment
        else
            apply
                [
                    "collection=episodes_per_epoch"
                    for name, value in ofEpisodes do
                        if isUntouched name then
                            $"{name}={value}"
                ]
                experiment

    // prt-rl says how many steps an iteration gathers, all environments together.
    let private likePrtRl (steps: int) (settings: string list) (experiment: Experiment) : Experiment =
        let perEnv =
            (steps + experiment.Config.Environment.Envs - 1) / experiment.Config.Environment.Envs

        apply
            ([
                "acting=student_always"
                "retention=first_in_first_out"
                "collection=steps_per_iteration"
                $"steps_per_env={perEnv}"
                "learning_rate=1e-3"
             ]
             @ settings)
            experiment

    /// The defaults of prt-rl's DAgger agent: 1,000 steps an iteration, the newest 10,000 kept, one pass in mini-batches of 32,
    /// gradients clipped at 10.
    let prtRl: Preset =
        likePrtRl
            1000
            [ "max_buffer_size=10_000"; "num_learning_epochs=1"; "mini_batch_size=32"; "max_grad_norm=10" ]

    /// What prt-rl's documentation recommends for control with few dimensions: 2,000 steps an iteration, the newest 100,000
    /// kept, five passes in mini-batches of 128, gradients clipped at 5.
    let lowDimensional: Preset =
        likePrtRl
            2000
            [ "max_buffer_size=100_000"; "num_learning_epochs=5"; "mini_batch_size=128"; "max_grad_norm=5" ]

    /// The defaults of rsl_rl's distillation (`Distillation` of version 5): the student drives from the start, what an iteration
    /// gathered is used once and thrown away, learning rate 1e-3, back-propagation through 15 steps, gradients not clipped. It
    /// has no defaults for steps and iterations.
    let rslRl: Preset =
        apply
            [
                "acting=student_always"
                "retention=newest_rollout"
                "num_learning_epochs=1"
                "learning_rate=1e-3"
                "gradient_length=15"
                "max_grad_norm=0"
            ]

    /// The defaults of rsl_rl's forks with an aggregated dataset and two stages: 1,500 iterations of 400 steps an environment, the
    /// teacher driving the first 600 (40 %, which they advise), four passes over at most a million rows in eight mini-batches or
    /// more, learning rate 1e-3, gradients clipped at 1, back-propagation through 15 steps, a checkpoint every 100 iterations.
    let rslRlDagger: Preset =
        apply
            [
                "acting=teacher_until"
                "phase1_iterations=600"
                "retention=first_in_first_out"
                "max_buffer_size=1_000_000"
                "collection=steps_per_iteration"
                "steps_per_env=400"
                "iterations=1500"
                "num_learning_epochs=4"
                "num_mini_batches=8"
                "mini_batch_size=0"
                "learning_rate=1e-3"
                "max_grad_norm=1"
                "gradient_length=15"
                "save_interval=100"
            ]

    /// The post-training of RAPTOR's foundation policy (Eschmann, Albani and Loianno 2026, and its code in rl-tools): 1,000 epochs of
    /// whole episodes, the teacher driving the first 10, each epoch's episodes used once and thrown away, 64 sequences of at most
    /// 500 steps a mini-batch, back-propagated in full, Adam at 1e-4 with rl-tools' floor, gradients not clipped, a GRU of 16, and
    /// 100 episodes of evaluation after each epoch. How many episodes an epoch has stays yours: RAPTOR flies 10 for each of its
    /// 1,000 teachers.
    let raptor: Preset =
        apply
            [
                "collection=episodes_per_epoch"
                "pack_episodes=true"
                "steady_state_episodes=50"
                "iterations=1000"
                "acting=teacher_until"
                "phase1_iterations=10"
                "teacher_deterministic=true"
                "retention=newest_rollout"
                "sampling=permutation"
                "num_learning_epochs=1"
                "mini_batch_size=64"
                "sequence_length=0"
                "gradient_length=500"
                "student=gru"
                "student.hidden=16"
                "dense_after=0"
                "learning_rate=1e-4"
                "beta1=0.9"
                "beta2=0.999"
                "optimizer.epsilon=1e-7"
                "floor=1e-7"
                "weight_decay=0"
                "max_grad_norm=0"
                "evaluation_interval=1"
                "evaluation_episodes=100"
            ]

    /// The short way to a policy for many quadrotors: 150 epochs of 1,024 whole episodes, the teacher driving the first two, half of
    /// them given to drones on which the student does worse, four passes of 16 episodes a mini-batch, back-propagated in full, Adam
    /// from 2e-3 down to 1e-4, and a GRU of 32 that reads errors of tracking. Begin with it where one teacher, told which of the
    /// drones it flies, can label them all.
    let foundation: Preset =
        apply
            [
                "collection=episodes_per_epoch"
                "num_episodes=1024"
                "iterations=150"
                "acting=teacher_until"
                "phase1_iterations=2"
                "retention=newest_rollout"
                "sampling=permutation"
                "variant_focus=0.5"
                "num_learning_epochs=4"
                "mini_batch_size=16"
                "sequence_length=0"
                "gradient_length=500"
                "student=gru"
                "student.hidden=32"
                "student.observation_group=tracking"
                "dense_after=0"
                "learning_rate=exponential(2e-3,1e-4,150)"
                "max_grad_norm=1"
                "evaluation_interval=25"
                "evaluation_episodes=2000"
                "final_episodes=10_000"
            ]

    /// Presets by the names of the command line, `preset=NAME`.
    let presets: (string * Preset) list =
        [
            "rsl_rl", rslRl
            "rsl_rl_dagger", rslRlDagger
            "prt_rl", prtRl
            "low_dimensional", lowDimensional
            "raptor", raptor
            "foundation", foundation
            "episodes", inEpisodes
        ]

    let private preset (name: string) : Preset =
        match List.tryFind (fst >> (=) name) presets with
        | Some(_, preset) -> preset
        | None -> fail $"There is no preset '{name}'; {Names.hint name (List.map fst presets)}"

    /// The experiment with the presets among the settings in place, and the other settings. `collection=episodes_per_epoch`
    /// brings the defaults of its regime. Presets see the number of environments that the settings ask for.
    let withPresets (settings: string list) (experiment: Experiment) : Experiment * string list =
        let presets, others = settings |> List.partition _.StartsWith("preset=")

        let wanted =
            [
                for setting in presets do
                    preset (setting.Substring "preset=".Length)
                if List.contains "collection=episodes_per_epoch" others then
                    inEpisodes
            ]

        // Presets that say how much all environments gather together depend on how many there are.
        let envs =
            if wanted.IsEmpty then
                []
            else
                others
                |> List.filter (Names.assignment >> Option.exists (fun (name, _) -> name.EndsWith "envs"))

        wanted |> List.fold (fun experiment preset -> preset experiment) (apply envs experiment), others

    /// The experiment with settings `name=value`, presets among them, in place.
    let withSettings (settings: string list) (experiment: Experiment) : Experiment =
        let experiment, others = withPresets settings experiment
        apply others experiment

    /// Every setting and its value, as the command line takes them.
    let settings (experiment: Experiment) =
        Settings.describe [ experiment.Teacher; experiment.Config ]

/// `distillation { ... }` builds an experiment and does nothing else. Each operation sets one field; what is not said has
/// the defaults of DistillationConfig.
type DistillationBuilder() =
    let set (field: Expr<DistillationConfig -> 'T>) (value: 'T) (experiment: Experiment) =
        { experiment with Config = Settings.set field value experiment.Config }

    member _.Yield(()) = Experiment.empty

    // Never called. With them the compiler says which operation a misspelt one is like, instead of FS0708.
    member _.Zero() = Experiment.empty
    member _.For(experiment: Experiment, _: unit -> Experiment) = experiment

    /// Name of the experiment: its folder under logs/.
    [<CustomOperation "name">]
    member _.Name(e, name: string) = e |> set <@ _.Name @> name

    /// Added to the run folder's name.
    [<CustomOperation "runName">]
    member _.RunName(e, name: string) = e |> set <@ _.RunName @> name

    /// The environments to train in. Recorded data in their place are all there is: nothing is collected then.
    [<CustomOperation "environment">]
    member _.Environment(e: Experiment, environment: IEnvironmentConfig) =
        let e =
            if environment :? RecordedConfig && e.Config.Collection.Collects then
                e |> set <@ _.Collection @> (SeedDataOnly())
            else
                e

        e |> set <@ _.Environment @> environment

    /// Who labels.
    [<CustomOperation "teacher">]
    member _.Teacher(e: Experiment, teacher: TeacherFile) = { e with Teacher = teacher }

    /// What the student is.
    [<CustomOperation "student">]
    member _.Student(e, student: StudentConfig) = e |> set <@ _.Student @> student

    /// Who acts.
    [<CustomOperation "acting">]
    member _.Acting(e, acting: Acting) = e |> set <@ _.Acting @> acting

    /// Whether the teacher gives its mean action (the default), or draws from its distribution.
    [<CustomOperation "teacherDeterministic">]
    member _.TeacherDeterministic(e, deterministic: bool) =
        e |> set <@ _.TeacherDeterministic @> deterministic

    /// Noise with which the student drives, in standard deviations of its own distribution.
    [<CustomOperation "exploration">]
    member _.Exploration(e, exploration: Schedule) =
        e |> set <@ _.Exploration @> exploration

    /// Whose data an iteration keeps, where every variant of the environment has its teacher.
    [<CustomOperation "activeTeachers">]
    member _.ActiveTeachers(e, active: ActiveTeachers) = e |> set <@ _.ActiveTeachers @> active

    /// Share of the environments that are given to variants by how much worse the student does on each.
    [<CustomOperation "variantFocus">]
    member _.VariantFocus(e, share: Schedule) = e |> set <@ _.VariantFocus @> share

    /// Episodes of each variant that say where its teacher comes to rest: that bias is taken from what the student's data show.
    [<CustomOperation "steadyStateEpisodes">]
    member _.SteadyStateEpisodes(e, episodes: int) =
        e |> set <@ _.SteadyStateEpisodes @> episodes

    /// Recorded data (docs/recorded-data.md) that are in the dataset before the first iteration: files, or folders of them.
    [<CustomOperation "seedData">]
    member _.SeedData(e, files: string list) =
        e |> set <@ _.SeedData @> (List.toArray files)

    /// Who labels the recorded data: the actions recorded there, or the teacher.
    [<CustomOperation "seedLabels">]
    member _.SeedLabels(e, labels: SeedLabels) = e |> set <@ _.SeedLabels @> labels

    /// What is kept.
    [<CustomOperation "retain">]
    member _.Retain(e, retention: Retention) = e |> set <@ _.Retention @> retention

    /// What is drawn from it.
    [<CustomOperation "sample">]
    member _.Sample(e, sampling: Sampling) = e |> set <@ _.Sampling @> sampling

    /// What the loss is.
    [<CustomOperation "loss">]
    member _.Loss(e, loss: Loss) = e |> set <@ _.Loss @> loss

    /// What is kept of every step beside observation and label: observation groups, and "student_action".
    [<CustomOperation "recorded">]
    member _.Recorded(e, names: string list) =
        e |> set <@ _.Recorded @> (List.toArray names)

    /// Settings that belong together; what is said after it counts.
    [<CustomOperation "preset">]
    member _.Preset(e: Experiment, preset: Preset) = preset e

    /// How much one iteration collects. Whole episodes bring the defaults of their regime for what was not said before.
    [<CustomOperation "collect">]
    member _.Collect(e, collection: Collection) =
        let e =
            if collection.WholeEpisodes then
                Experiment.inEpisodes e
            else
                e

        e |> set <@ _.Collection @> collection

    [<CustomOperation "iterations">]
    member _.Iterations(e, iterations: int) = e |> set <@ _.Iterations @> iterations

    /// Passes over everything held, per iteration.
    [<CustomOperation "epochs">]
    member _.Epochs(e, epochs: Schedule) =
        e |> set <@ _.NumLearningEpochs @> epochs

    /// Passes without a lower loss on the episodes that are held out, after which an iteration ends with the best pass; 0 for all
    /// passes.
    [<CustomOperation "earlyStopping">]
    member _.EarlyStopping(e, passes: int) = e |> set <@ _.EarlyStopping @> passes

    /// Share of the episodes that are never trained on, to see whether the student overfits.
    [<CustomOperation "heldOut">]
    member _.HeldOut(e, share: float) = e |> set <@ _.HeldOut @> share

    /// Weight in training of the rows of episodes that ended in a terminal state: 1 keeps them, 0 drops them.
    [<CustomOperation "failedWeight">]
    member _.FailedWeight(e, weight: Schedule) = e |> set <@ _.FailedWeight @> weight

    /// Mini-batches whose gradients make one optimizer step.
    [<CustomOperation "gradientAccumulation">]
    member _.GradientAccumulation(e, batches: Schedule) =
        e |> set <@ _.GradientAccumulation @> batches

    /// Rows, or sequences for students with memory, per optimizer step.
    [<CustomOperation "miniBatchSize">]
    member _.MiniBatchSize(e, size: Schedule) = e |> set <@ _.MiniBatchSize @> size

    /// Mini-batches per pass over the dataset, where miniBatchSize says no size.
    [<CustomOperation "numMiniBatches">]
    member _.NumMiniBatches(e, number: Schedule) = e |> set <@ _.NumMiniBatches @> number

    /// Rows of the sequences that a recurrent student is trained on; 0 for whole rollouts.
    [<CustomOperation "sequenceLength">]
    member _.SequenceLength(e, rows: int) = e |> set <@ _.SequenceLength @> rows

    /// Steps of back-propagation through time.
    [<CustomOperation "gradientLength">]
    member _.GradientLength(e, steps: Schedule) = e |> set <@ _.GradientLength @> steps

    [<CustomOperation "optimizer">]
    member _.Optimizer(e, optimizer: OptimizerConfig) = e |> set <@ _.Optimizer @> optimizer

    [<CustomOperation "seed">]
    member _.Seed(e, seed: int) = e |> set <@ _.Seed @> (uint64 seed)

    /// Threads that compute; 0 for one per processor.
    [<CustomOperation "threads">]
    member _.Threads(e, threads: int) = e |> set <@ _.Threads @> threads

    /// Where it is computed: the processor, an NVIDIA GPU, or a GPU where that is possible.
    [<CustomOperation "device">]
    member _.Device(e, device: ComputeDevice) = e |> set <@ _.Device @> device

    /// Iterations between checkpoints.
    [<CustomOperation "saveInterval">]
    member _.SaveInterval(e, iterations: int) =
        e |> set <@ _.SaveInterval @> iterations

    /// Iterations between closed-loop evaluations.
    [<CustomOperation "evaluationInterval">]
    member _.EvaluationInterval(e, iterations: int) =
        e |> set <@ _.EvaluationInterval @> iterations

    /// The measure of the evaluations by which the best student is kept: "return", "length", "share_terminated" or one of the
    /// environment's.
    [<CustomOperation "bestBy">]
    member _.BestBy(e, measure: string) = e |> set <@ _.BestBy @> measure

    /// The mean return of which the run says after how many environment steps an evaluation first reached it.
    [<CustomOperation "targetReturn">]
    member _.TargetReturn(e, target: float) =
        e |> set <@ _.TargetReturn @> (System.Nullable target)

    /// Episodes per evaluation during training.
    [<CustomOperation "evaluationEpisodes">]
    member _.EvaluationEpisodes(e, episodes: int) =
        e |> set <@ _.EvaluationEpisodes @> episodes

    /// Episodes of the evaluation at the end.
    [<CustomOperation "finalEpisodes">]
    member _.FinalEpisodes(e, episodes: int) = e |> set <@ _.FinalEpisodes @> episodes

/// Settings that belong together, for `preset`.
module Preset =
    /// The defaults of rsl_rl's distillation.
    let rslRl: Preset = Experiment.rslRl

    /// The defaults of rsl_rl's forks with an aggregated dataset and two stages.
    let rslRlDagger: Preset = Experiment.rslRlDagger

    /// The post-training of RAPTOR's foundation policy.
    let raptor: Preset = Experiment.raptor

    /// The short way to a policy for many quadrotors.
    let foundation: Preset = Experiment.foundation

    /// The defaults of prt-rl's DAgger agent.
    let prtRl: Preset = Experiment.prtRl

    /// What prt-rl's documentation recommends for control with few dimensions.
    let lowDimensional: Preset = Experiment.lowDimensional

    /// Epochs of whole episodes.
    let episodes: Preset = Experiment.inEpisodes

[<AutoOpen>]
module Builders =
    let distillation = DistillationBuilder()
