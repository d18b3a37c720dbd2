namespace Distill

open System
open System.IO
open System.Runtime.InteropServices
open System.Text.Json
open Distill.Compute
open Distill.Storage

/// How a run was started: enough to start it again.
type Command =
    {
        /// The kind of job: "distillation", "ppo", "sac", "encoder", "evaluation".
        Kind: string

        /// The policy that it trains: "student" or "teacher"; empty for none.
        Role: string

        /// Path of the script; empty when there was none.
        Script: string

        /// The settings `name=value` of the command line.
        Settings: string list
        Seed: uint64
        Commit: string
        Sdk: string
        Runtime: string
        System: string
        Machine: string
        Cores: int
        InstructionSet: string
        Started: DateTime
    }

    /// The command line that repeats the run. Settings that do not change results are left out.
    member command.Repeat() =
        let settings =
            command.Settings
            |> List.filter (fun setting ->
                not (
                    [ "threads="; "device="; "logs="; "run_name="; "report="; "until=" ]
                    |> List.exists (fun (name: string) -> setting.StartsWith name)
                ))

        String.Join(' ', "dotnet fsi build.fsx run" :: command.Script :: settings)

module Command =
    let private fileName = "command.json"

    let private path (folder: RunFolder) =
        Path.Combine(folder.Path, "params", fileName)

    /// A path as people want to read it: relative where it lies under the current folder.
    let shortest (path: string) =
        let relative = Path.GetRelativePath(Environment.CurrentDirectory, path)

        if relative.StartsWith ".." then
            Path.GetFullPath path
        else
            relative

    let private commit () =
        match Shell.run "git" [ "rev-parse"; "HEAD" ] with
        | Error _ -> "unknown"
        | Ok hash ->
            match Shell.run "git" [ "status"; "--porcelain"; "--untracked-files=no" ] with
            | Ok "" -> hash
            | _ -> hash + " and changes"

    /// F# Interactive is part of the SDK: sdk/VERSION/FSharp.
    let private sdk () =
        match Directory.GetParent(AppContext.BaseDirectory.TrimEnd Path.DirectorySeparatorChar) with
        | null -> ""
        | parent when parent.Parent |> Option.ofObj |> Option.exists (fun p -> p.Name = "sdk") -> parent.Name
        | _ -> ""

    /// This process, with these settings.
    let now (kind: string) (role: string) (settings: string list) (seed: uint64) : Command =
        let script =
            match Script.current with
            | Some(script, _) -> shortest script
            | None -> ""

        {
            Kind = kind
            Role = role
            Script = script
            Settings = settings
            Seed = seed
            Commit = commit ()
            Sdk = sdk ()
            Runtime = RuntimeInformation.FrameworkDescription
            System = RuntimeInformation.OSDescription
            Machine = Environment.MachineName
            Cores = Environment.ProcessorCount
            InstructionSet = string Simd.Path
            Started = DateTime.Now
        }

    let private options =
        JsonSerializerOptions(
            WriteIndented = true,
            PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
            Encoder = Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping
        )

    let write (folder: RunFolder) (command: Command) =
        AtomicFile.Write(path folder, fun stream -> JsonSerializer.Serialize(stream, command, options))

    /// How a run was started.
    let read (folder: RunFolder) : Command =
        let path = path folder

        let broken (reason: string) =
            fail $"{path} cannot be read, so the run cannot go on: {reason.TrimEnd '.'}."

        let text = InputFile.ReadText(path, "command of a run")

        try
            match JsonSerializer.Deserialize<Command>(text, options) with
            | null -> broken "it is empty"
            | command when
                isNull (box command.Script)
                || isNull (box command.Settings)
                || command.Settings |> List.exists (box >> isNull)
                ->
                broken "it has no script and settings"
            | command -> command
        with
        | :? JsonException
        | :? NotSupportedException
        | :? InvalidOperationException as error -> broken error.Message
