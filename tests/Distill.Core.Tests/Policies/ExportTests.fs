/// Exported policies against the policies themselves: ONNX by a plain interpreter, C by a compiler, Python by PyTorch.
module Distill.Tests.ExportTests

open System
open System.IO
open System.Runtime.InteropServices
open Xunit
open Distill
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationTestbed
open Distill.Tests.PolicyTests
open Distill.Tests.Storage
open Distill.Tests.Tools

let private lanes = 3
let private steps = 500
let private resetEvery = 100

let private succeed = succeedIn ""

/// All kinds of layers, heads and activations, by names that C takes.
let private exported =
    lazy
        ([
            for i, (name, policy) in List.indexed (policies ()) do
                $"p{i}", name, policy

            for activation in Enum.GetValues<Activation>() do
                let spec = NetworkSpec.Mlp(7, [ 12; 9 ], 3, activation)
                $"{activation}".ToLowerInvariant(), $"{activation}", randomPolicy 5 0.6f spec "student" false

            "recurrent_last",
            "a memory last",
            randomPolicy 6 0.5f (NetworkSpec(7, [ Gru 4; Lstm 3 ])) "student" true
        ])

/// What policies read and give: `[step][lane][number]`. Of choices the logits.
let private flight (policy: Policy) =
    let random = Random 3
    let spec = policy.Network.Spec
    let memory = Array.zeroCreate<float32>(policy.MemorySize * Panel.Width)
    let action = Array.zeroCreate<float32>(policy.ActionFloats * Panel.Width)

    Array.init steps (fun step ->
        if step % resetEvery = 0 then
            Array.Clear memory

        let observation = Array.init lanes (fun _ -> Draw.floats random spec.Inputs)

        let x =
            NetworksReference.panel (Array.map (Array.map float) observation) spec.Inputs

        let raw = act policy x memory action

        let output =
            Array.init lanes (fun lane ->
                NetworksReference.lane (if spec.Head = Head.Categorical then raw else action) lane
                |> Array.truncate spec.Outputs
                |> Array.map float32)

        observation, output)

let private flat (values: float32[][][]) = Array.concat (Array.concat values)

let private flights =
    lazy
        (Map
            [
                for name, _, policy in exported.Value ->
                    let observations, outputs = Array.unzip (flight policy)
                    name, (observations, outputs)
            ])

/// Exports all policies into a folder, with NAME.observations and NAME.outputs beside them.
let private exportAll (folder: string) (ending: string) =
    for name, _, policy in exported.Value do
        let path (ending: string) = Path.Combine(folder, name + ending)
        PolicyExport.Save(path ending, policy)
        let observations, outputs = flights.Value[name]

        for ending, values in [ ".observations", observations; ".outputs", outputs ] do
            File.WriteAllBytes(path ending, MemoryMarshal.AsBytes(ReadOnlySpan(flat values)).ToArray())

let private tensor (rows: float32[][]) : OnnxReference.Tensor =
    { Shape = [| rows.Length; rows[0].Length |]; Data = Array.concat rows |> Array.map float }

let private zeros (features: int) : OnnxReference.Tensor =
    { Shape = [| lanes; features |]; Data = Array.zeroCreate (lanes * features) }

[<Fact>]
let ``ONNX models give what policies give`` () =
    inTemporaryFolder (fun folder ->
        exportAll folder ".onnx"

        for name, what, policy in exported.Value do
            let model = OnnxReference.read (Path.Combine(folder, name + ".onnx"))
            Expect.equal model.Opset 13L "opset"
            let observations, outputs = flights.Value[name]
            let mutable memory = zeros policy.MemorySize

            for step in 0 .. 2 * resetEvery - 1 do
                if step % resetEvery = 0 then
                    memory <- zeros policy.MemorySize

                let inputs =
                    [
                        "observation", tensor observations[step]
                        if policy.MemorySize > 0 then
                            "memory_in", memory
                    ]

                Expect.equal (List.map fst inputs) (List.map fst model.Inputs) $"{what}: inputs"
                let found = OnnxReference.run model inputs
                let expected = tensor outputs[step]

                let actual =
                    if policy.Network.Spec.Head = Head.Categorical then
                        let choices =
                            outputs[step] |> Array.map (fun row -> Array.IndexOf(row, Array.max row))

                        Expect.equal (found["action"].Data |> Array.map int) choices $"{what}: choices"
                        found["logits"]
                    else
                        found["action"]

                Expect.equal actual.Shape expected.Shape $"{what}: shape"
                Expect.closeAll 3e-6 actual.Data expected.Data $"{what}: step {step}"

                if policy.MemorySize > 0 then
                    memory <- found["memory_out"])

