/// Makes the kernel known to Jupyter (https://jupyter-client.readthedocs.io/en/stable/kernels.html).
module Distill.Notebook.KernelSpec

open System
open System.IO
open System.Reflection
open System.Text.Json
open System.Text.RegularExpressions
open Distill.Notebook.Json

/// The name that .NET Interactive gave its F# kernel: notebooks that name it open in either.
let defaultName = ".net-fsharp"

let private displayName = "Distill F#"

/// Where Jupyter looks for what belongs to this user.
let private dataFolder () =
    let variable (name: string) =
        match Environment.GetEnvironmentVariable name with
        | null
        | "" -> None
        | value -> Some value

    let home = Environment.GetFolderPath Environment.SpecialFolder.UserProfile

    match variable "JUPYTER_DATA_DIR", variable "APPDATA", variable "XDG_DATA_HOME" with
    | Some folder, _, _ -> folder
    | None, Some folder, _ when OperatingSystem.IsWindows() -> Path.Combine(folder, "jupyter")
    | None, _, _ when OperatingSystem.IsMacOS() -> Path.Combine(home, "Library", "Jupyter")
    | None, _, Some folder -> Path.Combine(folder, "jupyter")
    | None, _, None -> Path.Combine(home, ".local", "share", "jupyter")

let private displayNameOf (path: string) =
    Json.parse (File.ReadAllText path)
    |> Option.map (Json.text "display_name")
    |> Option.defaultValue ""

/// Installs the kernel of this checkout for this user; gives the exit code.
let install (name: string) : int =
    if not (Regex.IsMatch(name, @"^[A-Za-z0-9._-]+$")) then
        refuse $"'{name}' cannot be the name of a kernel: use letters, digits, '.', '-' and '_'."

    let folder = Path.Combine(dataFolder (), "kernels", name)
    let path = Path.Combine(folder, "kernel.json")

    if File.Exists path && displayNameOf path <> displayName then
        refuse
            $"Another kernel named {name}, '{displayNameOf path}', is in {folder}: give this one another name, as in `kernel install distill-fsharp`."

    let dotnet =
        match Environment.ProcessPath with
        | null -> "dotnet"
        | path -> path

    let spec =
        fields
            [
                "argv",
                node [ dotnet; Assembly.GetExecutingAssembly().Location; "kernel"; "{connection_file}" ]
                "display_name", node displayName
                "language", node "F#"
                "interrupt_mode", node "message"
            ]

    Directory.CreateDirectory folder |> ignore
    NotebookFile.writeAtomically path (spec.ToJsonString(JsonSerializerOptions(WriteIndented = true)) + "\n")
    Console.WriteLine $"Kernel {name} ({displayName}): {folder}"
    0
