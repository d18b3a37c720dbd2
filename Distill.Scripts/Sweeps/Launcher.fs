namespace Distill

open System

/// How a trial of a launch ended.
type internal TrialEnd = { Folder: TrialFolder; State: TrialState; Elapsed: TimeSpan }

/// Trials to be run.
type internal Launch =
    {
        /// Of the experiment.
        Name: string

        /// The folder of the sweep.
        Root: string

        Trials: (TrialFolder * Job) list

        /// Trials side by side; 0 for as many as suit the launcher.
        Workers: int

        /// Threads of each.
        Threads: int
        KeepStates: bool

        /// To be told of each trial that has ended before the launcher returns.
        Report: TrialEnd -> unit
    }

/// What runs trials: this machine, a cluster.
type internal Launcher =
    {
        /// As `--on` has it.
        Name: string

        /// Whether it returns when the trials have ended, and not when others have taken them.
        Waits: bool

        /// Hashes of the trials in the folder of a sweep that it has taken before and that have not ended.
        Queued: string -> Set<string>

        /// Runs the trials, or hands them over. Throws Script.Stopped where it was interrupted.
        Submit: Launch -> unit
    }