[<OnnxFact>]
let ``ONNX's own checker takes the models`` () =
    inTemporaryFolder (fun folder ->
        exportAll folder ".onnx"
        let output = succeed onnx.Value.Value [ fixture "export/check_onnx.py"; folder ]
        Expect.equal (output.Split("checked").Length - 1) exported.Value.Length output)

[<TorchFact>]
let ``the Python beside a checkpoint gives what the policy gives`` () =
    inTemporaryFolder (fun folder ->
        exportAll folder ".pt"
        let output = succeed torch.Value.Value [ fixture "export/check_torch.py"; folder ]
        Expect.equal (output.Split("compared").Length - 1) exported.Value.Length output)

/// A program that flies all policies of the folder, each with a state for every lane, and writes NAME.c_outputs.
let private program (folder: string) =
    let fly (name: string) (policy: Policy) =
        let spec = policy.Network.Spec
        let upper = name.ToUpperInvariant()

        let step =
            if spec.Head = Head.Categorical then
                $$"""int choice = {{name}}_step(&states[lane], x, y);
            for (int i = 0; i < {{upper}}_ACTIONS; i++)
                if (y[i] > y[choice]) return 3;"""
            else
                $"{name}_step(&states[lane], x, y);"

        $$"""
static int fly_{{name}}(void)
{
    FILE *in = fopen("{{folder}}/{{name}}.observations", "rb"), *out = fopen("{{folder}}/{{name}}.c_outputs", "wb");
    {{name}}_state states[{{lanes}}];
    float x[{{upper}}_OBSERVATIONS], y[{{upper}}_ACTIONS];
    if (!in || !out) return 1;
    for (int step = 0; step < {{steps}}; step++)
        for (int lane = 0; lane < {{lanes}}; lane++) {
            if (step % {{resetEvery}} == 0) {{name}}_reset(&states[lane]);
            if (fread(x, sizeof x, 1, in) != 1) return 2;
            {{step}}
            fwrite(y, sizeof y, 1, out);
        }
    fclose(in);
    fclose(out);
    printf("{{name}} %g\n", (double){{name}}_self_test());
    return 0;
}
"""

    String.concat
        "\n"
        [
            "#include <stdio.h>"
            for name, _, _ in exported.Value do
                $"#define {name.ToUpperInvariant()}_SELF_TEST"
                $"#include \"{name}.h\""
            for name, _, policy in exported.Value do
                fly name policy
            "int main(void)\n{"
            for name, _, _ in exported.Value do
                $"    if (fly_{name}()) return 1;"
            "    return 0;\n}\n"
        ]

[<GccFact>]
let ``headers in C give what policies give, all in one program`` () =
    inTemporaryFolder (fun folder ->
        exportAll folder ".h"
        let source, binary = Path.Combine(folder, "main.c"), Path.Combine(folder, "main")
        File.WriteAllText(source, program folder)

        let strict = [ "-std=c99"; "-Wall"; "-Wextra"; "-Werror"; "-pedantic"; "-O1" ]
        succeed "gcc" (strict @ [ source; "-o"; binary; "-lm" ]) |> ignore

        for line in (succeed binary []).Split('\n', StringSplitOptions.RemoveEmptyEntries) do
            let deviation = float (line.Split(' ')[1])
            Expect.isTrue (deviation < 1e-5) $"self-test of {line}"

        for name, what, _ in exported.Value do
            let bytes = File.ReadAllBytes(Path.Combine(folder, name + ".c_outputs"))
            let actual = (MemoryMarshal.Cast<byte, float32>(ReadOnlySpan bytes)).ToArray()
            let _, outputs = flights.Value[name]
            Expect.closeAll 3e-6 (Seq.map float actual) (Seq.map float (flat outputs)) what)

