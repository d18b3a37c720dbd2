/// Policies in files, and what they do, against plain loops.
module Distill.Tests.PolicyTests

open System
open System.IO
open System.IO.Compression
open System.Text
open System.Text.Json
open Xunit
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.DistillationTestbed
open Distill.Tests.Storage

/// Outputs of a policy on sequences of observations, by panels: [step][lane][output].
let private run (policy: Policy) (steps: float32[][][]) =
    let memory = Array.zeroCreate<float32>(policy.MemorySize * Panel.Width)
    let action = Array.zeroCreate<float32>(policy.ActionFloats * Panel.Width)

    steps
    |> Array.map (fun lanes ->
        let x =
            NetworksReference.panel (Array.map (Array.map float) lanes) policy.Network.Spec.Inputs

        let untouched = Array.copy x
        let outputs = act policy x memory action
        Expect.isTrue (x = untouched) "the observation was changed"

        Array.init
            lanes.Length
            (NetworksReference.lane outputs >> Array.truncate policy.Network.Spec.Outputs))

/// The same in plain loops.
let private reference (policy: Policy) (steps: float32[][][]) =
    let p = floats policy.Network.Parameters |> Array.map float

    let normalize (x: float32[]) =
        match policy.Normalizer with
        | null -> Array.map float x
        | n ->
            x
            |> Array.mapi (fun i v -> (float v - float n.Mean[i]) / (sqrt (float n.Variance[i]) + n.Epsilon))

    let memories =
        Array.init steps[0].Length (fun _ -> Array.zeroCreate<float> policy.MemorySize)

    steps
    |> Array.map (
        Array.mapi (fun lane x ->
            let y, next, _ =
                NetworksReference.forward policy.Network.Spec p (normalize x) memories[lane]

            memories[lane] <- next
            Array.truncate policy.Network.Spec.Outputs y)
    )

let private observations (seed: int) steps lanes inputs =
    let random = Random seed
    Array.init steps (fun _ -> Array.init lanes (fun _ -> Draw.floats random inputs))

let private agrees tolerance what (policy: Policy) =
    let steps = observations 1 6 32 policy.Network.Spec.Inputs
    let flat = Seq.concat >> Seq.concat
    Expect.closeAll tolerance (flat (run policy steps)) (flat (reference policy steps)) what

let private specs =
    [
        "mlp", NetworkSpec.Mlp(7, [ 12; 9 ], 3, Activation.Elu)
        "gaussian", NetworkSpec.Mlp(7, [ 12 ], 3, Activation.Tanh, Head.Gaussian)
        "deviations of the state", NetworkSpec.Mlp(7, [ 12 ], 3, Activation.Tanh, Head.StateDependentStd)
        "log_std of the state", NetworkSpec.RecurrentStack(7, 6, Lstm 5, 0, 3, Head.StateDependentLogStd)
        "squashed", NetworkSpec.GruStack(7, 6, 5, 0, 3, Head.SquashedGaussian)
        "categorical", NetworkSpec.Mlp(7, [ 12 ], 4, Activation.Relu, Head.Categorical)
        "gru", NetworkSpec.GruStack(7, 6, 5, 0, 3)
        "gru, dense", NetworkSpec.GruStack(7, 6, 5, 8, 3, Head.Gaussian)
        "gru first", NetworkSpec(7, [ Gru 5; Dense(8, Activation.Elu); Dense(3, Activation.Identity) ])
        "two grus", NetworkSpec(7, [ Gru 5; Gru 5; Dense(8, Activation.Elu); Dense(3, Activation.Identity) ])
        "lstm", NetworkSpec.RecurrentStack(7, 6, Lstm 5, 8, 3)
        "two lstms",
        NetworkSpec(7, [ Lstm 5; Lstm 5; Dense(8, Activation.Elu); Dense(3, Activation.Identity) ])
        "dense between",
        NetworkSpec(7, [ Gru 5; Dense(4, Activation.Elu); Gru 6; Dense(3, Activation.Identity) ])
    ]

let internal policies () =
    [
        for i, (name, spec) in List.indexed specs do
            for normalize in [ false; true ] do
                $"{name}, normalize {normalize}", randomPolicy i 0.4f spec "tracking" normalize
    ]

let private same (what: string) (actual: Policy) (expected: Policy) =
    Expect.equal actual.Network.Spec expected.Network.Spec $"{what}: architecture"
    Expect.equal actual.ObservationGroup expected.ObservationGroup $"{what}: group"
    Paths.sameBits (floats actual.Network.Parameters) (floats expected.Network.Parameters) what

    match actual.Normalizer, expected.Normalizer with
    | null, null -> ()
    | null, _
    | _, null -> failwith $"{what}: one has a normalizer"
    | a, e ->
        Paths.sameBits a.Mean e.Mean what
        Paths.sameBits a.Variance e.Variance what
        Expect.equal (a.Count, a.Epsilon) (e.Count, e.Epsilon) what

[<Fact>]
let ``policies agree with plain loops`` () =
    for name, policy in policies () do
        agrees 2e-6 name policy

