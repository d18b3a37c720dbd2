// Writes the replay of a run's recorded flights anew.
// dotnet fsi build.fsx replay RUN_FOLDER [--video]
#load "load.fsx"

Distill.Run.replay ()
