/// Shared libraries of environments, made by gcc from the sources in native/ and kept until the process ends.
module Distill.Tests.NativeLibraries

open System
open System.Collections.Generic
open System.IO

/// The checkout.
let root =
    let rec up (folder: DirectoryInfo | null) =
        match folder with
        | null -> failwith $"No Distill.slnx in {AppContext.BaseDirectory} or a folder above it."
        | folder when File.Exists(Path.Combine(folder.FullName, "Distill.slnx")) -> folder.FullName
        | folder -> up folder.Parent

    up (DirectoryInfo AppContext.BaseDirectory)

/// The sources and their header.
let folder = Path.Combine(root, "native")

let private built =
    lazy
        (let path = Directory.CreateTempSubdirectory("distill-native-").FullName
         AppDomain.CurrentDomain.ProcessExit.Add(fun _ -> Directory.Delete(path, true))
         path)

let private libraries = Dictionary<string, string>()

let strict =
    [ "-Wall"; "-Wextra"; "-Werror"; "-pedantic"; "-O2"; "-shared"; "-fPIC" ]

/// The library that a source makes; the same source makes the same one.
let compile (source: string) : string =
    match libraries.TryGetValue source with
    | true, library -> library
    | _ ->
        let name = Path.Combine(built.Value, $"lib{libraries.Count}")
        let library = name + ".so"

        File.WriteAllText(name + ".c", source)

        Tools.succeedIn
            built.Value
            "gcc"
            ([ "-std=c99"; "-I"; folder ] @ strict @ [ name + ".c"; "-o"; library; "-lm" ])
        |> ignore

        libraries[source] <- library
        library

/// A source of native/ with other words for some of its own.
let edited (name: string) (edits: (string * string) list) : string =
    (File.ReadAllText(Path.Combine(folder, name)), edits)
    ||> List.fold (fun text (old, other) ->
        Expect.isTrue (text.Contains old) $"{name} has '{old}'"
        text.Replace(old, other))

/// The pendulum with another limit of steps.
let pendulum (limit: int) : string =
    compile (edited "pendulum.c" [ "200, /* steps", $"{limit}, /* steps" ])
