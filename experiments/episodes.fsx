// Distils in epochs of whole episodes: 100 a time, the teacher flying in the first half of the epochs, the student in the other.
// dotnet fsi build.fsx run experiments/episodes.fsx
// Change something:  dotnet fsi build.fsx run experiments/episodes.fsx n_epochs=40 epoch_teacher_forcing=20 num_episodes=50
#load "../Distill.Scripts/load.fsx"

open Distill

distillation {
    name "episodes"
    environment (Quadrotor.mixture { envs = 100 })
    teacher (Teacher.load "assets/teachers/crazyflie.safetensors")
    student (Student.gru { hidden = 16 } |> Student.reading "tracking")
    retain (Retain.latest 1_000_000)

    // Brings the regime's defaults: 100 epochs, 50 of them the teacher's, learning rate 1e-4, mini-batches of 256 sequences,
    // an evaluation after every epoch.
    collect (Collect.episodes 100)
    gradientLength 500
}
|> Run.distil
