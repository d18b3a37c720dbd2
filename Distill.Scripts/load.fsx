// Loads the libraries into a script or a notebook. If F# Interactive does not find them:
// dotnet fsi build.fsx build
#r "bin/Release/net10.0/Distill.Core.dll"
#r "bin/Release/net10.0/Distill.Scripts.dll"
