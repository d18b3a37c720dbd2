namespace Distill

open System
open System.IO
open System.IO.Compression
open System.Net
open System.Security.Cryptography
open System.Text
open System.Text.Json
open Distill.Storage

/// Where a page has plotly.js from.
[<RequireQualifiedAccess>]
type PlotlyJs =
    /// The page holds it, 2 MB, and works without a network.
    | Embedded
    /// The page loads it from a public content delivery network.
    | Cdn
    /// The page has it from elsewhere.
    | None

/// Pieces of HTML pages.
module Page =
    let private assembly = typeof<PlotlyJs>.Assembly

    let private resource (name: string) =
        match assembly.GetManifestResourceStream name with
        | null -> None
        | stream ->
            use stream = stream
            let bytes = Array.zeroCreate<byte>(int stream.Length)
            stream.ReadExactly bytes
            Some bytes

    /// A text file of this library: chart.js, page.css, …
    let text (name: string) =
        match resource name with
        | Some bytes -> Encoding.UTF8.GetString bytes
        | None -> failwith $"There is no resource {name}."

    let escape (text: string) = WebUtility.HtmlEncode text |> string

    /// Whether the front-end modules were there when the library was built.
    let canEmbed = (resource "plotly.js.gz").IsSome

    /// The version that assets/package.json pins.
    let private version (package: string) =
        use json = JsonDocument.Parse(text "package.json")
        json.RootElement.GetProperty("dependencies").GetProperty(package).GetString() |> string

    let private unpacked (gzip: byte[]) =
        use stream = new GZipStream(new MemoryStream(gzip), CompressionMode.Decompress)
        use all = new MemoryStream()
        stream.CopyTo all
        all.ToArray()

    /// Refuses another file than the one that npm checked, where that is known.
    let private integrity =
        lazy
            (match resource "plotly.js.gz" with
             | Some gzip -> "sha384-" + Convert.ToBase64String(SHA384.HashData(unpacked gzip))
             | None -> "")

    /// An element that holds a front-end module, compressed, for the page's scripts to unpack.
    let private packed (name: string) (gzip: byte[]) =
        $"""<script type="text/plain" id="packed-{name}">{Convert.ToBase64String gzip}</script>"""

    /// Elements for the front-end modules of these names, and addresses to load those from that are not held.
    let modules (named: (string * string) list) =
        named
        |> List.map (fun (name, address) ->
            match resource (name + ".gz") with
            | Some gzip -> packed name gzip
            | None -> $"""<script type="text/plain" id="packed-{name}" data-address="{address}"></script>""")
        |> String.concat "\n"

    /// Addresses of three.js as modules, by the names under which replay.js imports them.
    let three () =
        let version = version "three"

        let address path =
            $"https://cdn.jsdelivr.net/npm/three@{version}/{path}"

        modules
            [
                "three-core.js", address "build/three.core.js"
                "three.js", address "build/three.module.js"
                "three-orbit.js", address "examples/jsm/controls/OrbitControls.js"
            ]

    /// What a page needs once, before its first chart.
    let chartScript (plotlyJs: PlotlyJs) =
        let source =
            match plotlyJs, resource "plotly.js.gz" with
            | PlotlyJs.Embedded, Some gzip -> packed "plotly.js" gzip
            | PlotlyJs.None, _ -> ""
            | _ ->
                let version = version "plotly.js-dist-min"

                let address =
                    $"https://cdn.jsdelivr.net/npm/plotly.js-dist-min@{version}/plotly.min.js"

                $"""<script type="text/plain" id="packed-plotly.js" data-address="{address}" data-integrity="{integrity.Value}"></script>"""

        let script = (text "chart.js").Replace("\"THEMES\"", Json.toText Theme.json)
        $"{source}\n<script>{script}</script>"

    /// A whole page.
    let html (title: string) (head: string) (body: string) =
        String.concat
            "\n"
            [
                "<!doctype html>"
                """<html lang="en">"""
                "<head>"
                """<meta charset="utf-8">"""
                """<meta name="viewport" content="width=device-width, initial-scale=1">"""
                """<link rel="icon" href="data:,">"""
                $"<title>{escape title}</title>"
                "<style>" + Theme.css + text "page.css" + "</style>"
                head
                "</head>"
                "<body>"
                body
                "</body>"
                "</html>"
                ""
            ]

    /// Writes a page under a temporary name and renames it.
    let save (path: string) (html: string) =
        match Path.GetDirectoryName(Path.GetFullPath path) with
        | null -> ()
        | folder -> Directory.CreateDirectory folder |> ignore

        AtomicFile.WriteText(path, html)
