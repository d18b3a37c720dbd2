/// Drones drawn by the published procedure, against files and figures of rl-tools' own sampler.
module Distill.Tests.DroneSamplingTests

open System
open System.IO
open System.Text.Json
open Xunit
open Distill
open Distill.Environments.Quadrotor
open Distill.Tests.QuadrotorTestbed

let private folder =
    Path.Combine(AppContext.BaseDirectory, "fixtures", "l2f", "parameters")

let private golden = ParameterFile.ReadFolder(Path.Combine(folder, "sampled"))

let private figures (sampling: DroneSampling) =
    [| for drone in sampling.Draw() -> DroneFigures.Of drone |]

/// Enough drones to see a wrong range or shape.
let private many = lazy (figures (DroneSampling(Number = 10_000, Seed = 5UL)))

/// What a sampled drone is made of: whatever of its parameters differs from a Crazyflie's, as one row of numbers.
let private content (drone: QuadrotorParameters) =
    let d = drone.Dynamics

    [|
        d.Mass
        drone.Mdp.Init.MaxPosition
        drone.Mdp.Termination.PositionThreshold
        drone.Disturbances.RandomForce.Std
        for rows in [ d.RotorPositions; d.RotorThrustCoefficients; d.J; d.JInv ] do
            yield! Array.concat rows
        yield! d.RotorTorqueConstants
        yield! d.RotorTimeConstantsRising
        yield! d.RotorTimeConstantsFalling
    |]

/// The share of values below a bound.
let private below (bound: float) (values: float[]) =
    float (values |> Array.filter (fun v -> v < bound) |> Array.length) / float values.Length

let private correlation (a: float[]) (b: float[]) =
    let centred (values: float[]) =
        let mean = Array.average values
        values |> Array.map (fun v -> v - mean)

    let a, b = centred a, centred b

    let dot x y =
        Array.fold2 (fun sum x y -> sum + x * y) 0.0 x y

    dot a b / sqrt (dot a a * dot b b)

/// What of a drone is drawn, in units in which it is uniform from 0 to 1.
let private uniforms: (string * (DroneFigures -> float)) list =
    let share low high value = (value - low) / (high - low)

    [
        "thrust to weight", (fun f -> share 1.5 5.0 f.ThrustToWeight)
        "mass", (fun f -> share (Math.Cbrt 0.02) (Math.Cbrt 5.0) (Math.Cbrt f.Mass))
        "torque to inertia", (fun f -> share 40.0 1200.0 f.TorqueToInertia)
        "torque constant", (fun f -> share 0.005 0.05 f.RotorTorqueConstant)
        "rising", (fun f -> share 0.03 0.10 f.TimeConstantRising)
        "falling", (fun f -> share 0.03 0.30 f.TimeConstantFalling)
        "disturbance",
        (fun f ->
            share
                0.0
                (0.3 * (f.ThrustToWeight - 1.0) * f.ThrustToWeight * f.Mass / 3.0)
                f.DisturbanceForceStd)
    ]

[<Fact>]
let ``figures of drones are those that their files' index has`` () =
    use index = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "index.json")))

    for entry in index.RootElement.EnumerateArray() do
        let number (name: string) = entry.GetProperty(name).GetDouble()
        let file = string (entry.GetProperty("file").GetString())
        let found = DroneFigures.Of(ParameterFile.Read(Path.Combine(folder, file)))

        // The index rounds to six digits; the thrusts of the mrs lost more in its file.
        for name, value in
            [
                "mass", found.Mass
                "arm_length", found.ArmLength
                "thrust_to_weight", found.ThrustToWeight
                "torque_to_inertia", found.TorqueToInertia
                "rotor_torque_constant", found.RotorTorqueConstant
                "time_constant_rising", found.TimeConstantRising
                "time_constant_falling", found.TimeConstantFalling
                "disturbance_force_std", found.DisturbanceForceStd
            ] do
            Expect.close (1e-6 + 2e-5 * abs (number name)) value (number name) $"{name} of {file}"

