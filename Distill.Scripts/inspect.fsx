// Says what a file holds: a policy, a trajectory encoder, or the episodes that one is trained on.
// dotnet fsi build.fsx inspect FILE
#load "load.fsx"

Distill.Run.inspect ()
