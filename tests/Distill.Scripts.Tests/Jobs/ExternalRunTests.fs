/// Runs in simulators of another process, from scripts. What is printed belongs to the whole process.
[<Xunit.Collection "alone">]
module Distill.Tests.ExternalRunTests

open System
open System.IO
open Distill
open Distill.Environments.External
open Distill.Tests.RunTests
open Distill.Tests.Tools
open Xunit

let private fixture (name: string) =
    Path.GetFullPath(Path.Combine(__SOURCE_DIRECTORY__, "../../fixtures/external", name))

let private poles (place: Workplace) =
    let path = place.Path "teacher.safetensors"
    saveTeacher path

    distillation {
        name "poles"
        environment (External.command $"""{numpy.Value.Value} "{fixture "cartpole.py"}" """ { envs = 32 })
        teacher (Teacher.load path)
        student (Student.gru { hidden = 4 })
        loss (Loss.crossEntropy 0.0)
        collect (Collect.stepsPerEnv 10)
        iterations 2
        evaluationInterval 2
        evaluationEpisodes 32
        finalEpisodes 32
    }

[<NumpyFact>]
let ``a run in another process goes on with other episodes and says so, and its settings have names`` () =
    use place = new Workplace()
    let folder = place.Path "run"

    let settings =
        [ $"folder={folder}"; "envs=20"; "arguments=same_step 40"; "step_timeout=30"; "until=1" ]

    let text = printed (fun () -> Run.distilWith settings (poles place) |> ignore)
    Assert.Contains("Stopped after iteration 1 of 2", text)
    Assert.DoesNotContain("begin anew", text)
    let written = File.ReadAllText(Path.Combine(folder, "params", "env.yaml"))
    Assert.Contains("envs: 20", written)
    Assert.Contains("same_step 40", written)
    let mutable result = None

    let text =
        printed (fun () -> result <- Some(Run.distilWith [ $"resume={folder}"; "until=0" ] (poles place)))

    Assert.Contains("The episodes of cart_pole begin anew: where they were cannot be saved", text)
    Assert.Equal(40.0, result.Value.Teacher.MeanReturn)

[<NumpyFact>]
let ``a simulator that fails leaves the last state of the run, and says where`` () =
    use place = new Workplace()
    let folder = place.Path "run"
    let settings = [ $"folder={folder}"; "iterations=3" ]
    let fails = place.Path "fails.py"
    let folderOfFixtures = fixture ""

    File.WriteAllText(
        fails,
        $"import sys\nsys.path.insert(0, '{folderOfFixtures}')\n"
        + "import cartpole\nfrom distill_environment import serve\n\n"
        + "class Failing(cartpole.CartPole):\n    count = 0\n    def step(self, actions):\n        self.count += 1\n"
        + "        if self.count == 17:\n            raise RuntimeError('out of grease')\n        return super().step(actions)\n\n"
        + "serve(lambda envs, seed: Failing(envs, 'same_step', 15))\n"
    )

    let failing =
        poles place
        |> fun experiment ->
            { experiment with
                Config =
                    experiment.Config
                    |> Settings.set
                        <@ _.Environment @>
                        (ExternalConfig(Command = $"{numpy.Value.Value} {fails}", Envs = 32))
            }

    let error =
        Assert.Throws<DistillException>(fun () ->
            Run.quietly (fun () -> Run.distilWith settings failing) |> ignore)

    Assert.Contains("failed in a step: RuntimeError: out of grease (fails.py, line", error.Message)
    Assert.Contains($"{folder} keeps the state after 0 iterations.", error.Message)
    Assert.True(File.Exists(Path.Combine(folder, "checkpoints", "state.safetensors")))
