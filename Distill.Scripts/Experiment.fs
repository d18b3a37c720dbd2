namespace Distill

open Distill.Algorithms
open Distill.Datasets
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Networks

/// A distillation, fully described: the teacher and everything else.
type Experiment = { Teacher: TeacherFile; Config: DistillationConfig }

module Experiment =
    /// What an experiment is that says nothing; it still needs a teacher.
    let empty: Experiment =
        { Teacher = Teacher.load ""; Config = DistillationConfig(Environment = QuadrotorConfig()) }

    /// The experiment with settings `name=value` in place.
    let withSettings (settings: string list) (experiment: Experiment) : Experiment =
        match Settings.apply settings [ experiment.Teacher; experiment.Config ] with
        | [ teacher; config ] -> { Teacher = teacher :?> TeacherFile; Config = config :?> DistillationConfig }
        | _ -> failwith "Settings keep the number of records."

    /// Names of the settings that have their defaults.
    let atDefault (experiment: Experiment) : Set<string> =
        Settings.atDefault [ empty.Teacher; empty.Config ] [ experiment.Teacher; experiment.Config ]

    /// Every setting and its value, as the command line takes them.
    let settings (experiment: Experiment) =
        Settings.describe [ experiment.Teacher; experiment.Config ]

/// `distillation { ... }` builds an experiment and does nothing else. Each operation sets one field; what is not said has
/// the defaults of DistillationConfig.
type DistillationBuilder() =
    let set (experiment: Experiment) (field: string) (value: 'T) =
        { experiment with Config = Settings.change field (box value) experiment.Config }

    member _.Yield(()) = Experiment.empty

    /// Name of the experiment: its folder under logs/.
    [<CustomOperation "name">]
    member _.Name(e, name: string) = set e (nameof e.Config.Name) name

    /// Added to the run folder's name.
    [<CustomOperation "runName">]
    member _.RunName(e, name: string) = set e (nameof e.Config.RunName) name

    /// The environments to train in.
    [<CustomOperation "environment">]
    member _.Environment(e, environment: IEnvironmentConfig) =
        set e (nameof e.Config.Environment) environment

    /// Who labels.
    [<CustomOperation "teacher">]
    member _.Teacher(e: Experiment, teacher: TeacherFile) = { e with Teacher = teacher }

    /// What the student is.
    [<CustomOperation "student">]
    member _.Student(e, student: StudentConfig) = set e (nameof e.Config.Student) student

    /// Who acts.
    [<CustomOperation "acting">]
    member _.Acting(e, acting: Acting) = set e (nameof e.Config.Acting) acting

    /// Whether the teacher gives its mean action (the default), or draws from its distribution.
    [<CustomOperation "teacherDeterministic">]
    member _.TeacherDeterministic(e, deterministic: bool) =
        set e (nameof e.Config.TeacherDeterministic) deterministic

    /// What is kept.
    [<CustomOperation "retain">]
    member _.Retain(e, retention: Retention) =
        set e (nameof e.Config.Retention) retention

    /// What is drawn from it.
    [<CustomOperation "sample">]
    member _.Sample(e, sampling: Sampling) =
        set e (nameof e.Config.Sampling) sampling

    /// What the loss is.
    [<CustomOperation "loss">]
    member _.Loss(e, loss: Loss) = set e (nameof e.Config.Loss) loss

    /// How much one iteration collects.
    [<CustomOperation "collect">]
    member _.Collect(e, collection: Collection) =
        set e (nameof e.Config.Collection) collection

    [<CustomOperation "iterations">]
    member _.Iterations(e, iterations: int) =
        set e (nameof e.Config.Iterations) iterations

    /// Passes over everything held, per iteration.
    [<CustomOperation "epochs">]
    member _.Epochs(e, epochs: int) =
        set e (nameof e.Config.NumLearningEpochs) epochs

    /// Rows, or sequences for students with memory, per optimizer step.
    [<CustomOperation "miniBatchSize">]
    member _.MiniBatchSize(e, size: int) =
        set e (nameof e.Config.MiniBatchSize) size

    /// Steps of back-propagation through time.
    [<CustomOperation "gradientLength">]
    member _.GradientLength(e, steps: int) =
        set e (nameof e.Config.GradientLength) steps

    [<CustomOperation "optimizer">]
    member _.Optimizer(e, optimizer: AdamConfig) =
        set e (nameof e.Config.Optimizer) optimizer

    [<CustomOperation "seed">]
    member _.Seed(e, seed: int) =
        set e (nameof e.Config.Seed) (uint64 seed)

    /// Iterations between checkpoints.
    [<CustomOperation "saveInterval">]
    member _.SaveInterval(e, iterations: int) =
        set e (nameof e.Config.SaveInterval) iterations

    /// Iterations between closed-loop evaluations.
    [<CustomOperation "evaluationInterval">]
    member _.EvaluationInterval(e, iterations: int) =
        set e (nameof e.Config.EvaluationInterval) iterations

    /// Episodes per evaluation during training.
    [<CustomOperation "evaluationEpisodes">]
    member _.EvaluationEpisodes(e, episodes: int) =
        set e (nameof e.Config.EvaluationEpisodes) episodes

    /// Episodes of the evaluation at the end.
    [<CustomOperation "finalEpisodes">]
    member _.FinalEpisodes(e, episodes: int) =
        set e (nameof e.Config.FinalEpisodes) episodes

[<AutoOpen>]
module Builders =
    let distillation = DistillationBuilder()
