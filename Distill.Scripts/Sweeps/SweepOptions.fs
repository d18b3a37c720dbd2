namespace Distill

open System

/// The command line of a sweep.
type internal SweepOptions =
    {
        /// name=value,value,…
        Settings: string list

        /// In place of the sweep's own.
        Search: Search option

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
    let private search (text: string) : Search =
        match text.Split ':' with
        | [| "grid" |] -> Search.Grid
        | [| "random"; count |] when fst (Int32.TryParse count) -> Search.Random(int count)
        | [| "halton"; count |] when fst (Int32.TryParse count) -> Search.Halton(int count)
        | _ -> fail $"--search {text} cannot be: write grid, random:20 or halton:20."

    let private searchText (search: Search) =
        match search with
        | Search.Grid -> "grid"
        | Search.Random count -> $"random:{count}"
        | Search.Halton count -> $"halton:{count}"

    let private flags =
        [
            "--on"
            "--workers"
            "--search"
            "--dry-run"
            "--retry-failed"
            "--restart-failed"
            "--keep-states"
        ]

    let private none =
        {
            Settings = []
            Search = None
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
            | "--search" :: text :: rest -> go { options with Search = Some(search text) } rest
            | "--workers" :: text :: rest ->
                match Int32.TryParse text with
                | true, workers when workers >= 1 -> go { options with Workers = workers } rest
                | _ -> fail $"--workers {text} cannot be: it must be a whole number from 1."
            | [ "--on" | "--search" | "--workers" as flag ] -> fail $"{flag} takes a value."
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
        let search =
            match options.Search with
            | Some search -> [ "--search"; searchText search ]
            | None -> []

        options.Settings @ search