[<Fact>]
let ``from the numbers that were drawn for it, each published drone is made field by field`` () =
    Expect.equal golden.Count 40 "files"
    let crazyflie = DroneFigures.Of(Airframes.Get "crazyflie")

    for drone in golden do
        let f = DroneFigures.Of drone

        let made =
            DroneSampling()
                .Assemble(
                    DroneSampling.Draws(
                        f.ThrustToWeight,
                        f.Mass,
                        crazyflie.MassToSize / f.MassToSize,
                        f.TorqueToInertia,
                        f.RotorTorqueConstant,
                        f.TimeConstantRising,
                        f.TimeConstantFalling,
                        f.DisturbanceForceStd
                    )
                )

        // Files have six decimals, and the figures carry their rounding on.
        Array.iteri2
            (fun i ours theirs ->
                Expect.close (2e-6 + 2e-4 * abs theirs) ours theirs $"number {i} of {drone.Name}")
            (content made)
            (content drone)

        for rotor in 0..3 do
            Expect.equal
                made.Dynamics.RotorTorqueDirections[rotor]
                drone.Dynamics.RotorTorqueDirections[rotor]
                "turning sense"

        // What a drone does not have of its own.
        Expect.equal made.Mdp.Reward drone.Mdp.Reward "reward"
        Expect.equal made.DomainRandomization drone.DomainRandomization "ranges"
        Expect.equal made.Trajectory.Langevin drone.Trajectory.Langevin "references"

        for name, share in uniforms do
            Expect.isTrue
                (share f >= -1e-4 && share f <= 1.0001)
                $"{name} of {drone.Name} is out of its range"

[<Fact>]
let ``quantiles are those of a thousand drones of rl-tools' sampler`` () =
    let published: (string * (DroneFigures -> float) * (float * float * float)) list =
        [
            "thrust to weight", _.ThrustToWeight, (1.705, 3.320, 4.835)
            "mass", _.Mass, (0.0446, 1.010, 4.482)
            "arm length", _.ArmLength, (0.0411, 0.1151, 0.1967)
            "torque to inertia", _.TorqueToInertia, (109.0, 624.0, 1143.0)
            "inertia", _.Inertia, (2.21e-5, 1.61e-3, 2.51e-2)
            "torque constant", _.RotorTorqueConstant, (0.00685, 0.0287, 0.0480)
            "rising", _.TimeConstantRising, (0.0333, 0.0647, 0.0966)
            "falling", _.TimeConstantFalling, (0.0452, 0.1696, 0.2876)
            "disturbance", _.DisturbanceToWeight, (0.0017, 0.0274, 0.1335)
            "mass to size", _.MassToSize, (7.39, 8.69, 10.03)
        ]

    // Four standard errors of a share in a thousand, which is what the published quantiles were taken from.
    for name, figure, (p5, p50, p95) in published do
        let values = Array.map figure many.Value
        Expect.close 0.029 (below p5 values) 0.05 $"5 %% quantile of {name}"
        Expect.close 0.065 (below p50 values) 0.50 $"median of {name}"
        Expect.close 0.029 (below p95 values) 0.95 $"95 %% quantile of {name}"

    let ratio = many.Value |> Array.map _.MassToSize
    let mean = Array.average ratio
    Expect.close 0.1 mean 8.69 "mean of mass to size"
    Expect.close 0.07 (sqrt (ratio |> Array.averageBy (fun r -> (r - mean) ** 2.0))) 0.78 "its deviation"

[<Fact>]
let ``what is drawn fills its range evenly, and one quantity does not tell another`` () =
    let n = float many.Value.Length

    let drawn =
        uniforms |> List.map (fun (name, share) -> name, Array.map share many.Value)

    let drawn = ("size", many.Value |> Array.map _.MassToSize) :: drawn

    for name, values in List.tail drawn do
        let sorted = Array.sort values
        Expect.isTrue (sorted[0] > -1e-6 && Array.last sorted < 1.000001) $"{name} leaves its range"

        // Kolmogorov and Smirnov: above with a probability of 0.0003.
        let distance =
            sorted
            |> Array.mapi (fun i v -> max (abs (v - float i / n)) (abs (v - float (i + 1) / n)))
            |> Array.max

        Expect.isTrue (distance < 2.1 / sqrt n) $"{name} is not uniform: distance {distance}"

    for i, (a, x) in List.indexed drawn do
        for b, y in List.take i drawn do
            Expect.isTrue (abs (correlation x y) < 4.5 / sqrt n) $"{a} tells {b}: {correlation x y}"

