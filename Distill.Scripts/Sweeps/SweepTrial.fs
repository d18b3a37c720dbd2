namespace Distill

open System
open System.IO

/// A trial as it is on the disk: settings, state, result and curves.
type SweepTrial internal (record: TrialRecord, folder: string, state: TrialState, job: Lazy<Job>) =
    let run =
        lazy
            (if Directory.Exists(Path.Combine(folder, "params")) then
                 Some(RunRecord.read folder)
             else
                 None)

    member internal _.Record = record

    /// What the trial has of its own among those it was declared with.
    member _.Label = record.Label

    /// The trial's folder, which is that of a run.
    member _.Folder = folder
    member _.State = state
    member _.Seed = record.Seed

    /// Every setting by its dotted name, as text.
    member _.Settings = record.Settings

    /// What a finished trial measured.
    member _.Result =
        match state with
        | Finished result -> Some result
        | _ -> None

    /// What the trial has cost so far; None before it has begun, and for one of a Distill that did not count.
    member _.Cost: RunCost option = RunCost.read folder

    /// The trial as a job, whose records `Get` gives: `trial.Job.Get<DistillationConfig>()`. Throws a DistillException where the
    /// trial was loaded without its script and the script has an environment of its own.
    member _.Job = job.Value

    /// Everything that the run folder holds; None before the trial has begun.
    member _.Run = run.Value

    /// One metric over the run, such as `evaluation/mean_return`: iterations completed, and values. Empty where there is none.
    member _.Curve(metric: string) : (int * float) list =
        match run.Value with
        | Some run -> run.Series metric
        | None -> []

    override _.ToString() = $"{record.FolderName}: {state}"

module internal SweepTrial =
    let ofFolder (job: Lazy<Job>) (folder: TrialFolder) =
        SweepTrial(folder.Trial, folder.Path, folder.State, job)

    /// The trials on the disk. What the script declares now, by hash, need not be made from text.
    let readAll (declared: Map<string, Job>) (root: string) : SweepTrial list =
        let folders = TrialFolders.ofRoot root

        (folders, folders |> List.map _.Trial |> Trials.completed)
        ||> List.map2 (fun folder record ->
            let job =
                match declared.TryFind record.Hash with
                | Some job -> lazy job
                | None -> lazy (Trials.job record)

            SweepTrial(record, folder.Path, folder.State, job))