[<Fact>]
let ``a deterministic action is the output, the mean, or the likeliest choice`` () =
    for name, policy in policies () do
        let memory = Array.zeroCreate<float32>(policy.MemorySize * Panel.Width)
        let action = Array.zeroCreate<float32>(policy.ActionFloats * Panel.Width)
        let outputs = act policy (Draw.floats (Random 2) (7 * Panel.Width)) memory action

        if policy.Network.Spec.Head = Head.Categorical then
            for lane in 0..31 do
                let logits = NetworksReference.lane outputs lane
                Expect.equal logits[int action[lane]] (Array.max logits) name
        elif policy.Network.Spec.Head = Head.SquashedGaussian then
            Expect.closeAll
                1e-6
                (Seq.map float action)
                (outputs |> Seq.take action.Length |> Seq.map (float >> tanh))
                name
        else
            Paths.sameBits action (Array.truncate action.Length outputs) name

[<Fact>]
let ``safetensors and PyTorch files bring back the same policy, and the same file`` () =
    inTemporaryFolder (fun folder ->
        for name, policy in policies () do
            policy.Metadata["made by"] <- "a test: ümläut"
            let path = Path.Combine(folder, "policy.safetensors")
            PolicyFile.Save(path, policy)
            let first = File.ReadAllBytes path
            let loaded = PolicyFile.Load path
            same $"{name}, safetensors" loaded policy
            Expect.equal loaded.Metadata["made by"] "a test: ümläut" name
            Expect.equal loaded.Metadata.Count 1 name
            PolicyFile.Save(path, loaded)
            Expect.isTrue (File.ReadAllBytes path = first) $"{name}: another file"

            let path = Path.Combine(folder, "policy.pt")
            PolicyFile.Save(path, policy, 7L)
            same $"{name}, PyTorch" (PolicyFile.Load path) policy
            Expect.equal (PolicyFile.Load(path, "student").ObservationGroup) "student" name)

[<Fact>]
let ``a PyTorch file without Distill's entry is read by rsl_rl's names`` () =
    inTemporaryFolder (fun folder ->
        for name in [ "mlp"; "gaussian"; "gru first"; "two grus"; "two lstms" ] do
            let spec = List.find (fst >> (=) name) specs |> snd
            let policy = randomPolicy 3 0.4f spec "student" true
            let path = Path.Combine(folder, "policy.pt")
            PolicyFile.Save(path, policy, 7L)
            let root = PyTorchFile.Read(path).Root :?> TorchValue.Dict

            let kept =
                root.Entries
                |> Seq.filter (fun entry -> entry.Key.Text <> "distill.architecture")
                |> Seq.map (fun entry -> struct (nonNull entry.Key.Text, entry.Value))

            PyTorchFile.Write(path, TorchValue.Dict.Of kept)
            let activation = (spec.Layers[spec.Layers.Count - 2] :?> Dense).Activation
            same name (PolicyFile.Load(path, activation = activation)) policy)

let private rslRl =
    [
        "v1_actor_critic", "actor"
        "v2_actor_critic_recurrent", "actor"
        "v23_student_teacher", "student"
        "v23_student_teacher", "teacher"
        "v3_actor_critic", "actor"
        "v3_student_teacher_recurrent", "student"
        "v3_student_teacher_recurrent", "teacher"
        "v4_ppo", "actor"
        "v4_distillation", "student"
        "v4_distillation", "teacher"
        "v5_ppo", "actor"
        "v5_distillation", "student"
        "v5_distillation", "teacher"
    ]

let private strings (value: JsonElement) =
    [ for item in value.EnumerateArray() -> nonNull (item.GetString()) ]

/// The output of one role of a checkpoint, computed from the numbers in the JSON beside it.
let private checkpointOutput (json: JsonElement) (role: JsonElement) (steps: float32[][][]) =
    let tensors =
        dict
            [
                for tensor in json.GetProperty("tensors").EnumerateArray() ->
                    nonNull (tensor.GetProperty("name").GetString()),
                    [| for value in tensor.GetProperty("values").EnumerateArray() -> value.GetDouble() |]
            ]

    let normalizer = role.GetProperty "normaliser"

    let normalize (x: float[]) =
        if normalizer.ValueKind = JsonValueKind.Null then
            x
        else
            match strings normalizer with
            | [ mean; _; std ] ->
                x |> Array.mapi (fun i v -> (v - tensors[mean][i]) / (tensors[std][i] + 1e-2))
            | other -> failwith $"{other}"

    // Parameters in the order of NetworksReference: W, b of a dense layer; W_ih, W_hh, b_ih, b_hh of one with a memory.
    let memory = role.GetProperty "memory"

    let memories =
        if memory.ValueKind = JsonValueKind.Null then
            []
        else
            [ for layer in memory.GetProperty("layers").EnumerateArray() -> strings layer ]

    let layers =
        [ for layer in role.GetProperty("layers").EnumerateArray() -> strings layer ]

    let p =
        memories @ layers |> List.concat |> List.map (fun name -> tensors[name]) |> Array.concat

    let spec =
        NetworkSpec(
            26,
            [
                for layer in memories do
                    if memory.GetProperty("kind").GetString() = "lstm" then
                        Lstm(tensors[layer[2]].Length / 4) :> LayerSpec
                    else
                        Gru(tensors[layer[2]].Length / 3)

                for i, layer in List.indexed layers do
                    let last = i = layers.Length - 1
                    let activation = if last then Activation.Identity else Activation.Elu
                    Dense(tensors[layer[1]].Length, activation)
            ]
        )

    let memories =
        Array.init steps[0].Length (fun _ ->
            Array.zeroCreate<float>(Seq.sumBy NetworksReference.memorySize spec.Layers))

    steps
    |> Array.map (
        Array.mapi (fun lane x ->
            let y, next, _ =
                NetworksReference.forward spec p (normalize (Array.map float x)) memories[lane]

            memories[lane] <- next
            y)
    )