[<Fact>]
let ``a drone is the same however many are drawn, and another with another seed`` () =
    let draw number seed =
        DroneSampling(Number = number, Seed = seed).Draw() |> Seq.map content |> List.ofSeq

    Expect.equal (draw 7 3UL) (List.take 7 (draw 50 3UL)) "the first seven"
    Expect.isTrue (List.forall2 (<>) (draw 7 3UL) (draw 7 4UL)) "another seed gives a drone again"
    Expect.equal (draw 50 3UL |> List.distinct |> List.length) 50 "different drones"

[<Fact>]
let ``the paper's drones are longer, hold more inertia and are disturbed whatever their weight`` () =
    let pairs =
        let draw procedure =
            DroneSampling(Number = 50, Procedure = procedure).Draw()

        Seq.zip (draw SamplingProcedure.Code) (draw SamplingProcedure.Paper)

    for code, paper in pairs do
        let c, p = DroneFigures.Of code, DroneFigures.Of paper
        let relative = 1e-9
        Expect.close (relative * c.Mass) p.Mass c.Mass "mass"
        Expect.close (relative * c.ThrustToWeight) p.ThrustToWeight c.ThrustToWeight "thrust"
        // The one multiplies the Crazyflie's arm by the deviation, the other divides by it.
        let crazyflie = (DroneFigures.Of(Airframes.Get "crazyflie")).MassToSize
        Expect.close (1e-9 * crazyflie) (p.MassToSize * c.MassToSize / crazyflie) crazyflie "arm"
        // The paper's ratio counts four rotors, each at sqrt(2) of the arm.
        Expect.close 1e-6 (p.TorqueToInertia * 4.0 * sqrt 2.0) c.TorqueToInertia "torque to inertia"
        Expect.close (1e-9 * p.Inertia) (paper.Dynamics.J[1][1]) p.Inertia "about y"
        Expect.close (1e-9 * p.Inertia) (paper.Dynamics.J[2][2]) (1.832 * p.Inertia) "about z"

        Expect.close
            (1e-9 * c.DisturbanceForceStd)
            (p.DisturbanceForceStd * c.ThrustToWeight * c.Mass)
            c.DisturbanceForceStd
            "disturbance"

let private inTemporaryFolder (action: string -> unit) =
    let folder = Directory.CreateTempSubdirectory("distill-drones-").FullName

    try
        action folder
    finally
        Directory.Delete(folder, true)

let private refused (mention: string list) (action: unit -> unit) =
    let message = (Expect.throws<DistillException> action).Message

    for part in mention do
        Expect.isTrue (message.Contains part) $"'{part}' is not in: {message}"

    Expect.isTrue (not (message.Contains '\n')) $"more than one line: {message}"

[<Fact>]
let ``a folder of drones is read back with every digit and in order, and takes no others`` () =
    inTemporaryFolder (fun temporary ->
        let folder = Path.Combine(temporary, "drones")
        let drones = DroneSampling(Number = 12, Seed = 9UL).Draw()
        ParameterFile.WriteFolder(folder, drones)
        // Again is no offence.
        ParameterFile.WriteFolder(folder, drones)
        let back = ParameterFile.ReadFolder folder
        Expect.equal [ for drone in back -> drone.Name ] [ for i in 0..11 -> $"{i:D5}" ] "names"

        for ours, theirs in Seq.zip back drones do
            Expect.equal (content ours) (content theirs) $"content of {theirs.Name}"

        refused [ "00011.json"; "none of these drones" ] (fun () ->
            ParameterFile.WriteFolder(folder, DroneSampling(Number = 11).Draw()))

        refused [ "two have the same name" ] (fun () ->
            ParameterFile.WriteFolder(folder, [| drones[0]; drones[0] |]))

        refused [ "file.json"; "Cannot write" ] (fun () ->
            File.WriteAllText(Path.Combine(temporary, "file.json"), "")
            ParameterFile.WriteFolder(Path.Combine(temporary, "file.json", "inside"), drones)))

