namespace Distill

open System

/// The command line of a sweep.
type internal SweepOptions =
    {
        /// name=value,value,…
        Settings: string list

        /// Flags that say how the space is searched, in place of the sweep's own words: `--search`, `halton:20`.
        Search: (string * string) list

        /// The decisions of the one point that there is, which a search that learns from results has proposed.
        Point: float list option

        /// The folder of all experiments.
        Logs: string

        /// Name of the launcher that runs the trials.
        On: string

        /// Trials side by side; 0 for as many as suit the launcher.
        Workers: int
        DryRun: bool

        /// Whether trials that failed run again, from their checkpoint where they have one.
        RetryFailed: bool

        /// Whether trials that failed run again from their start.
        RestartFailed: bool

        /// Whether trials that have finished keep the state from which more iterations could go on: 20 MB each, and 400 MB with
        /// a full dataset of the default size.
        KeepStates: bool
    }

module internal SweepOptions =
    /// Those of the search that take a value.
    let private searchFlags =
        [ "--search"; "--sampler"; "--trials"; "--eta"; "--min"; "--max"; "--search-seed"; "--batch" ]

    let private point = "--point"

    let private flags =
        [ "--on"; "--workers"; "--dry-run"; "--retry-failed"; "--restart-failed"; "--keep-states" ]
        @ searchFlags

    let private none =
        {
            Settings = []
            Search = []
            Point = None
            Logs = Training.options.Logs
            On = "local"
            Workers = 0
            DryRun = false
            RetryFailed = false
            RestartFailed = false
            KeepStates = false
        }

    let parse (arguments: string list) : SweepOptions =
        let rec go (options: SweepOptions) (arguments: string list) =
            match arguments with
            | [] -> { options with Settings = List.rev options.Settings }
            | "--dry-run" :: rest -> go { options with DryRun = true } rest
            | "--retry-failed" :: rest -> go { options with RetryFailed = true } rest
            | "--restart-failed" :: rest -> go { options with RestartFailed = true } rest
            | "--keep-states" :: rest -> go { options with KeepStates = true } rest
            | "--on" :: name :: rest -> go { options with On = name } rest
            | flag :: text :: rest when List.contains flag searchFlags ->
                go { options with Search = options.Search @ [ flag, text ] } rest
            | flag :: text :: rest when flag = point ->
                match text.Split ',' |> List.ofArray |> List.map Names.number with
                | numbers when numbers |> List.forall Option.isSome ->
                    go { options with Point = Some(List.choose id numbers) } rest
                | _ -> fail $"{point} {text} cannot be: it must be numbers with commas between."
            | "--workers" :: text :: rest ->
                match Int32.TryParse text with
                | true, workers when workers >= 1 -> go { options with Workers = workers } rest
                | _ -> fail $"--workers {text} cannot be: it must be a whole number from 1."
            | [ flag ] when List.contains flag ([ "--on"; "--workers"; point ] @ searchFlags) ->
                fail $"{flag} takes a value."
            | flag :: _ when flag.StartsWith "--" ->
                fail $"There is no option {flag}; {Names.hint flag flags}"
            | setting :: rest when setting.StartsWith "logs=" ->
                go { options with Logs = setting.Substring "logs=".Length } rest
            | setting :: _ when setting.StartsWith "resume=" ->
                fail "A sweep needs no resume=…: started again, it goes on where it stopped."
            | setting :: rest -> go { options with Settings = setting :: options.Settings } rest

        go none arguments

    /// The arguments that say which trials there are.
    let declaration (options: SweepOptions) : string list =
        options.Settings @ (options.Search |> List.collect (fun (flag, text) -> [ flag; text ]))

    /// The argument that makes of these decisions a point.
    let ofPoint (numbers: float list) : string list =
        [ point; String.Join(',', numbers |> List.map Csv.number) ]

    /// The arguments but for that of a point: those of the whole sweep.
    let rec withoutPoint (arguments: string list) : string list =
        match arguments with
        | flag :: _ :: rest when flag = point -> rest
        | first :: rest -> first :: withoutPoint rest
        | [] -> []

    let private value (flag: string) (options: SweepOptions) : string option =
        options.Search |> List.tryFindBack (fst >> (=) flag) |> Option.map snd

    let private whole (flag: string) (least: int) (options: SweepOptions) : int option =
        value flag options
        |> Option.map (fun text ->
            match Names.wholeNumber text with
            | Some number when number >= least -> number
            | _ -> fail $"{flag} {text} cannot be: it must be a whole number from {least}.")

    /// Searches that draw so many points.
    let private sampled =
        [ "random", Search.Random; "halton", Search.Halton; "tpe", Search.Tpe ]

    let private samplerOf (name: string) : int -> Search =
        match sampled |> List.tryFind (fst >> (=) name) with
        | Some(_, make) -> make
        | None ->
            let names = "grid" :: List.map fst sampled
            fail $"--sampler {name} cannot be: {Names.hint name names}"

    /// Where the points come from, other than the script says.
    let private points (options: SweepOptions) (own: Search) : Search =
        match value "--sampler" options, whole "--trials" 1 options, own with
        | None, None, own -> own
        | Some "grid", None, _ -> Search.Grid
        | Some "grid", Some _, _ -> fail "--trials cannot be with --sampler grid, which has every point."
        | Some name, Some count, _ -> samplerOf name count
        | Some name, None, (Search.Random count | Search.Halton count | Search.Tpe count) ->
            samplerOf name count
        | Some name, None, _ ->
            samplerOf name 1 |> ignore
            fail $"--sampler {name} takes --trials, the number of points: --trials 50."
        | None, Some count, Search.Random _ -> Search.Random count
        | None, Some count, Search.Halton _ -> Search.Halton count
        | None, Some count, Search.Tpe _ -> Search.Tpe count
        | None, Some _, _ -> fail "--trials takes --sampler, which draws so many points: --sampler tpe."

    let private halved (options: SweepOptions) (own: Asha option) (sampler: Search) : Search =
        let own =
            own |> Option.defaultValue { Sampler = sampler; Eta = 4; Min = 0; Max = 0 }

        let asha =
            {
                Sampler = sampler
                Eta = whole "--eta" 2 options |> Option.defaultValue own.Eta
                Min = whole "--min" 1 options |> Option.defaultValue own.Min
                Max = whole "--max" 1 options |> Option.defaultValue own.Max
            }

        match asha.Sampler with
        | Search.Asha _ -> fail "The sampler of asha cannot be asha itself: grid, random, halton or tpe."
        | _ -> ()

        if asha.Eta < 2 then
            fail $"asha with Eta = {asha.Eta} cannot be: it must be at least 2."

        if asha.Min < 1 then
            fail "asha takes the iterations of its first rung: --min 5, or Min = 5 in a script."

        if asha.Max < 0 then
            fail $"asha with Max = {asha.Max} cannot be: it must be 0, for the jobs' iterations, or more."

        Search.Asha asha

    /// How the space is searched: as the flags say and, where they say nothing, as the script does.
    let search (options: SweepOptions) (own: Search) : Search =
        let asha, sampler =
            match own with
            | Search.Asha asha -> Some asha, asha.Sampler
            | other -> None, other

        let refused (text: string) =
            fail $"--search {text} cannot be: write grid, random:20, halton:20, tpe:20 or asha."

        let asha, isAsha, sampler =
            match value "--search" options with
            | None -> asha, asha.IsSome, points options sampler
            | Some "asha" -> asha, true, points options sampler
            | Some _ when (value "--sampler" options).IsSome || (value "--trials" options).IsSome ->
                fail "--sampler and --trials stand alone or with --search asha."
            | Some "grid" -> None, false, Search.Grid
            | Some text ->
                match text.Split ':' with
                | [| name; count |] when List.exists (fst >> (=) name) sampled ->
                    match Names.wholeNumber count with
                    | Some count -> None, false, samplerOf name count
                    | None -> refused text
                | _ -> refused text

        if isAsha then
            halved options asha sampler
        else
            match [ "--eta"; "--min"; "--max" ] |> List.tryFind (fun flag -> (value flag options).IsSome) with
            | Some flag -> fail $"{flag} is an option of asha: --search asha."
            | None -> sampler

    /// Seed of the search.
    let searchSeed (options: SweepOptions) (own: uint64) : uint64 =
        match value "--search-seed" options with
        | None -> own
        | Some text ->
            match UInt64.TryParse text with
            | true, seed -> seed
            | _ -> fail $"--search-seed {text} cannot be: it must be a whole number from 0."

    /// Steps that a search decides at once.
    let batch (options: SweepOptions) (own: int) : int =
        match whole "--batch" 1 options |> Option.defaultValue own with
        | batch when batch >= 1 -> batch
        | batch -> fail $"batch {batch} cannot be: it must be at least 1."
