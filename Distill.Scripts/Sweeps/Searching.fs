namespace Distill

open System
open Distill.Compute

/// Searches that learn from results. What they decide is a function of their seed and of the results of the batches before, in
/// the order in which these were decided: the same trials for any number of workers, and after a stop. So there is nothing to
/// write down: a search that is run again decides all batches anew, and finds their trials on the disk.
module internal Searching =
    /// A point of a search: its decisions, where a sampler learns from them, and its trials, one for each seed.
    type private Point = { Decisions: Tpe.Point; Trials: (TrialFolder * Job) list }

    /// The rungs of a search: of one that trains every point to its end there is but one.
    type private Rungs =
        {
            /// Iterations at each.
            Iterations: int list
            Eta: int

            /// Whether points are compared by their evaluations during training, and not by their results.
            Halving: bool
        }

        /// After how many iterations a trial is to stop; 0 for its end.
        member rungs.Until(rung: int) =
            if rung = rungs.Iterations.Length - 1 then
                0
            else
                rungs.Iterations[rung]

    /// A trial and how far it is to go: so many iterations, or (0) to its end.
    type Order = { Folder: TrialFolder; Job: Job; Until: int }

    /// How far a search has come.
    type Outcome =
        {
            /// The trials of its points, in the order in which they were tried.
            Trials: (TrialFolder * Job) list

            /// Those of the points that the search trained to the end. A grid may have trained others before.
            Last: TrialFolder list

            /// Points that were trained, and for how many iterations; the highest rung first.
            Trained: (int * int) list

            /// The orders of the batch whose results are not all there; none where the search has ended.
            Open: Order list
        }

    /// The point with the highest main measure among those that were trained to the end.
    let private best (outcome: Outcome) : string option =
        let names =
            outcome.Trials |> List.map (fun (folder, _) -> folder.Trial) |> Trials.varyingOf

        let results =
            outcome.Last
            |> List.choose (fun folder ->
                folder.Result |> Option.map (fun result -> folder.Trial.Settings.Remove "seed", result))
            |> List.groupBy fst
            |> List.map (fun (settings, results) -> settings, List.map snd results)

        if results.IsEmpty then
            None
        else
            let settings, results =
                results |> List.maxBy (fun (_, results) -> results |> List.averageBy _.Score)

            let values =
                List.map2 (fun short name -> $"{short}={settings[name]}") (Trials.shortNames names) names

            let mean = results |> List.map _.Score |> Statistics.mean95
            Some $"""{String.Join(' ', values)}: {Measure.words results.Head.Main} {mean}"""

    /// How far a search has come, in words.
    let describe (outcome: Outcome) : string =
        let points = Names.counted (outcome.Trained |> List.sumBy snd) "point"

        let trained =
            match outcome.Trained with
            | [ (0, _) ] -> ""
            | trained ->
                let each =
                    trained |> List.map (fun (iterations, points) -> $"{points} for {iterations}")

                let total = trained |> List.sumBy (fun (iterations, points) -> iterations * points)

                $""" trained {String.Join(", ", each)} iterations, {total} in all"""

        let best =
            match best outcome with
            | Some best when outcome.Open.IsEmpty -> $"; the best that it found is {best}"
            | _ -> ""

        $"{points}{trained}{best}"

    /// Whether results decide what is tried next.
    let learns (search: Search) : bool =
        match search with
        | Search.Tpe _
        | Search.Asha _ -> true
        | _ -> false

    let private whole (name: string) (job: Job) : int =
        match
            Job.settings job |> List.tryFind (fst >> (=) name) |> Option.bind (snd >> Names.wholeNumber)
        with
        | Some number -> number
        | None ->
            fail $"asha stops and resumes trainings, but a job of kind {job.Kind} has no setting '{name}'."

    /// The rungs of asynchronous successive halving for these jobs.
    let private rungsOf (asha: Asha) (points: int) (job: Job) : Rungs =
        let most, interval = whole "iterations" job, whole "evaluation_interval" job

        if asha.Min >= most then
            fail
                $"asha with a first rung at {asha.Min} of {most} iterations has nothing to halve; lower --min."

        if asha.Min < interval then
            fail
                $"asha compares evaluations, but the first is after {interval} iterations and the first rung at {asha.Min}: lower evaluation_interval, or raise --min."

        let rungs =
            { Iterations = Halving.rungs asha.Eta asha.Min most; Eta = asha.Eta; Halving = true }

        let fewest = pown (int64 asha.Eta) (rungs.Iterations.Length - 1)

        if int64 points < fewest then
            let list = String.Join(", ", rungs.Iterations)

            fail
                $"asha with rungs at {list} iterations brings one point of {fewest} to the end, and this search has {points}: ask for more trials, or raise --min."

        rungs

    /// Refuses a job that is not trained as far as the others.
    let private checkIterations (rungs: Rungs) (job: Job) =
        if rungs.Halving then
            let iterations, most = whole "iterations" job, List.last rungs.Iterations

            if iterations <> most then
                fail
                    $"asha compares trials after the same iterations, but some have iterations={most} and some {iterations}."

    /// What the trial measured at the rung; NaN if it failed before, None if it has not come so far.
    let private measured (rungs: Rungs) (folder: TrialFolder, rung: int) : float option =
        let evaluated () =
            folder.ReturnAfter rungs.Iterations[rung]

        match rungs.Until rung, folder.Error with
        | 0, error ->
            match folder.Result with
            | Some _ when rungs.Halving -> evaluated ()
            | Some result -> Some result.Score
            | None -> error |> Option.map (fun _ -> nan)
        | _, error -> evaluated () |> Option.orElse (error |> Option.map (fun _ -> nan))

    /// The same in another order, a function of the seed.
    let private shuffled (seed: uint64) (items: 'Item list) : 'Item list =
        let stream = RandomStream(seed, "search.grid")

        items |> List.indexed |> List.sortBy (fun (i, _) -> Search.uniform stream i 0 0, i) |> List.map snd

    /// The trials of each point: they differ in nothing but the seed.
    let private byPoint (trials: Trial list) : Trial list list =
        trials |> List.groupBy (fun trial -> trial.Record.Settings.Remove "seed") |> List.map snd

    /// Times that a proposal which was tried before is made anew; then the space has no more.
    let private attempts = 1000

    /// Candidates of a proposal that is made for this time: where all good ones were tried, the most promising is always the
    /// same, so that ever fewer compete and, at last, points are drawn at random.
    let private candidates (attempt: int) =
        if attempt < 100 then
            max 1 (Tpe.candidates / (attempt + 1))
        else
            0

    /// Gives one new point after the other: from a list, or by what is known of those before.
    let private source
        (options: SweepOptions)
        (sweep: Sweep<'T>)
        (sampler: Search)
        : Tpe.Observed list -> (Tpe.Point * Trial list) option =
        let seed = SweepOptions.searchSeed options sweep.SearchSeed

        match sampler with
        | Search.Tpe count ->
            let propose = Trials.proposing options sweep
            let stream = RandomStream(seed, "search.tpe")
            let decided = Collections.Generic.HashSet<Tpe.Point>()
            let tried = Collections.Generic.HashSet<string>()
            let mutable number = -1

            /// A point that is new, as far as can be told.
            let attempt (observed: Tpe.Observed list) (attempt: int) =
                let mutable draw = -1

                let uniform () =
                    draw <- draw + 1
                    Search.uniform stream number attempt draw

                let decisions, trials = propose (Tpe.decide uniform (candidates attempt) observed)

                if decided.Add(Tpe.values decisions) then
                    let trials = trials ()

                    if tried.Add trials.Head.Record.Hash then
                        Some(decisions, trials)
                    else
                        None
                else
                    None

            fun observed ->
                number <- number + 1

                if number >= count then
                    None
                else
                    let found = Seq.init attempts (attempt observed) |> Seq.tryPick id

                    if found.IsNone then
                        number <- count

                    found
        | sampler ->
            let listed = Trials.declared options sweep |> byPoint

            let mutable left =
                if sampler = Search.Grid then
                    shuffled seed listed
                else
                    listed

            fun _ ->
                match left with
                | [] -> None
                | first :: rest ->
                    left <- rest
                    Some([], first)

    /// What is known of each point: the last rung at which it has a result.
    let private observed (points: Point seq) (ended: (Step * float) list) : Tpe.Observed list =
        let last =
            ended
            |> List.groupBy (fun (step, _) -> step.Point)
            |> List.map (fun (point, steps) -> point, steps |> List.maxBy (fun (step, _) -> step.Rung))
            |> Map.ofList

        [
            for number, point in Seq.indexed points do
                match last.TryFind number with
                | Some(step, score) -> { Point = point.Decisions; Rung = step.Rung; Score = score }
                | None -> ()
        ]

    /// A search under way.
    type private Played =
        {
            Rungs: Rungs

            /// Steps that are decided at once.
            Batch: int

            /// The next new point, by what is known of those before.
            Next: Tpe.Observed list -> Point option
            Points: Collections.Generic.List<Point>

            /// All steps that were decided.
            Taken: Collections.Generic.List<Step>
        }

    /// The rungs of a search, and where its points come from.
    let private planOf (options: SweepOptions) (sweep: Sweep<'T>) : Search * Rungs =
        match SweepOptions.search options sweep.Search with
        | Search.Asha asha ->
            let first = Trials.declared options sweep

            let count =
                match asha.Sampler with
                | Search.Tpe count -> count
                | _ -> (byPoint first).Length

            let rungs = rungsOf asha count first.Head.Job
            first |> List.iter (fun trial -> checkIterations rungs trial.Job)
            asha.Sampler, rungs
        | sampler -> sampler, { Iterations = [ 0 ]; Eta = 2; Halving = false }

    let private start (options: SweepOptions) (sweep: Sweep<'T>) (root: string) : Played =
        let sampler, rungs = planOf options sweep
        let next = source options sweep sampler
        let kept = Trials.kept root

        let point (decisions: Tpe.Point, trials: Trial list) =
            for trial in trials do
                checkIterations rungs trial.Job

            {
                Decisions = decisions
                Trials = kept trials |> List.map (fun trial -> TrialFolder(root, trial.Record), trial.Job)
            }

        {
            Rungs = rungs
            Batch = SweepOptions.batch options sweep.Batch
            Next = next >> Option.map point
            Points = Collections.Generic.List()
            Taken = Collections.Generic.List()
        }

    /// Decides a step by what has ended before its batch: a promotion or, where there is none, a new point.
    let private decide (search: Played) (ended: (Step * float) list) : Step option =
        let fresh () =
            search.Next(observed search.Points ended)
            |> Option.map (fun point ->
                search.Points.Add point
                { Point = search.Points.Count - 1; Rung = 0 })

        let step =
            Halving.promotion search.Rungs.Eta search.Rungs.Iterations.Length ended search.Taken
            |> Option.orElseWith fresh

        Option.iter search.Taken.Add step
        step

    /// What a step measured, the mean over seeds; None before all its trials have come so far.
    let private score (search: Played) (step: Step) : float option =
        let values =
            search.Points[step.Point].Trials
            |> List.map (fun (folder, _) -> measured search.Rungs (folder, step.Rung))

        if values |> List.forall Option.isSome then
            Some(values |> List.averageBy Option.get)
        else
            None

    let private orders (search: Played) (steps: Step list) : Order list =
        [
            for step in steps do
                for folder, job in search.Points[step.Point].Trials do
                    { Folder = folder; Job = job; Until = search.Rungs.Until step.Rung }
        ]

    /// Decides batch after batch and has `perform` see to the trials of each, which may leave some without a result: then the
    /// search stands still.
    let run
        (options: SweepOptions)
        (sweep: Sweep<'T>)
        (root: string)
        (perform: int -> Order list -> unit)
        : Outcome =
        let search = start options sweep root

        let rec go (number: int) (ended: (Step * float) list) : Order list =
            match List.init search.Batch id |> List.choose (fun _ -> decide search ended) with
            | [] -> []
            | steps ->
                perform number (orders search steps)
                let scores = steps |> List.map (score search)

                match List.zip steps scores |> List.filter (snd >> Option.isNone) with
                | [] -> go (number + 1) (ended @ List.zip steps (List.choose id scores))
                | left ->
                    [
                        for step, _ in left do
                            for order in orders search [ step ] do
                                if (measured search.Rungs (order.Folder, step.Rung)).IsNone then
                                    order
                    ]

        let left = go 1 []
        let trialsOf (point: int) = search.Points[point].Trials

        {
            Trials = List.collect trialsOf [ 0 .. search.Points.Count - 1 ]
            Last =
                [
                    for step in search.Taken do
                        if search.Rungs.Until step.Rung = 0 then
                            yield! trialsOf step.Point |> List.map fst
                ]
            Trained =
                search.Taken
                |> Seq.groupBy _.Point
                |> Seq.countBy (fun (_, steps) -> search.Rungs.Iterations[steps |> Seq.map _.Rung |> Seq.max])
                |> Seq.sortDescending
                |> List.ofSeq
            Open = left
        }
