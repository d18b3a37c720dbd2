// Loads the libraries into a script or a notebook. Where one is missing, F# Interactive prints its own error after the
// name of this file, so the sentence that helps stands in that place. (Fantomas would drop the line: .fantomasignore.)
#I __SOURCE_DIRECTORY__
#line 1 "The libraries are not built, run: dotnet fsi build.fsx build "
#r "bin/Release/net10.0/Distill.Core.dll"
#r "bin/Release/net10.0/Distill.Scripts.dll"
#line 9 "load.fsx"
Distill.ChartLibrary.Show()