/// The size of RAPTOR's student, with the facts of the environment.
let private raptor () =
    let policy =
        randomPolicy 1 0.25f (NetworkSpec.GruStack(22, 16, 16, 0, 4)) "student" false

    PolicyFacts.Note(policy, (QuadrotorConfig() :> IEnvironmentConfig).Spec)
    policy

[<ArmFact>]
let ``a student of RAPTOR's size fits a Cortex-M4`` () =
    inTemporaryFolder (fun folder ->
        let path (name: string) = Path.Combine(folder, name)
        PolicyExport.Save(path "student.h", raptor ())

        File.WriteAllText(
            path "main.c",
            "#include \"student.h\"\nvoid fly(student_state *state, const float *x, float *y)\n{ student_step(state, x, y); }\n"
        )

        let target =
            [ "-mcpu=cortex-m4"; "-mfpu=fpv4-sp-d16"; "-mfloat-abi=hard"; "-mthumb" ]

        let strict = [ "-std=c99"; "-Wall"; "-Wextra"; "-Werror"; "-pedantic"; "-Os" ]

        succeed
            "arm-none-eabi-gcc"
            (target @ strict @ [ "-Wdouble-promotion"; "-c"; path "main.c"; "-o"; path "main.o" ])
        |> ignore

        let sizes = (succeed "arm-none-eabi-size" [ path "main.o" ]).Split('\n')[1]

        let size =
            int (sizes.Trim().Split([| '\t'; ' ' |], StringSplitOptions.RemoveEmptyEntries)[0])

        let weights = 4 * 2068
        Expect.isTrue (size > weights && size < weights + 2048) $"code and constants: {sizes}")

[<Fact>]
let ``exports carry the order of what the policy reads, frames, units and rate`` () =
    inTemporaryFolder (fun folder ->
        let policy = raptor ()
        policy.Metadata["command"] <- "run a.fsx logs=/*/ \\\nand \"\"\" */ #error"
        policy.Metadata["return"] <- "618.4"
        policy.Metadata["made_by"] <- "somebody else"

        for ending in [ ".h"; ".pt"; ".onnx" ] do
            let path = Path.Combine(folder, "student" + ending)
            PolicyExport.Save(path, policy)
            let text = File.ReadAllText(path.Replace(".pt", ".py"))

            for fact in
                [
                    "[0:3] position, world, m"
                    "[3:12] rotation matrix, body to world, row-major"
                    "[18:22] previous action"
                    "front-right, back-right, back-left, front-left"
                    "618.4"
                    "quadrotor"
                ] do
                Assert.Contains(fact, text)

        let model = OnnxReference.read (Path.Combine(folder, "student.onnx"))
        Expect.equal model.Metadata["rate_hz"] "100" "rate"
        Expect.equal model.Metadata["memory"].[..5] "[0:16]" "memory"
        let header = File.ReadAllText(Path.Combine(folder, "student.h"))
        Assert.Contains("rate_hz: 100", header)
        Assert.Contains("#define STUDENT_STEP_SECONDS 0.00999999978f", header)
        Assert.Contains("Multiply-adds of a step: 1952.", header)
        Expect.equal (header.Split("*/").Length) (header.Split("/*").Length) "comments"
        let loaded = PolicyFile.Load(Path.Combine(folder, "student.pt"))

        Expect.equal
            loaded.Metadata["observation"]
            policy.Metadata["observation"]
            "a checkpoint keeps the order"

        Expect.isTrue (not (loaded.Metadata.ContainsKey "command")) "and not who made it")