[<Fact>]
let ``checkpoints of every rsl_rl generation give the right output`` () =
    let steps = observations 4 5 32 26

    for name, role in rslRl do
        let path = fixture $"torch/rsl_rl/{name}.pt"
        use stream = File.OpenRead(fixture $"torch/rsl_rl/{name}.json")
        use document = JsonDocument.Parse stream
        let json = document.RootElement
        let description = json.GetProperty("roles").GetProperty role
        use policy = PolicyFile.Load(path, role = Enum.Parse<PolicyRole>(role, true))
        let flat = Seq.concat >> Seq.concat
        let expected = checkpointOutput json description steps
        Expect.closeAll 3e-6 (flat (run policy steps)) (flat expected) $"{name}, {role}"
        Expect.equal policy.ObservationGroup (if role = "student" then "student" else "teacher") name
        contains role policy.Metadata["source"]
        let std = description.GetProperty "std"

        if std.ValueKind <> JsonValueKind.Null then
            let values =
                json.GetProperty("tensors").EnumerateArray()
                |> Seq.find (fun t -> t.GetProperty("name").GetString() = std.GetString())

            let expected =
                [
                    for value in values.GetProperty("values").EnumerateArray() ->
                        if description.GetProperty("is_log").GetBoolean() then
                            exp (value.GetDouble())
                        else
                            value.GetDouble()
                ]

            Expect.closeAll
                1e-6
                [ for v in policy.Network["log_std"].ToArray() -> exp (float v) ]
                expected
                $"{name}: std"


/// What PyTorch did with the checkpoints in recurrent/ (make_recurrent.py).
let private recurrent =
    lazy
        (use file = File.OpenRead(fixture "torch/recurrent/actions.json.gz")
         use text = new GZipStream(file, CompressionMode.Decompress)
         JsonDocument.Parse(text).RootElement)

let private numbers (value: JsonElement) =
    [|
        for step in value.EnumerateArray() ->
            [| for lane in step.EnumerateArray() -> [| for v in lane.EnumerateArray() -> v.GetSingle() |] |]
    |]

/// The actions on the recorded observations, whose episodes begin anew in between.
let private actionsOnRecorded (policy: Policy) =
    let resets =
        [
            for env in recurrent.Value.GetProperty("resets").EnumerateArray() ->
                [ for step in env.EnumerateArray() -> step.GetInt32() ]
        ]

    let memory = Array.zeroCreate<float32>(policy.MemorySize * Panel.Width)
    let action = Array.zeroCreate<float32>(policy.ActionFloats * Panel.Width)

    numbers (recurrent.Value.GetProperty "observations")
    |> Array.mapi (fun step lanes ->
        for lane, steps in List.indexed resets do
            if List.contains step steps then
                for i in 0 .. policy.MemorySize - 1 do
                    memory[i * Panel.Width + lane] <- 0f

        act policy (NetworksReference.panel (Array.map (Array.map float) lanes) 6) memory action |> ignore
        Array.init lanes.Length (NetworksReference.lane action >> Array.map float32))

[<Fact>]
let ``recurrent checkpoints of every rsl_rl generation act as in PyTorch, in any format and as students`` () =
    inTemporaryFolder (fun folder ->
        let flat = Seq.concat >> Seq.concat >> Seq.map float >> Seq.toArray

        for checkpoint in recurrent.Value.GetProperty("actions").EnumerateObject() do
            for role in checkpoint.Value.EnumerateObject() do
                let what = $"{checkpoint.Name}, {role.Name}"
                let path = fixture $"torch/recurrent/{checkpoint.Name}.pt"
                let expected = flat (numbers role.Value)
                Expect.equal expected.Length 600 what
                use policy = PolicyFile.Load(path, role = Enum.Parse<PolicyRole>(role.Name, true))
                Expect.closeAll 1e-5 (flat (actionsOnRecorded policy)) expected what

                for name in [ "policy.pt"; "policy.safetensors" ] do
                    let path = Path.Combine(folder, name)
                    PolicyFile.Save(path, policy, 3L)
                    use again = PolicyFile.Load path
                    same $"{what}, {name}" again policy

                    for asked, head in
                        [
                            Nullable(), Head.Plain
                            Nullable(), Head.Gaussian
                            for head in
                                [
                                    Head.Plain
                                    Head.Gaussian
                                    Head.StateDependentStd
                                    Head.StateDependentLogStd
                                ] do
                                Nullable head, head
                        ] do
                        let student = FileStudent(File = path, ObservationGroup = "student", Head = asked)
                        use student = student.Create(6, 3, head, RandomStream(1UL, "student"))

                        if asked.HasValue then
                            Expect.equal student.Network.Spec.Head head $"{what}: head"

                        Expect.closeAll
                            1e-5
                            (flat (actionsOnRecorded student))
                            expected
                            $"{what}, {name}, {head}")

