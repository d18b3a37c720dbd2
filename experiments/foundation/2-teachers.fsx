// Makes a teacher for each of a thousand drones, side by side: the privileged teacher of from-nothing.fsx, and its critic, go on
// by PPO with each drone alone. It goes on where it was stopped; `sweep worker=0,1,2,3 --on=slurm` shares the work.
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms

let privileged (file: string) =
    Student.load $"logs/foundation/teacher/checkpoints/{file}.safetensors"
    |> Student.reading "privileged"

let training =
    { TrainTeacher.defaults with
        Environment =
            Quadrotor.mixture { envs = 512 } |> Quadrotor.flying (Drones.sample { number = 1000; seed = 0 })
        EvaluationInterval = 20
        FinalEpisodes = 100
    }

Run.trainTeachers
    { TrainTeachers.defaults with
        Set = "logs/foundation/teachers"
        Recipe = "fine-tuned"
        MinReturn = System.Nullable 300.0
    }
    training
    (PpoConfig.GoOn(privileged "best_teacher", privileged "critic", 80) |> Reinforcement.ppo Teacher.none)
