namespace Distill

open System
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Policies

/// An algorithm of reinforcement learning with its settings: what a training needs to know of it.
type Reinforcement =
    {
        /// The kind of job.
        Kind: string

        /// For messages: "PPO".
        Title: string

        /// The records of its settings.
        Records: obj list

        /// The same records with their defaults.
        Defaults: obj list

        /// The algorithm with other settings in these records.
        With: obj list -> Reinforcement
        Seed: uint64

        /// Where it is computed.
        Device: ComputeDevice
        Iterations: int

        /// The teacher that guides it; Teacher = "" for nobody.
        Teacher: TeacherFile

        /// Refuses settings that cannot work.
        Check: unit -> unit

        /// Says what it will take with so many threads, and refuses what the machine cannot hold.
        CheckMemory: IEnvironmentConfig -> int -> unit

        /// Makes what computes, which is disposed of with it, as an algorithm for the runner.
        Start: IEnvironmentConfig -> WorkerPool -> ITeachers option -> IDisposable * Algorithm
    }

module Reinforcement =
    let private checkMemory
        (title: string)
        (data: string)
        (dataBytes: int64, networkBytes: int64, availableBytes: int64)
        (fits: bool)
        (advice: string)
        =
        let available = Names.mebibytes availableBytes

        say
            $"Memory: {data} {Names.mebibytes dataBytes}; networks {Names.mebibytes networkBytes}; available {available}"

        if not fits then
            fail
                $"{title} would take {Names.mebibytes (dataBytes + networkBytes)} but this machine has {available}; lower {advice}."

    let private ofPpo (config: PpoConfig) (report: PpoReport) : Progress =
        {
            Iteration = report.Iteration
            Phase = ""
            Losses =
                [
                    "value", report.ValueLoss
                    "surrogate", report.SurrogateLoss
                    "entropy", report.Entropy
                    if report.BehaviorLoss.HasValue then
                        "behavior", report.BehaviorLoss.Value
                ]
            MeanReturn = Option.ofNullable report.MeanReturn
            MeanEpisodeLength = Option.ofNullable report.MeanEpisodeLength
            StepsCollected = report.StepsCollected
            CollectionSeconds = report.CollectionSeconds
            LearningSeconds = report.LearningSeconds
            Data = ""
            Events =
                [
                    if config.CriticWarmup > 0 && report.Iteration = config.CriticWarmup then
                        $"The actor learns from iteration {report.Iteration + 1} on"
                ]
            Warnings = []
            Metrics = Progress.metrics report.Metrics @ Progress.schedules [ config ] report.Iteration
        }

    /// Proximal policy optimization, beside a teacher if one is named: `config` says how much each of the two losses counts, and
    /// who drives.
    let rec ppo (teacher: TeacherFile) (config: PpoConfig) : Reinforcement =
        let guided = Teacher.kind teacher <> TeacherKind.Nobody

        {
            Kind = "ppo"
            Title = "PPO"
            Records = [ teacher; config ]
            Defaults = [ Experiment.empty.Teacher; PpoConfig() ]
            With =
                function
                | [ :? TeacherFile as teacher; :? PpoConfig as config ] -> ppo teacher config
                | _ -> failwith "These are not the records of PPO."
            Seed = config.Seed
            Device = config.Device
            Iterations = config.Iterations
            Teacher = teacher
            Check =
                fun () ->
                    config.Validate()

                    if guided then
                        Teacher.checkFile teacher
            CheckMemory =
                fun environment threads ->
                    let memory = PpoMemory.Of(config, environment, threads, guided)

                    checkMemory
                        "PPO"
                        "rollout"
                        (memory.RolloutBytes, memory.NetworkBytes, memory.AvailableBytes)
                        memory.Fits
                        "envs, steps_per_env or the sizes of the hidden layers"
            Start =
                fun environment pool teacher ->
                    let guide = teacher |> Option.map (fun one -> Seq.exactlyOne one.Policies)
                    let ppo = new Ppo(config, environment, pool, Option.toObj guide)

                    if config.Device <> ComputeDevice.Cpu then
                        say $"Computes on: {ppo.RunsOn}"

                    ppo,
                    {
                        Role = if guided then "student" else "teacher"
                        Policy = ppo.Actor
                        Critics = [ "critic", ppo.Critic ]
                        Optimizer = ppo.ActorOptimizer
                        Completed = fun () -> ppo.Iteration
                        Iterate = fun () -> ofPpo config (ppo.Iterate())
                        Visit = ppo.Visit
                        Reference = []
                        Warnings = []
                    }
        }

    let private ofSac (config: SacConfig) (report: SacReport) : Progress =
        {
            Iteration = report.Iteration
            Phase = ""
            Losses =
                [
                    for name, value in
                        [ "critic", report.CriticLoss; "actor", report.ActorLoss; "entropy", report.Entropy ] do
                        if value.HasValue then
                            name, value.Value
                ]
            MeanReturn = Option.ofNullable report.MeanReturn
            MeanEpisodeLength = Option.ofNullable report.MeanEpisodeLength
            StepsCollected = report.StepsCollected
            CollectionSeconds = report.CollectionSeconds
            LearningSeconds = report.LearningSeconds
            Data = $"replay {report.Transitions}/{config.ReplayCapacity}"
            Events = []
            Warnings = []
            Metrics = Progress.metrics report.Metrics @ Progress.schedules [ config ] report.Iteration
        }

    /// Soft actor-critic, beside a teacher if one is named: `config` says what imitating it is worth.
    let rec sac (teacher: TeacherFile) (config: SacConfig) : Reinforcement =
        let guided = Teacher.kind teacher <> TeacherKind.Nobody

        {
            Kind = "sac"
            Title = "SAC"
            Records = [ teacher; config ]
            Defaults = [ Experiment.empty.Teacher; SacConfig() ]
            With =
                function
                | [ :? TeacherFile as teacher; :? SacConfig as config ] -> sac teacher config
                | _ -> failwith "These are not the records of SAC."
            Seed = config.Seed
            Device = ComputeDevice.Cpu
            Iterations = config.Iterations
            Teacher = teacher
            Check = config.Validate
            CheckMemory =
                fun environment threads ->
                    let memory = SacMemory.Of(config, environment, threads)

                    checkMemory
                        "SAC"
                        "replay"
                        (memory.ReplayBytes, memory.NetworkBytes, memory.AvailableBytes)
                        memory.Fits
                        "replay_capacity, envs or the sizes of the hidden layers"
            Start =
                fun environment pool teacher ->
                    let sac = new Sac(config, environment, pool, Option.toObj teacher)

                    sac,
                    {
                        Role = if guided then "student" else "teacher"
                        Policy = sac.Actor
                        Critics =
                            [
                                for i, critic in Seq.indexed sac.Critics do
                                    $"critic_{i + 1}", critic
                            ]
                        Optimizer = sac.ActorOptimizer
                        Completed = fun () -> sac.Iteration
                        Iterate = fun () -> ofSac config (sac.Iterate())
                        Visit = sac.Visit
                        Reference = []
                        Warnings = []
                    }
        }