[<Fact>]
let ``whether deviations depend on the state comes from params/agent.yaml, else it is assumed, and it shows``
    ()
    =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "model_9.pt")
        let settingsPath = Path.Combine(folder, "params", "agent.yaml")
        Directory.CreateDirectory(Path.Combine(folder, "params")) |> ignore

        let load name (role: PolicyRole) (settings: string) =
            File.Copy(fixture $"torch/recurrent/{name}.pt", path, true)

            if settings = "" then
                File.Delete settingsPath
            else
                File.WriteAllText(settingsPath, settings)

            PolicyFile.Load(path, role = role)

        let head name role settings =
            use policy = load name role settings
            policy.Network.Spec.Head, policy.HeadSource, policy.ActionFloats

        let v5 kind std =
            $"actor:\n  distribution_cfg:\n    class_name: {kind}\n    std_type: {std}\n"

        let of5 = head "v5_heteroscedastic" PolicyRole.Actor
        let yaml = "params/agent.yaml"
        let own = "HeteroscedasticGaussianDistribution"
        Expect.equal (of5 "") (Head.StateDependentStd, "assumed", 3) "nothing said"
        Expect.equal (of5 (v5 own "log")) (Head.StateDependentLogStd, yaml, 3) "log"
        Expect.equal (of5 (v5 own "scalar")) (Head.StateDependentStd, yaml, 3) "scalar"

        Expect.equal
            (of5 (v5 $"rsl_rl.modules:{own}" "log"))
            (Head.StateDependentLogStd, yaml, 3)
            "with its module"

        let v3 = "policy:\n  state_dependent_std: true\n  noise_std_type: log\n"
        Expect.equal (of5 v3) (Head.StateDependentLogStd, yaml, 3) "up to version 4"

        // The student beside it has a std for each of three actions.
        Expect.equal
            (head "v5_distillation" PolicyRole.Teacher "")
            (Head.StateDependentStd, "assumed", 3)
            "a teacher beside its student"

        Expect.equal
            (head "v4_distillation" PolicyRole.Teacher "")
            (Head.Plain, null, 3)
            "a teacher without any"

        use policy = load "v5_heteroscedastic" PolicyRole.Actor (v5 own "log")
        contains "actions=3" policy.Architecture
        contains $"log_std of the state ({yaml})" policy.Architecture

        let own3 = $"teacher:\n  distribution_cfg:\n    class_name: {own}\n"

        refused path (fun () -> (load "v4_distillation" PolicyRole.Teacher own3).Dispose())
        |> contains "has 3 outputs, which cannot be means and standard deviations"

        for kind in [ "BetaDistribution"; "TanhGaussianDistribution" ] do
            refused settingsPath (fun () ->
                (load "v5_heteroscedastic" PolicyRole.Actor (v5 kind "log")).Dispose())
            |> contains kind)

[<Fact>]
let ``without a role a distillation gives its student and PPO its actor`` () =
    for name, role in
        [
            "v5_distillation", "student"
            "v23_student_teacher", "student"
            "v5_ppo", "actor"
            "v1_actor_critic", "actor"
        ] do
        use policy = PolicyFile.Load(fixture $"torch/rsl_rl/{name}.pt")
        contains role policy.Metadata["source"]

    let path = fixture "torch/rsl_rl/v5_ppo.pt"

    refused path (fun () -> PolicyFile.Load(path, role = PolicyRole.Teacher) |> ignore)
    |> contains "has no teacher, but: actor"

[<Fact>]
let ``the released foundation policy gives its recorded outputs`` () =
    let example = Npz.Read(fixture "raptor/raptor-student-example.npz")

    let tensor name =
        (example |> Seq.find (fun t -> t.Name = name)).ToFloats()

    let input, output = tensor "input", tensor "output"

    let steps =
        Array.init 500 (fun step -> Array.init 2 (fun lane -> Array.sub input ((step * 2 + lane) * 22) 22))

    for path in Paths.all do
        Paths.on path (fun () ->
            use policy = raptorTeacher ()

            Expect.equal
                policy.Architecture
                "obs=22, actions=4, hidden=[16, gru 16], relu (assumed)"
                "architecture"

            let actual = run policy steps |> Seq.concat |> Seq.concat |> Seq.toArray
            let deviation = Array.map2 (fun a e -> abs (a - float e)) actual output |> Array.max
            Expect.isTrue (deviation <= 2e-6) $"{path}: off by {deviation:G3}")

// Files that are wrong

let private tensor name (values: float32[]) (shape: int[]) = Tensor.OfFloats(name, values, shape)

let private write folder (tensors: Tensor seq) (metadata: (string * string) list) =
    let path = Path.Combine(folder, "hostile.safetensors")
    SafeTensors.Write(path, tensors, dict metadata |> System.Collections.Generic.Dictionary)
    path

