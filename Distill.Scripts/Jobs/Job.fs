namespace Distill

/// Work that is fully described, such as a distillation, the training of a teacher, an evaluation. A sweep has one for every
/// point of its space.
type Job =
    {
        /// What sort of work it is, as params/command.json and trial.json say it: "distillation", "ppo", "sac", "encoder",
        /// "evaluation".
        Kind: string

        /// The records that hold all its settings. Among these are `name` and `seed`, and `threads`, 0 for one per processor.
        Records: obj list

        /// The same records with their defaults.
        Defaults: obj list

        /// The job with settings `name=value` in place.
        With: string list -> Job

        /// Refuses settings that cannot work before anything is computed.
        Check: unit -> unit

        /// Does the work and leaves its results in a run folder, as result.csv. Takes the settings of the command line, to
        /// write them down. Throws Script.Stopped where it was interrupted.
        Run: RunOptions -> string list -> unit

        /// What the results measured, by name, in the order of tables. Names that begin with `share_` are of shares; NAME_low
        /// and NAME_high are the bounds of NAME's interval.
        Measures: PolicyResult list -> (string * float) list

        /// The measure by which jobs are ranked and compared: more is better.
        Main: string

        /// The measures that tables show beside the main one.
        Beside: string list
    }

    /// The record of this type among those that hold the settings.
    member job.Get<'Record>() : 'Record =
        let ofType (record: obj) =
            match record with
            | :? 'Record as record -> Some record
            | _ -> None

        match List.tryPick ofType job.Records with
        | Some record -> record
        | None -> fail $"A job of kind {job.Kind} has no {typeof<'Record>.Name} among its settings."

module Job =
    /// Every setting and its value, as the command line takes them.
    let settings (job: Job) : (string * string) list = Settings.describe job.Records

    /// Names of the settings that have their defaults.
    let atDefault (job: Job) : Set<string> =
        Settings.atDefault job.Defaults job.Records

    let private setting (name: string) (job: Job) =
        settings job |> List.find (fst >> (=) name) |> snd

    /// Name of the experiment: its folder under logs/.
    let name (job: Job) = setting "name" job

    /// Threads that it asks for; 0 for one per processor.
    let threads (job: Job) = int (setting "threads" job)

    /// Ends a job that was interrupted.
    let internal orStopped (interruption: string option) =
        interruption |> Option.iter (fun sentence -> raise (Script.Stopped(130, sentence)))

    /// Refuses a file that all trials of a sweep would write.
    let internal noOutput (name: string) (path: string) =
        if path <> "" then
            fail $"{name}={path} names one file for all trials of a sweep; leave it out, or say {name}= ."
