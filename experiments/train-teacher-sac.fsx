// Trains a teacher from scratch by SAC with the settings of RAPTOR's teachers: one quadrotor, a million steps, an update after each.
// A tenth of them (iterations=100) is enough for a good one.
#load "../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms

let training =
    { TrainTeacher.single with
        Name = "train-teacher-sac"
        Environment = Quadrotor.mixture { envs = 1 }
        EvaluationInterval = 10
        EvaluationEpisodes = 100
    }

Run.sac training SacConfig.Raptor
