// Removes the states of the finished runs below a folder.
// dotnet fsi build.fsx clean runs [LOGS]
#load "load.fsx"

Distill.Run.clean ()
