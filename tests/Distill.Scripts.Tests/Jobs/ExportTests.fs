/// Exports from runs and from the command line, and the code of docs/export.md.
module Distill.Tests.ScriptExportTests

open System.IO
open System.Text.RegularExpressions
open Distill
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Distill.Tests.RunTests
open Distill.Tests.Tools
open Xunit

[<Fact>]
let ``the policy of a run is exported with the order, units and rate of its environment`` () =
    use place = new Workplace()
    let teacher = place.Path "teacher.safetensors"
    saveTeacher teacher
    let logs = place.Path "logs"

    let result =
        distillation {
            name "pole"
            environment (CartPole.balance { envs = 32 })
            student (Student.gru { hidden = 4 })
            loss (Loss.crossEntropy 0.0)
            collect (Collect.stepsPerEnv 20)
            iterations 1
            finalEpisodes 32
        }
        |> Run.distilWith [ $"teacher={teacher}"; $"logs={logs}" ]

    for name in [ "best_student.safetensors"; "final_student.pt" ] do
        let target = place.Path "new/student.h"
        Export.policy (Path.Combine(result.Folder, "checkpoints", name)) target
        let text = File.ReadAllText target

        for fact in
            [
                "[0:1] cart position, m"
                "[3:4] pole angular velocity, rad/s"
                "0 pushes the cart to the left"
                "rate_hz: 50"
                "environment: cart_pole"
            ] do
            Assert.Contains(fact, text)

        File.Delete target

[<Fact>]
let ``an environment of one's own says what its actions mean`` () =
    let actions = Actions.choices 3 |> Actions.meaning "gear"
    Assert.Equal((3, true, "gear"), (actions.Size, actions.Discrete, actions.Meaning))

[<Fact>]
let ``a policy does not become itself, and a name must say what it becomes`` () =
    use place = new Workplace()
    let file = place.Path "teacher.safetensors"
    saveTeacher file

    let refusal (target: string) =
        (Expect.throws<DistillException>(fun () -> Export.policy file target)).Message

    Assert.Contains("names no export", refusal file)
    Export.policy file (place.Path "teacher.pt")

    let itself =
        Expect.throws<DistillException>(fun () ->
            Export.policy (place.Path "teacher.pt") (place.Path "./teacher.pt"))

    Assert.Contains("would replace", itself.Message)
    Assert.Equal(place.Path "exported/teacher.h", Export.placeOf file "c")

[<Fact>]
let ``the command exports beside the file, and refuses what is no export by a sentence`` () =
    use place = new Workplace()
    let file = place.Path "teacher.safetensors"
    saveTeacher file
    let script = ScriptTests.script place "Run.export ()"
    let code, output, _ = ScriptTests.run script [ file; "onnx" ]
    Assert.Equal(0, code)
    Assert.Contains("teacher.onnx", output)
    Assert.True(File.Exists(place.Path "exported/teacher.onnx"))
    let code, _, error = ScriptTests.run script [ file; "c"; place.Path "teacher.txt" ]
    Assert.Equal(2, code)
    Assert.Contains("should end in .h", error)

/// A student of RAPTOR's form: the one of the guide.
let private exportStudent (target: string) =
    use policy = new Policy(NetworkSpec.GruStack(22, 16, 16, 0, 4), "student")
    policy.Network.Initialize(RandomStream(1UL, "guide"))
    PolicyFacts.Note(policy, (QuadrotorConfig() :> IEnvironmentConfig).Spec)
    PolicyExport.Save(target, policy)

/// The code of docs/export.md in this language.
let private blocks (language: string) =
    let text = File.ReadAllText(Path.Combine(RepositoryRules.root, "docs", "export.md"))

    let found =
        Regex.Matches(text, $"^```{language}\n(.*?)^```", RegexOptions.Multiline ||| RegexOptions.Singleline)

    Assert.NotEmpty found
    [ for block in found -> block.Groups[1].Value ]

[<GccFact>]
let ``the C of the guide compiles`` () =
    use place = new Workplace()
    exportStudent (place.Path "student.h")

    for code in blocks "c" do
        File.WriteAllText(place.Path "main.c", code)

        succeedIn
            (place.Path ".")
            "gcc"
            [ "-std=c99"; "-Wall"; "-Wextra"; "-Werror"; "-pedantic"; "-fsyntax-only"; "main.c" ]
        |> ignore

[<TorchFact>]
let ``the Python of the guide runs`` () =
    use place = new Workplace()
    exportStudent (place.Path "student.pt")
    // Where onnxruntime is installed, its code runs, too.
    exportStudent (place.Path "student.onnx")
    let python = torch.Value.Value

    let has =
        startIn "" python [ "-c"; "import onnxruntime" ] |> Option.map fst = Some 0

    for code in blocks "python" do
        File.WriteAllText(place.Path "main.py", code)
        let needsMore = code.Contains "import onnxruntime" && not has

        let arguments =
            if needsMore then
                [ "-m"; "py_compile"; "main.py" ]
            else
                [ "main.py" ]

        succeedIn (place.Path ".") python arguments |> ignore
