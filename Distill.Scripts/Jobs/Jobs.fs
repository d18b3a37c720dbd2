namespace Distill

open Distill.Algorithms

/// The kinds of jobs.
module Jobs =
    /// One of each kind, with its defaults.
    let all: Job list =
        [
            Distil.job Experiment.empty
            TrainTeacher.job TrainTeacher.defaults (PpoConfig())
            TrainTeacher.sacJob TrainTeacher.single (SacConfig())
            TrainTeachers.job
                TrainTeachers.defaults
                TrainTeacher.defaults
                TrainTeacher.defaults
                (Reinforcement.ppo Teacher.none (PpoConfig()))
            TrainTeachers.job
                TrainTeachers.defaults
                TrainTeacher.single
                TrainTeacher.single
                (Reinforcement.sac Teacher.none (SacConfig()))
            TrainEncoder.job TrainEncoder.defaults (TrajectoryEncodingConfig())
            Evaluate.job Evaluate.defaults
        ]

    /// The job of this kind with its defaults.
    let ofKind (kind: string) : Job =
        match all |> List.tryFind (fun job -> job.Kind = kind) with
        | Some job -> job
        | None ->
            let kinds = all |> List.map _.Kind
            fail $"There is no kind of job '{kind}'; {Names.hint kind kinds}"
