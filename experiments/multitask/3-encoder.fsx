// Trains the trajectory encoder on the episodes of 2-trajectories.fsx, and measures on held-out episodes what it knows of their tasks.
// As published, with a weight of 0.25 and a rate of 2e-4, errors of rewards from 0 to 10 drown the contrast: after 1,500 updates a probe
// found 91 % of the tasks once ten steps were seen; so it found all after 500.
// dotnet fsi build.fsx run experiments/multitask/3-encoder.fsx [name=value ...]    resume=RUN_FOLDER goes on.
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms
open Distill.Networks

Run.encoder
    { TrainEncoder.defaults with
        Name = "multitask"
        RunName = "encoder"
        Trajectories = "logs/multitask/trajectories.safetensors"
        SaveTo = "logs/multitask/encoder.safetensors"
    }
    (TrajectoryEncodingConfig(
        Iterations = 25,
        UpdatesPerIteration = 100,
        ValidationBatches = 5,
        ContrastWeight = 4.0,
        Optimizer = AdamConfig(LearningRate = 1e-3, MaxGradNorm = 0)
    ))
