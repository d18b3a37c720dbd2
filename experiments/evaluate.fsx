// How good is a policy, drone by drone? Mean return, length and share terminated, as a table and as CSV.
// dotnet fsi build.fsx run experiments/evaluate.fsx policy=FILE drones=[crazyflie,x500_real] episodes=100
// Drones are named airframes, parameter files in rl-tools' JSON form, and folders of such files.
#load "../Distill.Scripts/load.fsx"

open Distill
open Distill.Environments.Quadrotor

// Each episode is either position hold or a random path; episodes start as in RAPTOR's distillation.
{ Evaluate.defaults with
    Policy = "assets/teachers/crazyflie.safetensors"
    Environment = QuadrotorConfig(Drones = [| "crazyflie" |], Task = QuadrotorTask.Mixture)
    Csv = "logs/evaluation.csv"
}
|> Run.evaluate
