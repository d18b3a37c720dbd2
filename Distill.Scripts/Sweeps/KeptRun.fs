namespace Distill

open System
open Distill.Algorithms

/// Distillations of a comparison, one after another in this process, each known by its content as the trials of a sweep are: one that
/// has finished is not run again, one that was stopped goes on.
module internal KeptRun =
    /// The run of one of the things compared with one seed.
    let distil
        (root: string)
        (hashOf: (string * string) list -> string)
        (settings: string list)
        (experiment: Experiment)
        (label: string)
        (seed: uint64)
        : SweepTrial * TrialResult =
        let config = experiment.Config |> Settings.set <@ _.Seed @> seed
        let job = Distil.job { experiment with Config = config }
        let own = Job.settings job

        let folder =
            TrialFolder(
                root,
                {
                    Kind = job.Kind
                    Hash = hashOf own
                    Label = $"{label.Replace(' ', '-')}_seed-{seed}"
                    Settings = Map.ofList own
                    Changes = settings
                    Arguments = []
                }
            )

        say $"{Environment.NewLine}--- {label}, seed {seed} ---"

        if folder.Result.IsSome then
            say $"Finished before, in {Command.shortest folder.Path}"

        try
            TrialJob.runAlone folder job
        with Script.Stopped(code, _) ->
            raise (Script.Stopped(code, "Stopped; the same command goes on where it stopped."))

        SweepTrial.ofFolder (lazy job) folder, folder.Result.Value

    /// The same with each of so many seeds: the experiment's own, the next one, and so on.
    let seeds (number: int) (experiment: Experiment) : uint64 list =
        List.init number (fun i -> experiment.Config.Seed + uint64 i)
