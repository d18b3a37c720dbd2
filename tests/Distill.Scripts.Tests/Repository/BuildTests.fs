/// build.fsx as a user meets it, in a checkout that has nothing but it.
module Distill.Tests.BuildTests

open System
open System.IO
open Distill.Tests.RunTests
open Xunit

/// Exit code and all that `dotnet fsi build.fsx ARGUMENTS` prints in the folder of the workplace.
let private build (place: Workplace) (arguments: string list) =
    let path = place.Path "build.fsx"

    if not (File.Exists path) then
        File.Copy(Path.Combine(RepositoryRules.root, "build.fsx"), path)

    let code, output, error = ScriptTests.run path arguments
    code, output + error

let private says (place: Workplace) (arguments: string list) (code: int) (parts: string list) =
    let actual, text = build place arguments
    Assert.Equal(code, actual)

    for part in parts do
        Assert.Contains(part, text)

[<Fact>]
let ``help lists the targets, and says more about one`` () =
    use place = new Workplace()
    says place [ "help" ] 0 [ "TARGET, where TARGET is one of"; "sweep"; "help SETTING" ]
    says place [ "help"; "run" ] 0 [ "dotnet fsi build.fsx run SCRIPT"; "help SETTING" ]

[<Fact>]
let ``near names are offered for scripts and verbs`` () =
    use place = new Workplace()
    Directory.CreateDirectory(place.Path "experiments") |> ignore
    File.WriteAllText(place.Path "experiments/quickstart.fsx", "")
    says place [ "run"; "quickstrat" ] 2 [ "did you mean quickstart?" ]
    says place [ "sweep"; "resutls"; "quickstart" ] 2 [ "did you mean sweep results" ]

[<Fact>]
let ``latest is the run that began last`` () =
    use place = new Workplace()

    for run, age in [ "a/1", 3.0; "b/2", 1.0; "c/3", 2.0 ] do
        let folder = place.Path $"logs/{run}/params"
        Directory.CreateDirectory folder |> ignore
        let command = Path.Combine(folder, "command.json")
        File.WriteAllText(command, $$"""{"script": "of-{{run.Substring 2}}.fsx"}""")
        File.SetLastWriteTimeUtc(command, DateTime.UtcNow.AddHours -age)

    says place [ "resume"; "latest" ] 2 [ Path.Combine("logs", "b", "2"); "There is no script of-2.fsx" ]
