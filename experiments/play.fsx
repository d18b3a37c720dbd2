// Flies a policy on a task and says how well it tracks: statistics, trajectories as .npz, figures.
// dotnet fsi build.fsx run experiments/play.fsx policy=latest
// Tasks: task=position, task=langevin, task=figure_eight. Other drones: drones=[x500_real]
// Hands at a table: environment=manipulation policy=expert tasks=[pick_place,drawer_open] episode_limit=400
#load "../Distill.Scripts/load.fsx"

open Distill
open Distill.Environments.Quadrotor

// 20 seconds of a figure of eight.
{ Play.defaults with
    Policy = "assets/teachers/crazyflie.safetensors"
    Environment = QuadrotorConfig(Task = QuadrotorTask.FigureEight, EpisodeLimit = 2000)
    Output = "logs/play"
}
|> Run.play
