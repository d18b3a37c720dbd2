// Trains the trajectory encoder on the episodes of 2-trajectories.fsx, and measures on held-out episodes what it knows of their tasks.
// dotnet fsi build.fsx run experiments/multitask/3-encoder.fsx [name=value ...]    resume=RUN_FOLDER goes on.
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms

Run.encoder
    { TrainEncoder.defaults with
        Name = "multitask"
        RunName = "encoder"
        Trajectories = "logs/multitask/trajectories.safetensors"
        SaveTo = "logs/multitask/encoder.safetensors"
    }
    (TrajectoryEncodingConfig())
