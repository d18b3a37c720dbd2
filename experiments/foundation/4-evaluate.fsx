// Puts a foundation policy through its flight tests on a thousand drones that it never saw and on named airframes, and writes
// a page about them. With beside=FILE another policy flies the same episodes.
// dotnet fsi build.fsx run experiments/foundation/4-evaluate.fsx policy=FILE
#load "../../Distill.Scripts/load.fsx"

open Distill

Run.flightTests
    { FlightTests.defaults with
        Environment =
            Quadrotor.mixture { envs = 1 }
            |> Quadrotor.flying (Drones.sample { number = 1000; seed = 1_000_000 })
        Output = "logs/foundation/flight-tests"
    }
