// Writes the report of a run or of a sweep anew.
// dotnet fsi build.fsx report FOLDER
#load "load.fsx"

Distill.Run.report ()
