// Says what a setting is.
// dotnet fsi build.fsx help SETTING
#load "load.fsx"

Distill.Run.help ()
