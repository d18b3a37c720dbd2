module Distill.Tests.RslRlTests

open System
open System.IO
open System.Text.Json
open Xunit
open Distill.Policies
open Distill.Storage
open Distill.Tests.Storage

let rslRlFiles = rslRlCheckpoints |> Seq.map (fun name -> [| box name |])

let private optional (value: JsonElement) =
    if value.ValueKind = JsonValueKind.Null then
        None
    else
        Some value

[<Theory>]
[<MemberData(nameof rslRlFiles)>]
let ``the policies of every generation of rsl_rl are found by role`` (name: string) =
    let file = PyTorchFile.Read(fixture $"torch/{name}.pt")
    let json = expectation $"torch/{name}.json"
    let checkpoint = RslRl.Map file
    let roles = json.GetProperty("roles").EnumerateObject() |> Seq.toArray

    let found =
        checkpoint.Policies |> Seq.map (fun policy -> policy.Role.ToString().ToLowerInvariant()) |> set

    Expect.equal checkpoint.Iteration (json.GetProperty("other").GetProperty("iter").GetInt64()) "iteration"
    Expect.equal found (roles |> Seq.map _.Name |> set) "roles"

    // The tensor is the one of that name in the file: same shape, same bits.
    let isNamed (tensor: Tensor) (name: JsonElement) =
        let expected =
            file.Tensors |> Seq.find (fun candidate -> candidate.Name = text name)

        Expect.equal tensor.ShapeText expected.ShapeText expected.Name
        Expect.equal (tensor.Data.ToArray()) (expected.Data.ToArray()) expected.Name

    for role in roles do
        let policy =
            checkpoint.Policies
            |> Seq.find (fun policy -> policy.Role.ToString().ToLowerInvariant() = role.Name)

        let layers = items (role.Value.GetProperty "layers")
        Expect.equal policy.Layers.Count layers.Length "layers"

        for layer, names in Seq.zip policy.Layers (Seq.map items layers) do
            isNamed layer.Weight names[0]
            isNamed layer.Bias names[1]

        match optional (role.Value.GetProperty "memory"), Option.ofObj policy.Memory with
        | None, None -> ()
        | Some expected, Some memory ->
            Expect.equal
                (memory.Kind.ToString().ToLowerInvariant())
                (text (expected.GetProperty "kind"))
                "memory"

            let layers = items (expected.GetProperty "layers")
            Expect.equal memory.Layers.Count layers.Length "memory layers"

            for layer, names in Seq.zip memory.Layers (Seq.map items layers) do
                Seq.iter2 isNamed [ layer.WeightIh; layer.WeightHh; layer.BiasIh; layer.BiasHh ] names
        | _, found -> failwith $"memory of {role.Name}: {found}"

        match optional (role.Value.GetProperty "normaliser"), Option.ofObj policy.Normalizer with
        | None, None -> ()
        | Some names, Some normalizer ->
            Seq.iter2 isNamed [ normalizer.Mean; normalizer.Var; normalizer.Std ] (items names)
            // The fixture of v2.0 has no count.
            let count =
                if name.Contains "v2_" then
                    None
                else
                    Some(2400L * 4096L * 1000L)

            Expect.equal (Option.ofNullable normalizer.Count) count "count"
        | _, found -> failwith $"normalizer of {role.Name}: {found}"

        match optional (role.Value.GetProperty "std"), Option.ofObj policy.Std with
        | None, None -> ()
        | Some expected, Some std ->
            isNamed std.Values expected
            Expect.equal std.IsLog (role.Value.GetProperty("is_log").GetBoolean()) "is_log"
        | _, found -> failwith $"std of {role.Name}: {found}"

[<Fact>]
let ``checkpoints whose policy cannot be used are refused by name`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "model_1.pt")

        let tensor (shape: int[]) =
            let count = Array.fold (*) 1 shape

            TorchValue.Array(Tensor("", ElementType.Float32, shape, Array.zeroCreate (4 * count)))
            :> TorchValue

        let refuses (reason: string) (state: string) (tensors: (string * int[]) list) =
            let model =
                TorchValue.Dict.Of [ for name, shape in tensors -> struct (name, tensor shape) ]

            PyTorchFile.Write(path, TorchValue.Dict.Of [ struct (state, model :> TorchValue) ])

            refused path (fun () -> RslRl.Map(PyTorchFile.Read path) |> ignore) |> contains reason

        let first = [ "mlp.0.weight", [| 8; 26 |]; "mlp.0.bias", [| 8 |] ]
        refuses "none of" "something" first
        refuses "none of" "model_state_dict" [ "critic.0.weight", [| 1; 26 |]; "critic.0.bias", [| 1 |] ]
        refuses "'mlp.2.bias' is missing" "actor_state_dict" (first @ [ "mlp.2.weight", [| 4; 8 |] ])

        refuses
            "should have the shape [4, 8]"
            "actor_state_dict"
            (first @ [ "mlp.2.weight", [| 4; 9 |]; "mlp.2.bias", [| 4 |] ])

        refuses "2 axes" "actor_state_dict" [ "mlp.0.weight", [| 8 |]; "mlp.0.bias", [| 8 |] ]

        refuses
            "cnns.image.0.weight"
            "student_state_dict"
            (first @ [ "cnns.image.0.weight", [| 8; 3; 3; 3 |] ])

        let memory rows =
            [ for n in [ "weight_ih_l0"; "weight_hh_l0" ] -> $"rnn.rnn.{n}", [| rows; 26 |] ]

        let biases rows =
            [ for n in [ "bias_ih_l0"; "bias_hh_l0" ] -> $"rnn.rnn.{n}", [| rows |] ]

        refuses "neither a GRU nor an LSTM" "student_state_dict" (first @ memory 52 @ biases 52)
        refuses "is missing" "student_state_dict" (first @ memory 78)

        // An LSTM of 8 units, and one of 6 above it.
        let layer l inputs rows hidden =
            [
                $"memory_a.rnn.weight_ih_l{l}", [| rows; inputs |]
                $"memory_a.rnn.weight_hh_l{l}", [| rows; hidden |]
                $"memory_a.rnn.bias_ih_l{l}", [| rows |]
                $"memory_a.rnn.bias_hh_l{l}", [| rows |]
            ]

        let actor = [ "actor.0.weight", [| 4; 6 |]; "actor.0.bias", [| 4 |] ]

        refuses
            "'model_state_dict/memory_a.rnn.weight_ih_l1' of shape [24, 8] should have the shape [32, 8]"
            "model_state_dict"
            (actor @ layer 0 26 32 8 @ layer 1 8 24 6)

        refuses
            "should have the shape [1, 26]"
            "actor_state_dict"
            (first @ [ for name in [ "_mean"; "_var"; "_std" ] -> $"obs_normalizer.{name}", [| 1; 25 |] ]))

[<Fact>]
let ``a file that is no dict has no policy`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.pt")
        PyTorchFile.Write(path, TorchValue.List [| TorchValue.Int 1L |])

        refused path (fun () -> RslRl.Map(PyTorchFile.Read path) |> ignore) |> contains "none of")
