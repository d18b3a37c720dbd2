// Writes a policy for machines that have no Distill.
// dotnet fsi build.fsx export FILE --to onnx|c|pt [--out PATH]
#load "load.fsx"

Distill.Run.export ()
