namespace Distill

/// A sweep, fully described: a job for every point of a space, each with every seed.
type Sweep<'T> =
    internal
        {
            /// Name of the experiment, whose folder holds the trials; None for the name that the jobs have.
            Name: string option
            Parameters: Space<'T>
            Job: 'T -> Job

            /// Empty for the seed that each job has.
            Seeds: uint64 list
            Search: Search
        }

/// `sweep { ... }` builds a sweep and does nothing else. `parameters` comes before `experiment` or
/// `job`, which use them.
type SweepBuilder() =
    member _.Yield(()) : Sweep<unit> =
        {
            Name = None
            Parameters = space { return () }
            Job = fun () -> Distil.job Experiment.empty
            Seeds = []
            Search = Search.Grid
        }

    // Never called. With them the compiler says which operation a misspelt one is like, instead of FS0708.
    member this.Zero() : Sweep<unit> = this.Yield(())
    member _.For(sweep: Sweep<'T>, _: unit -> Sweep<'U>) = sweep

    /// Name of the sweep: its trials are in logs/NAME/sweep.
    [<CustomOperation "name">]
    member _.Name(sweep: Sweep<'T>, name: string) = { sweep with Name = Some name }

    /// What is varied.
    [<CustomOperation "parameters">]
    member _.Parameters(sweep: Sweep<unit>, parameters: Space<'T>) : Sweep<'T> =
        {
            Name = sweep.Name
            Parameters = parameters
            Job = fun _ -> Distil.job Experiment.empty
            Seeds = sweep.Seeds
            Search = sweep.Search
        }

    /// The distillation at a point.
    [<CustomOperation "experiment">]
    member _.Experiment(sweep: Sweep<'T>, experiment: 'T -> Experiment) =
        { sweep with Job = experiment >> Distil.job }

    /// The job at a point: `TrainTeacher.job training ppo`, `Evaluate.job evaluation`.
    [<CustomOperation "job">]
    member _.Job(sweep: Sweep<'T>, job: 'T -> Job) = { sweep with Job = job }

    /// Seeds of every point.
    [<CustomOperation "seeds">]
    member _.Seeds(sweep: Sweep<'T>, seeds: int list) =
        { sweep with Seeds = List.map uint64 seeds }

    [<CustomOperation "search">]
    member _.Search(sweep: Sweep<'T>, search: Search) = { sweep with Search = search }

[<AutoOpen>]
module SweepBuilders =
    let sweep = SweepBuilder()
