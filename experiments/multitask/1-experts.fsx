// Makes an expert for each task by SAC, side by side, each on one core, and keeps their critics. It goes on where it was stopped.
// dotnet fsi build.fsx run experiments/multitask/1-experts.fsx [environment.tasks=[reach]] [variant_iterations=[100]]
#load "../../Distill.Scripts/load.fsx"

open System
open Distill
open Distill.Algorithms
open Distill.Environments.Manipulation

let training =
    { TrainTeacher.single with
        Environment =
            Manipulation.tasks
                [ ManipulationTask.Reach; ManipulationTask.Push; ManipulationTask.PickPlace ]
                { envs = 32 }
            // A scripted expert needs 71 steps at most; the shorter the episodes, the more goals there are in as many steps.
            |> Settings.set <@ _.EpisodeLimit @> 100
        BestBy = "success"
        SaveInterval = 20
        EvaluationInterval = 10
        EvaluationEpisodes = 96
        FinalEpisodes = 100
    }

Run.trainTeachers
    { TrainTeachers.defaults with
        Set = "logs/multitask/experts"
        MinMeasure = Nullable 0.95
        // In about thousands of steps.
        VariantIterations = [ 100; 900; 2400 ]
        KeepCritics = true
    }
    training
    // Reach is held best with so short a view; see docs/manipulation.md.
    (SacConfig.Manipulation
     |> Settings.set <@ _.Gamma @> (Schedule.constant 0.8)
     |> Reinforcement.sac Teacher.none)
