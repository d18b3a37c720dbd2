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
            SearchSeed: uint64

            /// Steps that a search decides at once.
            Batch: int
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
            SearchSeed = 0UL
            Batch = 5
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
            SearchSeed = sweep.SearchSeed
            Batch = sweep.Batch
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

    /// How the space is searched: all of it, points drawn from it, or as the results say.
    [<CustomOperation "search">]
    member _.Search(sweep: Sweep<'T>, search: Search) = { sweep with Search = search }

    /// Seed of the search itself: of the points that it draws.
    [<CustomOperation "searchSeed">]
    member _.SearchSeed(sweep: Sweep<'T>, seed: int) = { sweep with SearchSeed = uint64 seed }

    /// Steps that `Search.Tpe` and `Search.Asha` decide at once, from the results of all batches before: new points and
    /// promotions. The same search has the same trials for any number of workers; raise it where workers wait, lower it where
    /// a search should learn from each result.
    [<CustomOperation "batch">]
    member _.Batch(sweep: Sweep<'T>, steps: int) = { sweep with Batch = steps }

[<AutoOpen>]
module SweepBuilders =
    let sweep = SweepBuilder()