let private architecture (text: string) = [ "distill.architecture", text ]

let private good =
    """{"Inputs":2,"Layers":["identity 1"],"Head":0,"ObservationGroup":"student","NormaliserEpsilon":null}"""

let private weights =
    [ tensor "0.weight" [| 1f; 2f |] [| 1; 2 |]; tensor "0.bias" [| 3f |] [| 1 |] ]

[<Fact>]
let ``the smallest policy file is read`` () =
    inTemporaryFolder (fun folder ->
        use policy = PolicyFile.Load(write folder weights (architecture good))
        Expect.equal policy.Network.ParameterCount 3 "parameters")

[<Fact>]
let ``architectures that are wrong or lie are refused in one sentence, at once`` () =
    inTemporaryFolder (fun folder ->
        for text, part in
            [
                "", "cannot be read"
                "null", "cannot be read"
                "[]", "cannot be read"
                "{}", "cannot be read"
                String('[', 5000), "cannot be read"
                good.Replace("\"Head\":0", "\"Head\":9"), "cannot be read"
                good.Replace("\"Inputs\":2", "\"Inputs\":1e99"), "cannot be read"
                good.Replace("[\"identity 1\"]", "null"), "cannot be read"
                good.Replace("\"student\"", "null"), "cannot be read"
                good.Replace("\"identity 1\"", "null"), "does not know"
                good.Replace("identity 1", "mamba 4"), "does not know"
                good.Replace("identity 1", "identity"), "does not know"
                good.Replace("identity 1", "identity 99999999999"), "does not know"
                good.Replace("[\"identity 1\"]", "[]"), "does not hold"
                good.Replace("\"Inputs\":2", "\"Inputs\":-2"), "does not hold"
                good.Replace("\"Inputs\":2", "\"Inputs\":2147483647"), "does not hold"
                good.Replace("identity 1", "identity -1"), "does not hold"
                good.Replace("identity 1", "identity 2147483647"), "does not hold"
                // 3 x this size is negative in 32 bits.
                good.Replace("identity 1", "gru 1000000000"), "does not hold"
                good.Replace("identity 1", "gru 1431655766"), "does not hold"
                good.Replace("identity 1", "lstm 1073741825"), "does not hold"
                good.Replace("\"Inputs\":2", "\"Inputs\":1"), "has shape"
                // Heads that widen the last layer.
                good.Replace("\"Head\":0", "\"Head\":3"), "does not hold"
                good.Replace("\"Head\":0", "\"Head\":4").Replace("identity 1", "identity 1073741824"),
                "does not hold"
                good.Replace("\"Head\":0", "\"Head\":5").Replace("identity 1", "lstm 1073741824"),
                "does not hold"
                good.Replace("null}", "0}"), "normaliser.mean"
            ] do
            let path = write folder weights (architecture text)
            refused path (fun () -> PolicyFile.Load path |> ignore) |> contains part)

[<Fact>]
let ``tensors that are missing, misshapen or not finite are refused`` () =
    inTemporaryFolder (fun folder ->
        let wrong (tensors: Tensor list) (part: string) =
            let path = write folder tensors (architecture good)
            refused path (fun () -> PolicyFile.Load path |> ignore) |> contains part

        wrong [ weights[0] ] "does not hold"
        wrong [ weights[0]; tensor "other" [| 3f |] [| 1 |] ] "no tensor '0.bias'"
        wrong [ tensor "0.weight" [| 1f; 2f |] [| 2; 1 |]; weights[1] ] "has shape [2, 1] where [1, 2]"

        for bad in [ nanf; infinityf; -infinityf ] do
            wrong [ weights[0]; tensor "0.bias" [| bad |] [| 1 |] ] "not finite"

        let untold = write folder weights []

        refused untold (fun () -> PolicyFile.Load untold |> ignore)
        |> contains "says nothing about its architecture")

[<Fact>]
let ``normalizers that would give no numbers are refused`` () =
    inTemporaryFolder (fun folder ->
        let load epsilon (mean: float32[]) (variance: float32[]) (count: int64) =
            let tensors =
                weights
                @ [
                    tensor "normaliser.mean" mean [| mean.Length |]
                    tensor "normaliser.variance" variance [| variance.Length |]
                    Tensor.OfIntegers("normaliser.count", ReadOnlySpan [| count |], 1)
                ]

            let path =
                write folder tensors (architecture (good.Replace("null}", $"{epsilon}}}")))

            path, (fun () -> PolicyFile.Load path |> ignore)

        (snd (load "0.01" [| 1f; 2f |] [| 1f; 0f |] 5L)) ()
        refused <|| load "0.01" [| 1f |] [| 1f |] 5L |> contains "1 means"
        refused <|| load "0.01" [| nanf; 2f |] [| 1f; 1f |] 5L |> contains "cannot be used"
        refused <|| load "0.01" [| 1f; 2f |] [| 1f; -1f |] 5L |> contains "cannot be used"
        refused <|| load "0.01" [| 1f; 2f |] [| 1f; infinityf |] 5L |> contains "cannot be used"
        refused <|| load "0.01" [| 1f; 2f |] [| 1f; 1f |] -5L |> contains "cannot be used"
        refused <|| load "0" [| 1f; 2f |] [| 1f; 1f |] 5L |> contains "cannot be used"
        refused <|| load "-1" [| 1f; 2f |] [| 1f; 1f |] 5L |> contains "cannot be used")

