// Writes the report of a run anew.
// dotnet fsi build.fsx report RUN_FOLDER
#load "load.fsx"

Distill.Run.report ()
