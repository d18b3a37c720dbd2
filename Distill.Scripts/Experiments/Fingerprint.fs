/// What settings come to, as a hash: two jobs of the same fingerprint have the same results.
module internal Distill.Fingerprint

open System
open System.Collections.Generic
open System.IO
open System.Security.Cryptography
open System.Text
open Distill.Storage

/// Settings that do not change results.
let private free = set [ "threads"; "device"; "run_name" ]

let private sha256 (bytes: byte array) =
    Convert.ToHexStringLower(SHA256.HashData bytes)

/// The content of a file, or of the files of a folder.
let private contentHash (path: string) =
    let ofFile (path: string) =
        InputFile.Parse(path, "file", fun stream -> Convert.ToHexStringLower(SHA256.HashData stream))

    if Directory.Exists path then
        Directory.GetFiles path
        |> Array.sortWith (fun a b -> String.CompareOrdinal(a, b))
        |> Array.map (fun file -> nonNull (Path.GetFileName file) + " " + ofFile file)
        |> String.concat "\n"
        |> Encoding.UTF8.GetBytes
        |> sha256
    else
        ofFile path

/// A setting as it counts for the result: where it names a file or a folder of them, their content.
let private meaning (contentHash: string -> string) (value: string) =
    value.TrimStart('[').TrimEnd(']').Split ','
    |> Array.map (fun item ->
        if item.IndexOfAny [| '.'; '/'; '\\' |] >= 0 && Path.Exists item then
            contentHash item
        else
            item)
    |> String.concat ","

/// A function that remembers the hashes of files it has read.
let hasher () : (string * string) list -> string =
    let known = Dictionary<string, string>()

    let contentHash (path: string) =
        match known.TryGetValue path with
        | true, hash -> hash
        | _ ->
            known[path] <- contentHash path
            known[path]

    fun settings ->
        settings
        |> List.filter (fun (name, _) -> not (free.Contains name))
        |> List.sortWith (fun (a, _) (b, _) -> String.CompareOrdinal(a, b))
        |> List.map (fun (name, value) -> $"{name}={meaning contentHash value}\n")
        |> String.concat ""
        |> Encoding.UTF8.GetBytes
        |> sha256