/// Writes a checkpoint of rsl_rl and, beside it, the settings of its training, unless they are empty.
let private beside (folder: string) (checkpoint: string) (settings: string) =
    let path = Path.Combine(folder, "model_1500.pt")
    File.Copy(fixture $"torch/rsl_rl/{checkpoint}.pt", path, true)
    let settingsPath = Path.Combine(folder, "params", "agent.yaml")
    Directory.CreateDirectory(Path.Combine(folder, "params")) |> ignore

    if settings = "" then
        File.Delete settingsPath
    else
        File.WriteAllText(settingsPath, settings)

    path

[<Fact>]
let ``the activation comes from what is said, then from params/agent.yaml, then is assumed, and it shows``
    ()
    =
    inTemporaryFolder (fun folder ->
        let activation checkpoint settings given =
            use policy = PolicyFile.Load(beside folder checkpoint settings, activation = given)
            let hidden = policy.Network.Spec.Layers[0] :?> Dense

            contains
                $"{string hidden.Activation |> _.ToLowerInvariant()} ({policy.ActivationSource})"
                policy.Architecture

            hidden.Activation, policy.ActivationSource

        let unsaid, relu = Nullable(), Nullable Activation.Relu
        let old = "seed: 1\npolicy:\n  class_name: ActorCritic\n  activation: tanh\n"

        let recent =
            "actor:\n  class_name: MLPModel\n  hidden_dims: !!python/tuple [16, 16]\n  activation: selu\ncritic:\n  activation: relu\n"

        Expect.equal (activation "v5_ppo" "" unsaid) (Activation.Elu, "assumed") "nothing said"
        Expect.equal (activation "v5_ppo" "" relu) (Activation.Relu, "as set") "set"
        Expect.equal (activation "v1_actor_critic" old unsaid) (Activation.Tanh, "params/agent.yaml") "old"
        Expect.equal (activation "v5_ppo" recent unsaid) (Activation.Selu, "params/agent.yaml") "recent"
        Expect.equal (activation "v5_ppo" recent relu) (Activation.Relu, "as set") "set against the settings"
        Expect.equal (activation "v5_ppo" "seed: 1\n" unsaid) (Activation.Elu, "assumed") "silent settings"

        let path = beside folder "v5_ppo" "actor:\n  activation: mish\n"

        refused (Path.Combine(folder, "params", "agent.yaml")) (fun () -> PolicyFile.Load path |> ignore)
        |> contains "activation mish")

[<Fact>]
let ``a file that says its activation is not told another`` () =
    inTemporaryFolder (fun folder ->
        use policy =
            randomPolicy 3 0.4f (NetworkSpec.Mlp(7, [ 5 ], 3, Activation.Tanh)) "student" true

        for name in [ "a.safetensors"; "a.pt" ] do
            let path = Path.Combine(folder, name)

            if name.EndsWith ".pt" then
                PolicyFile.Save(path, policy, 1L)
            else
                PolicyFile.Save(path, policy)

            use same = PolicyFile.Load(path, activation = Nullable Activation.Tanh)
            Expect.isTrue (isNull same.ActivationSource) "known by the file"

            refused path (fun () -> PolicyFile.Load(path, activation = Nullable Activation.Elu) |> ignore)
            |> contains "activation tanh, not elu")

[<Fact>]
let ``twice as many outputs as actions are answered with where deviations are known from`` () =
    let group = ObservationGroup("teacher", [| ObservationComponent("state", 5) |])

    let environment =
        EnvironmentSpec("arm", [| group |], ActionSpace(3, false), 10, 0.1)

    use policy = new Policy(NetworkSpec.Mlp(5, [ 4 ], 6, Activation.Elu), "teacher")

    let refusal =
        Expect.throws<DistillException>(fun () -> policy.Check(environment, "teacher"))

    contains "gives 6 outputs but arm takes 3 action numbers; where half of them" refusal.Message

[<Fact>]
let ``a TorchScript export is answered with the checkpoint to take`` () =
    let path = fixture "torch/jit.pt"
    refused path (fun () -> PolicyFile.Load path |> ignore) |> contains "model_*.pt"

