/// What holds for the repository as a whole.
module Distill.Tests.RepositoryRules

open System
open System.IO
open System.Text
open System.Text.RegularExpressions
open System.Xml.Linq
open Xunit

let internal root =
    let rec up (folder: DirectoryInfo | null) =
        match folder with
        | null -> failwith $"No Distill.slnx in {AppContext.BaseDirectory} or a folder above it."
        | folder when File.Exists(Path.Combine(folder.FullName, "Distill.slnx")) -> folder.FullName
        | folder -> up folder.Parent

    up (DirectoryInfo AppContext.BaseDirectory)

/// Paths from the root, with forward slashes, of the files outside the folders that .gitignore names.
let private files =
    let ignored =
        File.ReadAllLines(Path.Combine(root, ".gitignore"))
        |> Seq.filter _.EndsWith('/')
        |> Seq.map _.Trim('/')
        |> Seq.append [ ".git" ]
        |> set

    let rec under (folder: string) =
        [
            yield! Directory.GetFiles folder
            for inner in Directory.GetDirectories folder do
                if not (ignored.Contains(DirectoryInfo(inner).Name)) then
                    yield! under inner
        ]

    under root |> List.map (fun path -> Path.GetRelativePath(root, path).Replace('\\', '/'))

let private read (path: string) =
    File.ReadAllText(Path.Combine(root, path), Encoding.Latin1)

let private mustBeEmpty (what: string) (found: string list) =
    if not found.IsEmpty then
        let list = String.Join(", ", found)
        failwith $"{what}: {list}"

[<Fact>]
let ``the keyword unsafe stays in Distill.Core/Compute`` () =
    let code (path: string) =
        Regex.Replace(read path, @"//.*|""[^""\n]*""", "")

    let unsafe =
        files |> List.filter (fun path -> path.EndsWith ".cs" && Regex.IsMatch(code path, @"\bunsafe\b"))

    let inCompute, elsewhere =
        unsafe |> List.partition _.StartsWith("Distill.Core/Compute/")

    mustBeEmpty "unsafe outside Distill.Core/Compute" elsewhere
    Assert.NotEmpty inCompute

[<Fact>]
let ``kernels name their width in the two words that are replaced for narrower vectors`` () =
    let kernels = files |> List.filter _.EndsWith("W512.cs")
    Assert.NotEmpty kernels

    let outside =
        [
            for path in kernels do
                for line in (read path).Split '\n' do
                    if Regex.IsMatch(line, @"(?<!\b(Vector|\w*W))512|\b(256|128)\b|Vector(256|128)") then
                        $"{path}: {line.Trim()}"
        ]

    mustBeEmpty "a width outside Vector512 and W512" outside

/// Statements under `if`, `for` and their like that stand alone within braces; declarations need theirs.
let private needlessBraces (code: string) =
    let header =
        @"^( *)(?:else if|if|else|for|foreach|while|lock|fixed)\b.*(?:\n\1(?:    |\)).*)*"

    let statement =
        @"(?!(?:var|if|for|foreach|while|switch|using|const)\b|\S+ \w+ = )[^\s;/][^;\n]*(?:\n\1    [ )+][^;\n]*)*;"

    let block = header + @"\n\1\{\n\1    " + statement + @"\n\1\}$"

    Regex.Matches(code, block, RegexOptions.Multiline)
    |> Seq.map (fun found -> found.Value.Split('\n') |> Array.head |> _.Trim())
    |> Seq.toList

[<Fact>]
let ``no braces stand around a single statement`` () =
    let block =
        "    if (\n        a\n    )\n    {\n        Call(\n            a\n        );\n    }\n"

    Assert.Equal<string list>([ "if (" ], needlessBraces block)
    Assert.Equal<string list>([ "for (;;)" ], needlessBraces "for (;;)\n{\n    a = b;\n}\n")
    Assert.Empty(needlessBraces "if (a)\n{\n    var b = a;\n}\nif (a)\n{\n    b();\n    c();\n}\n")

    [
        for path in files |> List.filter _.EndsWith(".cs") do
            for line in needlessBraces (read path) do
                $"{path}: {line}"
    ]
    |> mustBeEmpty "braces around a single statement"

[<Fact>]
let ``the lock is complete and names its feed by the variable`` () =
    let lock = read "paket.lock"

    // A feed can hide dependencies from Paket; these two then are missing first.
    for package in [ "Microsoft.TestPlatform.ObjectModel"; "xunit.extensibility.execution" ] do
        Assert.Contains($"\n    {package} (", lock)

    let remotes =
        Regex.Matches(lock, @"remote: *(\S+)") |> Seq.map _.Groups[1].Value |> Seq.distinct

    Assert.Equal<string list>([ "%NUGET_SOURCE%" ], List.ofSeq remotes)

[<Fact>]
let ``no file holds the address of a package feed`` () =
    // Put together from parts, so that this file does not hold them.
    let hosts =
        [ "nuget" + ".org/v3"; "api.nu" + "get.org"; "registry.np" + "mjs"; "registry.yarn" + "pkg" ]

    files
    |> List.filter (fun path ->
        let text = read path

        hosts |> List.exists (fun host -> text.Contains(host, StringComparison.OrdinalIgnoreCase)))
    |> mustBeEmpty "address of a feed in"

[<Fact>]
let ``every project is in the solution`` () =
    let inSolution =
        XDocument.Parse(read "Distill.slnx").Descendants(XName.Get "Project").Attributes(XName.Get "Path")
        |> Seq.map _.Value
        |> set

    let onDisk =
        files |> List.filter (fun path -> path.EndsWith ".csproj" || path.EndsWith ".fsproj") |> set

    mustBeEmpty "project that is not in Distill.slnx" (List.ofSeq (onDisk - inSolution))
    mustBeEmpty "project of Distill.slnx that does not exist" (List.ofSeq (inSolution - onDisk))

[<Fact>]
let ``every project takes its packages from Paket`` () =
    files
    |> List.filter (fun path -> path.EndsWith "proj" && (read path).Contains "<PackageReference")
    |> mustBeEmpty "PackageReference instead of paket.references in"

[<Fact>]
let ``the files and folders that the architecture names exist, and it lists twelve changes`` () =
    let text = read "docs/architecture.md"

    let named =
        Regex.Matches(text, @"`((?:Distill\.|tests/)[A-Za-z.]*(?:/[A-Za-z0-9.]+)*/?|Kernels\.targets)`")
        |> Seq.map _.Groups[1].Value
        |> Seq.filter (fun path -> path.Contains '/' || path.EndsWith ".targets")
        |> Seq.distinct
        |> Seq.toList

    let exists (path: string) =
        let path = Path.Combine(root, path)

        if path.EndsWith '/' then
            Directory.Exists path
        else
            File.Exists path

    mustBeEmpty "docs/architecture.md names what does not exist" (named |> List.filter (exists >> not))
    Assert.True(named.Length > 25, $"only {named.Length} paths were found")

    let changes =
        text.Substring(text.IndexOf "## Twelve changes").Split "\n## " |> Array.item 0 |> _.Split('\n')

    // Beside the rows of the table there are its head and the line below it.
    Assert.Equal(12 + 2, changes |> Array.filter _.StartsWith('|') |> Array.length)