[<Fact>]
let ``a file that does not say what its numbers are is exported with that doubt`` () =
    inTemporaryFolder (fun folder ->
        let policy = randomPolicy 1 0.2f (NetworkSpec.Mlp(7, [ 5 ], 3)) "student" false
        let path = Path.Combine(folder, "3 a-b.h")
        PolicyExport.Save(path, policy)
        let text = File.ReadAllText path
        Assert.Contains("observation: [0:7] the order is not known", text)
        Assert.Contains("policy_3_a_b_step", text)
        Assert.DoesNotContain("STEP_SECONDS", text))

[<Fact>]
let ``groups that are read together follow one another in the order of the name`` () =
    let group name components =
        ObservationGroup(name, [| for name, size in components -> ObservationComponent(name, size) |])

    let groups =
        [| group "state" [ "angle, rad", 2; "rate, rad/s", 2 ]; group "goal" [ "height, world, m", 1 ] |]

    let actions = ActionSpace(3, Discrete = false, Meaning = "torques, N m")
    let policy = randomPolicy 1 0.2f (NetworkSpec.Mlp(5, [ 4 ], 3)) "goal+state" false
    PolicyFacts.Note(policy, EnvironmentSpec("arm", groups, actions, 10, 0.0025))
    Expect.equal policy.Metadata["step_seconds"] "0.0025" "step"
    Expect.equal policy.Metadata["action"] "torques, N m" "action"

    Expect.equal
        policy.Metadata["observation"]
        "[0:1] height, world, m; [1:3] angle, rad; [3:5] rate, rad/s"
        "observation"

[<Fact>]
let ``the same policy gives the same bytes`` () =
    inTemporaryFolder (fun folder ->
        let save (part: string) =
            Directory.CreateDirectory(Path.Combine(folder, part)) |> ignore

            for ending in [ ".onnx"; ".h"; ".pt" ] do
                PolicyExport.Save(Path.Combine(folder, part, "student" + ending), raptor ())

        save "a"
        save "b"

        let files =
            Directory.GetFiles(Path.Combine(folder, "a")) |> Array.map Path.GetFileName

        Expect.equal
            (Array.sort (Array.map string files))
            [| "student.h"; "student.onnx"; "student.pt"; "student.py" |]
            "nothing else is left"

        for file in files do
            let bytes (part: string) =
                File.ReadAllBytes(Path.Combine(folder, part, nonNull file))

            Expect.isTrue (bytes "a" = bytes "b") $"{file}")

[<Fact>]
let ``what cannot be exported, or read back, is refused by a sentence`` () =
    inTemporaryFolder (fun folder ->
        let message (work: unit -> unit) =
            Expect.throws<DistillException>(work).Message

        let save (name: string) policy () =
            PolicyExport.Save(Path.Combine(folder, name), policy)

        Assert.Contains(
            "there are: onnx, c, pt",
            message (fun () -> PolicyExport.EndingOf "tflite" |> ignore)
        )

        Assert.Contains("must end in .onnx or .h or .pt", message (save "a.txt" (raptor ())))
        let spec = NetworkSpec(7, [ Gru 4 ], Head.StateDependentStd)

        Assert.Contains(
            "cannot be exported",
            message (save "a.onnx" (randomPolicy 1 0.1f spec "student" false))
        )

        let odd = NetworkSpec(7, [ Dense(3, Activation.Elu); GaussianOutput 3 ])

        Assert.Contains(
            "cannot be exported",
            message (save "a.pt" (randomPolicy 1 0.1f odd "student" false))
        )

        Assert.Contains("Cannot write", message (save "missing/a.h" (raptor ())))
        Assert.Empty(Directory.GetFileSystemEntries folder)

        for name in [ "a.onnx"; "a.h" ] do
            Assert.Contains(
                $"{name} is an export, which cannot be read back; a .safetensors or .pt or .pth file is needed",
                message (fun () -> PolicyFile.Load name |> ignore)
            ))