[<Fact>]
let ``a file's J and its inverse are both kept as they are`` () =
    inTemporaryFolder (fun temporary ->
        let smallest = golden |> Seq.minBy _.Dynamics.Mass
        let product = smallest.Dynamics.J[0][0] * smallest.Dynamics.JInv[0][0]
        Expect.isTrue (abs (product - 1.0) > 1e-3) "the file's J is not rounded"
        ParameterFile.WriteFolder(temporary, [| smallest |])
        let back = (ParameterFile.ReadFolder temporary)[0]
        Expect.equal back.Dynamics.J smallest.Dynamics.J "J"
        Expect.equal back.Dynamics.JInv smallest.Dynamics.JInv "J_inv")

[<Fact>]
let ``samplings without sense are refused by field`` () =
    let published = DomainRandomization.Published

    let ranges low high =
        DomainRandomization(
            ThrustToWeightMin = low,
            ThrustToWeightMax = high,
            TorqueToInertiaMin = published.TorqueToInertiaMin,
            TorqueToInertiaMax = published.TorqueToInertiaMax
        )

    let draw (sampling: DroneSampling) () = sampling.Draw() |> ignore
    refused [ "sampled.number is 0" ] (draw (DroneSampling(Number = 0)))
    refused [ "sampled.number is 100001" ] (draw (DroneSampling(Number = 100_001)))
    refused [ "sampled.procedure is 7"; "Code, Paper" ] (draw (DroneSampling(Procedure = enum 7)))
    refused [ "thrust_to_weight from 0.5 to 5" ] (draw (DroneSampling(Ranges = ranges 0.5 5.0)))
    refused [ "thrust_to_weight from 3 to 2" ] (draw (DroneSampling(Ranges = ranges 3.0 2.0)))
    refused [ "thrust_to_weight from NaN" ] (draw (DroneSampling(Ranges = ranges nan 2.0)))
    refused [ "mass from 0 to 0" ] (draw (DroneSampling(Ranges = ranges 1.5 5.0)))
    // From the configuration, too.
    refused [ "sampled.number is -1" ] (fun () ->
        (new QuadrotorEnvironment(QuadrotorConfig(Sampled = DroneSampling(Number = -1)), 1UL)).Dispose())

[<Fact>]
let ``environments fly sampled drones in place of those that are named`` () =
    let config =
        QuadrotorConfig(Envs = 96, Drones = [| "crazyflie" |], Sampled = DroneSampling(Number = 40))

    use env = new QuadrotorEnvironment(config, 1UL)
    Expect.equal env.Drones.Count 40 "drones"
    Expect.equal (List.ofSeq env.Assignment) [ for i in 0..95 -> i % 40 ] "assignment"

    Expect.equal
        (content env.Drones[39] |> Array.head)
        (DroneSampling(Number = 40).Draw()[39]).Dynamics.Mass
        "drone"

    let random = Random 3

    for _ in 1..200 do
        let outcome =
            step
                env
                (Array.init (panels env * 32) (fun _ ->
                    Array.init 4 (fun _ -> 2.0 * random.NextDouble() - 1.0)))

        Expect.isTrue (Array.forall Double.IsFinite outcome.Reward) "a reward is not finite"

    Expect.isTrue
        (observe env "teacher" |> Array.forall (Array.forall Double.IsFinite))
        "an observation is not finite"

[<Fact>]
let ``agility is drawn by order of magnitude where that is asked for, and nothing else changes`` () =
    let uniform = DroneSampling(Number = 4000, Seed = 5UL)

    let log =
        DroneSampling(Number = 4000, Seed = 5UL, TorqueToInertia = Spread.LogUniform)

    let logs =
        figures log |> Array.map (fun f -> (Math.Log(f.TorqueToInertia / 40.0)) / Math.Log 30.0)

    for share in [ 0.1; 0.25; 0.5; 0.75; 0.9 ] do
        Expect.close 0.025 (below share logs) share $"share below {share}"

    Expect.closeAll
        1e-12
        [| for f in figures log -> f.Mass + f.ThrustToWeight + f.TimeConstantFalling |]
        [| for f in figures uniform -> f.Mass + f.ThrustToWeight + f.TimeConstantFalling |]
        "what else is drawn"

    let error =
        Expect.throws<DistillException>(fun () -> DroneSampling(TorqueToInertia = enum 7).Draw() |> ignore)

    Expect.equal
        error.Message
        "Quadrotor sampled.torque_to_inertia is 7; it must be one of: Uniform, LogUniform."
        "sentence"
