// Writes the page that lists all runs and sweeps.
// dotnet fsi build.fsx board [LOGS]
#load "load.fsx"

Distill.Run.board ()