[<Fact>]
let ``a .pt checkpoint has the epoch, the best return and Adam's state as PyTorch writes it`` () =
    inTemporaryFolder (fun folder ->
        use pool = new WorkerPool(1)

        use policy =
            randomPolicy 3 0.4f (NetworkSpec.Mlp(3, [ 5 ], 2, Activation.Elu, Head.Gaussian)) "student" true

        use adam = new Adam(policy.Network, AdamConfig(LearningRate = 3e-4), 1)
        let random = Random 4

        for _ in 1..3 do
            let gradient = adam.Gradient 0

            for i in 0 .. policy.Network.ParameterCount - 1 do
                gradient[i] <- float32 (random.NextDouble() - 0.5)

            adam.Step(pool, 1)

        let path = Path.Combine(folder, "student_3.pt")
        PolicyFile.Save(path, policy, 3L, adam, Nullable -12.5)
        let find (key: string) (dict: TorchValue.Dict) = nonNull (dict.Find key)
        let inner key dict = find key dict :?> TorchValue.Dict
        let root = PyTorchFile.Read(path).Root :?> TorchValue.Dict
        Expect.equal (find "epoch" root) (TorchValue.Int 3L :> TorchValue) "epoch"
        Expect.equal (find "best_return" root) (TorchValue.Float -12.5 :> TorchValue) "best return"
        let model = inner "model_state_dict" root
        let optimizer = inner "optimizer_state_dict" root
        let state = inner "state" optimizer

        let group =
            (find "param_groups" optimizer :?> TorchValue.List).Items[0] :?> TorchValue.Dict

        Expect.equal (find "lr" group) (TorchValue.Float 3e-4 :> TorchValue) "learning rate"

        // Parameters are numbered as the model lists them; what is none, the normalizer, has no number.
        let parameters =
            [
                for entry in model.Entries do
                    if not (string entry.Key |> _.StartsWith("obs_normalizer")) then
                        entry.Value
            ]

        Expect.equal state.Entries.Count parameters.Length "parameters with a state"

        for i, parameter in List.indexed parameters do
            let own = state.Entries[TorchKey.op_Implicit (int64 i)] :?> TorchValue.Dict
            let tensor (value: TorchValue) = (value :?> TorchValue.Array).Tensor
            let shape = (tensor parameter).Shape
            Expect.equal (List.ofSeq (tensor (find "exp_avg" own)).Shape) (List.ofSeq shape) $"{i}"
            Expect.equal ((tensor (find "step" own)).ToFloats()) [| 3f |] "steps"

        use other = new Adam(policy.Network, AdamConfig(), 1)
        Expect.isTrue (PolicyFile.RestoreOptimizer(path, policy.Network, other)) "restored"
        Expect.equal other.Steps 3L "steps"
        let length = policy.Network.ParameterCount

        Expect.equal
            (other.FirstMoments.Slice(0, length).ToArray())
            (adam.FirstMoments.Slice(0, length).ToArray())
            "first"

        Expect.equal
            (other.SecondMoments.Slice(0, length).ToArray())
            (adam.SecondMoments.Slice(0, length).ToArray())
            "second"

        // Another network than the one it was made for.
        use wider =
            new Policy(NetworkSpec.Mlp(3, [ 6 ], 2, Activation.Elu, Head.Gaussian), "student")

        use adamOfWider = new Adam(wider.Network, AdamConfig(), 1)

        refused path (fun () -> PolicyFile.RestoreOptimizer(path, wider.Network, adamOfWider) |> ignore)
        |> contains "should have the shape"

        // A student that keeps only the means goes on with their part.
        use wide =
            randomPolicy
                3
                0.4f
                (NetworkSpec.Mlp(3, [ 5 ], 2, Activation.Elu, Head.StateDependentStd))
                "student"
                true

        use adamOfWide = new Adam(wide.Network, AdamConfig(), 1)

        for i in 0 .. wide.Network.ParameterCount - 1 do
            adamOfWide.FirstMoments[i] <- float32 i

        PolicyFile.Save(path, wide, 3L, adamOfWide)
        use means = new Policy(wide.Network.Spec.WithHead Head.Plain, "student")
        use adamOfMeans = new Adam(means.Network, AdamConfig(), 1)
        Expect.isTrue (PolicyFile.RestoreOptimizer(path, means.Network, adamOfMeans)) "restored"
        // 20 of the first layer, 2 x 5 weights and 2 biases; as many of the deviations lie between.
        let expected = [| yield! [ 0..29 ]; 40; 41 |] |> Array.map float32
        Expect.equal (adamOfMeans.FirstMoments.Slice(0, 32).ToArray()) expected "means"
        // One that begins to give deviations begins anew.
        PolicyFile.Save(path, means, 3L, adamOfMeans)
        Expect.isTrue (not (PolicyFile.RestoreOptimizer(path, wide.Network, adamOfWide))) "no deviations yet"

        // Without a state there is nothing to restore.
        PolicyFile.Save(path, policy, 3L)
        Expect.isTrue (not (PolicyFile.RestoreOptimizer(path, policy.Network, other))) "nothing to restore")

[<Fact>]
let ``files of another kind are refused`` () =
    let path = "student.onnx"

    refused path (fun () -> PolicyFile.Load path |> ignore)
    |> contains "a .safetensors or .pt or .pth file is needed"

    for name in [ "torch/adam.pt"; "torch/jit.pt"; "torch/hostile/os_system.pt" ] do
        let path = fixture name
        refused path (fun () -> PolicyFile.Load path |> ignore) |> ignore

