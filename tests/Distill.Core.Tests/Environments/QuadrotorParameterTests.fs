/// Parameter files, named airframes and configurations of the quadrotor.
module Distill.Tests.QuadrotorParameterTests

open System
open System.IO
open System.Text.Json
open System.Text.Json.Nodes
open Xunit
open Distill
open Distill.Environments.Quadrotor
open Distill.Tests.QuadrotorTestbed

let private folder =
    Path.Combine(AppContext.BaseDirectory, "fixtures", "l2f", "parameters")

let private sampled = Path.Combine(folder, "sampled")
let private registry = Path.Combine(folder, "registry")

let private inTemporaryFolder (action: string -> 'T) =
    let folder = Directory.CreateTempSubdirectory("distill-quadrotor-").FullName

    try
        action folder
    finally
        Directory.Delete(folder, true)

/// Every leaf of a JSON value with its path.
let rec private leaves path (element: JsonElement) : (string * string) list =
    match element.ValueKind with
    | JsonValueKind.Object ->
        [
            for p in element.EnumerateObject() do
                yield! leaves $"{path}.{p.Name}" p.Value
        ]
    | JsonValueKind.Array ->
        element.EnumerateArray() |> Seq.mapi (fun i e -> leaves $"{path}[{i}]" e) |> List.concat
    | JsonValueKind.Number -> [ path, element.GetDouble().ToString "R" ]
    | _ -> [ path, element.ToString() ]

let private content (path: string) =
    use document = JsonDocument.Parse(File.ReadAllBytes path)
    leaves "" document.RootElement |> Map.ofList

[<Fact>]
let ``all parameter files load and come back with every field and digit`` () =
    inTemporaryFolder (fun temporary ->
        let files = Array.append (Directory.GetFiles sampled) (Directory.GetFiles registry)
        Expect.equal files.Length 46 "files"

        for file in files do
            let drone = ParameterFile.Read file
            Expect.equal drone.Name (string (Path.GetFileNameWithoutExtension file)) "name"
            let copy = Path.Combine(temporary, $"{drone.Name}.json")
            ParameterFile.Write(copy, drone)
            Expect.equal (content copy) (content file) $"content of {file}")

[<Fact>]
let ``a folder is read in the order of its names`` () =
    let names = [ for drone in ParameterFile.ReadFolder sampled -> drone.Name ]
    Expect.equal names.Length 40 "drones"
    Expect.equal (List.take 4 names) [ "112"; "12"; "137"; "162" ] "order"

[<Fact>]
let ``environment i flies drone i modulo their number, or the assigned one`` () =
    let config = QuadrotorConfig(Envs = 100, Drones = [| sampled; "crazyflie" |])
    use env = new QuadrotorEnvironment(config, 1UL)
    Expect.equal env.Drones.Count 41 "drones"
    Expect.equal (List.ofSeq env.Assignment) [ for i in 0..99 -> i % 41 ] "assignment"
    // A heavier drone falls behind a lighter one under the same command, so each lane shows who flies it.
    let initial = (states env)[0]
    writeStates env (Array.create 128 initial)
    step env (Array.create 128 (Array.create 4 0.5)) |> ignore

    states env
    |> Array.take 100
    |> Array.iteri (fun i s ->
        let expected = QuadrotorOracle.step env.Drones[i % 41] (Array.create 4 0.5) initial
        Expect.closeAll 1e-5 s.Rotors expected.Rotors $"rotors of environment {i}"

        Expect.closeAll
            1e-5
            s.AngularVelocity
            expected.AngularVelocity
            $"angular velocity of environment {i}")

    use chosen =
        new QuadrotorEnvironment(QuadrotorConfig(Envs = 3), 1UL, env.Drones, [| 7; 7; 40 |])

    Expect.equal (List.ofSeq chosen.Assignment) [ 7; 7; 40 ] "explicit"

let private refused (mention: string list) (action: unit -> unit) =
    let message = (Expect.throws<DistillException> action).Message

    for part in mention do
        Expect.isTrue (message.Contains part) $"'{part}' is not in: {message}"

    Expect.isTrue (not (message.Contains '\n')) $"more than one line: {message}"

[<Fact>]
let ``wrong assignments are refused`` () =
    let fly assignment () =
        (new QuadrotorEnvironment(QuadrotorConfig(Envs = 3), 1UL, null, assignment)).Dispose()

    refused [ "2 entries"; "3 environments" ] (fly [| 0; 0 |])
    refused [ "Environment 1"; "drone 5" ] (fly [| 0; 5; 0 |])

/// Reads a copy of the Crazyflie's file after a change to its JSON.
let private readChanged (change: JsonNode -> unit) =
    inTemporaryFolder (fun temporary ->
        let root =
            (JsonNode.Parse(File.ReadAllText(Path.Combine(registry, "crazyflie.json"))) |> Option.ofObj)
                .Value

        change root
        let path = Path.Combine(temporary, "changed.json")
        File.WriteAllText(path, root.ToJsonString())
        ParameterFile.Read path |> ignore)

let rec private at (path: string list) (node: JsonNode) : JsonNode =
    match path with
    | [] -> node
    | name :: rest ->
        let child = if Char.IsDigit name[0] then node[int name] else node[name]
        at rest (Option.ofObj child).Value

let private set (path: string) (value: JsonNode | null) root =
    let names = path.Split '.' |> List.ofArray
    let parent: JsonNode = at (List.take (names.Length - 1) names) root
    let name = List.last names

    if Char.IsDigit name[0] then
        parent[int name] <- value
    else
        parent[name] <- value

let private remove (path: string) root =
    let names = path.Split '.' |> List.ofArray

    (at (List.take (names.Length - 1) names) root).AsObject().Remove(List.last names) |> ignore

[<Theory>]
[<InlineData("dynamics")>]
[<InlineData("dynamics.mass")>]
[<InlineData("dynamics.J_inv")>]
[<InlineData("dynamics.action_limit.max")>]
[<InlineData("integration.dt")>]
[<InlineData("mdp.init.guidance")>]
[<InlineData("mdp.reward.constant")>]
[<InlineData("mdp.termination.position_threshold")>]
[<InlineData("disturbances.random_force.std")>]
[<InlineData("trajectory.langevin.alpha")>]
let ``a missing field is named`` (field: string) =
    refused [ "changed.json"; $"{field} is missing" ] (fun () -> readChanged (remove field))

[<Theory>]
[<InlineData("dynamics.rotor_thrust_directions.2.0", 0.1, "dynamics.rotor_thrust_directions[2]")>]
[<InlineData("dynamics.J.0.1", 1e-6, "dynamics.J[0][1]")>]
[<InlineData("dynamics.J_inv.2.0", 1.0, "dynamics.J_inv[2][0]")>]
[<InlineData("mdp.reward.linear_acceleration", 0.1, "mdp.reward.linear_acceleration")>]
[<InlineData("mdp.reward.angular_acceleration", 0.1, "mdp.reward.angular_acceleration")>]
[<InlineData("mdp.reward.action", 0.1, "mdp.reward.action")>]
[<InlineData("mdp.reward.position_error_integral", 0.1, "mdp.reward.position_error_integral")>]
[<InlineData("mdp.observation_noise.position", 0.1, "mdp.observation_noise.position")>]
[<InlineData("mdp.observation_noise.imu_acceleration", 0.1, "mdp.observation_noise.imu_acceleration")>]
[<InlineData("mdp.action_noise.normalized_rpm", 0.1, "mdp.action_noise.normalized_rpm")>]
[<InlineData("dynamics.mass", 0.0, "dynamics.mass")>]
[<InlineData("dynamics.mass", 1e300, "dynamics.mass")>]
[<InlineData("dynamics.rotor_time_constants_rising.1", -0.1, "dynamics.rotor_time_constants_rising[1]")>]
[<InlineData("dynamics.action_limit.max", 0.0, "dynamics.action_limit.max")>]
[<InlineData("integration.dt", 0.0, "integration.dt")>]
[<InlineData("mdp.init.guidance", 1.5, "mdp.init.guidance")>]
[<InlineData("trajectory.mixture.0", 0.7, "trajectory.mixture")>]
[<InlineData("trajectory.MIXTURE_N", 3.0, "trajectory.MIXTURE_N")>]
let ``what makes no sense or is not implemented is refused by field``
    (field: string, value: float, name: string)
    =
    let node: JsonNode | null =
        if field.EndsWith "_N" then
            JsonValue.Create(int value)
        else
            JsonValue.Create value

    refused [ "changed.json"; name ] (fun () -> readChanged (set field node))

[<Fact>]
let ``unknown, mistyped, short and repeated fields are refused by name`` () =
    let text (value: string) : JsonNode | null = JsonValue.Create value
    refused [ "dynamics.maas"; "not a field" ] (fun () -> readChanged (set "dynamics.maas" (text "1")))
    refused [ "dynamics.mass" ] (fun () -> readChanged (set "dynamics.mass" (text "heavy")))
    refused [ "mdp is not a JSON object" ] (fun () -> readChanged (set "mdp" (text "none")))

    refused [ "dynamics.gravity"; "2 numbers instead of 3" ] (fun () ->
        readChanged (set "dynamics.gravity" (JsonArray(0.0, -9.81))))

    refused [ "rotor_positions"; "0 rows instead of 4" ] (fun () ->
        readChanged (set "dynamics.rotor_positions" (JsonArray())))

    inTemporaryFolder (fun temporary ->
        let path = Path.Combine(temporary, "twice.json")
        let json = File.ReadAllText(Path.Combine(registry, "crazyflie.json"))
        File.WriteAllText(path, json.Replace("\"mass\":", "\"mass\": 1, \"mass\":"))
        refused [ "twice.json"; "mass" ] (fun () -> ParameterFile.Read path |> ignore))

[<Fact>]
let ``truncated and damaged files are refused or read, and nothing else`` () =
    inTemporaryFolder (fun temporary ->
        let path = Path.Combine(temporary, "damaged.json")
        let good = File.ReadAllBytes(Path.Combine(registry, "crazyflie.json"))
        let random = Random 71

        let tryRead (bytes: byte[]) =
            File.WriteAllBytes(path, bytes)

            try
                ParameterFile.Read path |> ignore
                true
            with :? DistillException ->
                false

        for length in 0..7 .. good.Length - 2 do
            Expect.isTrue (not (tryRead good[.. length - 1])) $"a file cut to {length} bytes was read"

        for _ in 1..500 do
            let bytes = Array.copy good

            for _ in 0 .. random.Next 4 do
                bytes[random.Next bytes.Length] <- byte (random.Next 256)

            tryRead bytes |> ignore

        Expect.isTrue (not (tryRead (Array.create 200_000 (byte '[')))) "deep nesting was read"

        Expect.isTrue
            (not (tryRead (Array.create (ParameterFile.SizeLimit + 1) (byte ' '))))
            "a huge file was read")

    refused [ "absent.json" ] (fun () -> ParameterFile.Read "absent.json" |> ignore)
    refused [ "absent-folder" ] (fun () -> ParameterFile.ReadFolder "absent-folder" |> ignore)

[<Fact>]
let ``a drone that cannot be written leaves the old file as it was`` () =
    inTemporaryFolder (fun temporary ->
        let path = Path.Combine(temporary, "drone.json")
        ParameterFile.Write(path, Airframes.Get "crazyflie")
        let before = File.ReadAllBytes path

        let bad =
            QuadrotorParameters(
                Name = "bad",
                Dynamics = (Airframes.Get "crazyflie").Dynamics,
                Integration = QuadrotorIntegration(Dt = nan)
            )

        refused [ "bad"; "integration.dt" ] (fun () -> ParameterFile.Write(path, bad))
        Expect.equal (File.ReadAllBytes path) before "content"
        Expect.equal (Directory.GetFiles temporary) [| path |] "files"
        let nowhere = Path.Combine(temporary, "absent", "drone.json")
        refused [ nowhere ] (fun () -> ParameterFile.Write(nowhere, Airframes.Get "crazyflie")))

[<Fact>]
let ``the named airframes are those of the registry, with more digits`` () =
    inTemporaryFolder (fun temporary ->
        for name, file in
            [
                "crazyflie", "crazyflie"
                "x500_real", "x500"
                "mrs", "mrs"
                "fs", "fs"
                "race", "race"
                "flightmare", "flightmare"
            ] do
            let copy = Path.Combine(temporary, $"{name}.json")
            ParameterFile.Write(copy, Airframes.Get name)
            let ours = content copy

            for KeyValue(field, expected) in content (Path.Combine(registry, $"{file}.json")) do
                // The sampler's ranges are not the airframe's, and the unread hovering throttle is known to five digits.
                if
                    not (field.StartsWith ".domain_randomization")
                    && not (field.EndsWith "throttle_relative")
                then
                    match Double.TryParse expected, Double.TryParse ours[field] with
                    | (true, e), (true, o) -> Expect.close (6e-7 + 1e-7 * abs e) o e $"{name}{field}"
                    | _ -> Expect.equal ours[field] expected $"{name}{field}")

[<Fact>]
let ``the airframes have the thrust-to-weight ratios of the registry`` () =
    let ratio (drone: QuadrotorParameters) =
        let d = drone.Dynamics
        let w = d.ActionLimit.Max

        (d.RotorThrustCoefficients |> Array.sumBy (fun c -> c[0] + c[1] * w + c[2] * w * w))
        / (d.Mass * 9.81)

    let expected =
        [
            "crazyflie", 1.467
            "x500_real", 3.25
            "x500_sim", 1.78
            "mrs", 2.69
            "fs", 3.40
            "race", 3.94
            "flightmare", 12.1
            "soft", 3.31
            "soft_rigid", 3.32
        ]

    Expect.equal (List.ofSeq Airframes.Names) (List.map fst expected) "names"

    for name, value in expected do
        let found = ratio (Airframes.Get name)
        Expect.close (0.004 * value) found value name

    // The mistyped J of the x500 and its sound inverse.
    let x500 = (Airframes.Get "x500_real").Dynamics
    Expect.equal (x500.J[0][0], x500.JInv[0][0]) (0.1705, 46.072333563695) "x500"

[<Fact>]
let ``an unknown airframe is refused with the list`` () =
    refused [ "'crazyfly'"; "crazyflie, x500_real" ] (fun () -> Airframes.Get "crazyfly" |> ignore)

[<Fact>]
let ``configurations without sense are refused by field`` () =
    let fly (config: QuadrotorConfig) () =
        (new QuadrotorEnvironment(config, 1UL)).Dispose()

    refused [ "envs"; "0" ] (fly (QuadrotorConfig(Envs = 0)))
    refused [ "episode_limit" ] (fly (QuadrotorConfig(EpisodeLimit = 0)))
    refused [ "drones" ] (fly (QuadrotorConfig(Drones = [||])))
    refused [ "task" ] (fly (QuadrotorConfig(Task = enum 9)))
    refused [ "figure_eight" ] (fly (QuadrotorConfig(FigureEight = FigureEight(RampSeconds = 0.0))))

    refused
        [ "mdp.init.max_position" ]
        (fly (QuadrotorConfig(InitialStates = InitialStates(MaxPosition = nan))))

[<Fact>]
let ``the reward constant is that of distillation unless the drone's own is asked for`` () =
    let drone =
        let crazyflie = Airframes.Get "crazyflie"

        QuadrotorParameters(
            Dynamics = crazyflie.Dynamics,
            Mdp = QuadrotorMdp(Reward = RewardWeights(Constant = 0.5))
        )

    let first (constant: Nullable<float>) =
        use env =
            new QuadrotorEnvironment(QuadrotorConfig(RewardConstant = constant), 1UL, [| drone |])

        (step env (Array.create 128 (Array.zeroCreate 4))).Reward[0]

    Expect.close 1e-6 (first (Nullable 1.5) - first (Nullable())) 1.0 "difference"
