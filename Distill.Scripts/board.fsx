// Writes the page that lists all runs.
// dotnet fsi build.fsx board [LOGS]
#load "load.fsx"

Distill.Run.board ()