[<Fact>]
let ``truncated and flipped policy files are read or refused, nothing else`` () =
    inTemporaryFolder (fun folder ->
        let gru = NetworkSpec.GruStack(3, 2, 2, 0, 1)

        let lstm =
            NetworkSpec(3, [ Lstm 2; Dense(1, Activation.Identity) ], Head.StateDependentStd)

        let read path = PolicyFile.Load(path).Dispose()

        for name, spec in
            [ "small.safetensors", gru; "small.pt", gru; "lstm.safetensors", lstm; "lstm.pt", lstm ] do
            let path = Path.Combine(folder, name)
            use policy = randomPolicy 1 0.4f spec "student" true

            if name.EndsWith ".pt" then
                PolicyFile.Save(path, policy, 1L)
            else
                PolicyFile.Save(path, policy)

            let bytes = File.ReadAllBytes path
            let copy = Path.Combine(folder, "copy" + Path.GetExtension path)
            let random = Random 1

            for trial in 1..300 do
                let changed = Array.copy bytes

                for _ in 0 .. random.Next 4 do
                    changed[random.Next changed.Length] <- byte (random.Next 256)

                File.WriteAllBytes(
                    copy,
                    (if trial % 4 = 0 then
                         bytes[.. random.Next bytes.Length - 1]
                     else
                         changed)
                )

                survives read copy $"{name}, trial {trial}" |> ignore)

[<Fact>]
let ``a policy that does not fit its environment says what differs`` () =
    let environment =
        EnvironmentSpec(
            "arm",
            [
                ObservationGroup("teacher", [ ObservationComponent("q", 7) ])
                ObservationGroup("student", [ ObservationComponent("q", 5) ])
            ],
            ActionSpace(3, false),
            100,
            0.01
        )

    let discrete =
        EnvironmentSpec("arm", environment.Groups, ActionSpace(3, true), 100, 0.01)

    let message (spec: NetworkSpec) group (environment: EnvironmentSpec) =
        use policy = new Policy(spec, group)
        (Expect.throws<DistillException>(fun () -> policy.Check(environment, "student"))).Message

    let mlp inputs outputs head =
        NetworkSpec.Mlp(inputs, [ 4 ], outputs, Activation.Elu, head)

    Expect.equal
        (message (mlp 7 3 Head.Plain) "student" environment)
        "The student reads 7 numbers but observation group 'student' of arm has 5; groups: teacher (7), student (5)."
        "size"

    message (mlp 7 3 Head.Plain) "camera" environment |> contains "no observation group 'camera'"

    message (mlp 7 4 Head.Plain) "teacher" environment
    |> contains "gives 4 outputs but arm takes 3 action numbers."

    message (mlp 7 4 Head.Categorical) "teacher" discrete |> contains "takes 3 choices."

    message (mlp 7 3 Head.Plain) "teacher" discrete
    |> contains "has a plain head but the actions of arm are discrete."

    message (mlp 7 3 Head.Categorical) "teacher" environment |> contains "are continuous."
    use fits = new Policy(mlp 7 3 Head.Gaussian, "teacher")
    fits.Check(environment, "teacher")

[<Fact>]
let ``a policy that explores strays from its best action by noise of mean zero, as far as it is told`` () =
    let environments = 32

    let explore (head: Head) (exploration: float32) =
        use policy =
            randomPolicy 5 0.4f (NetworkSpec.Mlp(3, [ 4 ], 2, Activation.Tanh, head)) "student" false

        use own = new Workspace()
        let observation = Array.init (3 * environments) (fun i -> float32 (i % 7) / 7f)
        let outputs = policy.Forward(Panel(observation, 3, Panel.Width), Panel(), own)
        let count = policy.ActionFloats
        let best = Array.zeroCreate<float32>(count * environments)
        policy.Decide(outputs, Panel(best, count, Panel.Width))
        let outputs = outputs.Values.ToArray()

        let steps =
            [|
                for time in 0L .. 3999L do
                    let action = Array.zeroCreate<float32>(count * environments)

                    policy.Explore(
                        Panel(outputs, outputs.Length / Panel.Width, Panel.Width),
                        Panel(action, count, Panel.Width),
                        exploration,
                        RandomStream(1UL, "exploration"),
                        0,
                        time,
                        own
                    )

                    action
            |]

        best, outputs, steps

    for scale in [ 0f; 0.5f; 1f ] do
        let best, outputs, steps = explore Head.Gaussian scale

        for i in 0..5..63 do
            let std = float scale * exp (float outputs[64 + i])
            let noise = steps |> Array.map (fun action -> float (action[i] - best[i]))
            let mean, square = Array.average noise, noise |> Array.averageBy (fun e -> e * e)
            Expect.close (1e-6 + 4.5 * std / sqrt 4000.0) mean 0.0 $"mean at {scale}"
            Expect.close (1e-6 + 0.1 * std) (sqrt square) std $"deviation at {scale}"

        let best, outputs, steps = explore Head.Categorical scale

        for lane in 0..7..31 do
            let other =
                float outputs[(1 - int best[lane]) * 32 + lane] - float outputs[int best[lane] * 32 + lane]

            let expected = float scale * exp other / (1.0 + exp other)

            let strayed =
                steps |> Array.averageBy (fun action -> if action[lane] = best[lane] then 0.0 else 1.0)

            Expect.close 0.035 strayed expected $"share of other choices at {scale}"
