namespace Distill

open System.IO
open Distill.Policies

/// Policies for machines that have no Distill.
module Export =
    /// Writes the policy of a file as what the ending of the other says: `.onnx`, `.h` for C, or `.pt` with the Python that
    /// runs it beside it. All give the deterministic action and say what its numbers are; docs/export.md.
    let policy (file: string) (target: string) : unit =
        PolicyExport.Check target

        if Path.GetFullPath file = Path.GetFullPath target then
            fail $"The export would replace {file} itself; give it another name."

        use policy = PolicyFile.Load file
        Training.makeFolderOf target
        PolicyExport.Save(target, policy)

    /// Where `export` writes a policy unless told otherwise: beside the file, but not among its like.
    let internal placeOf (file: string) (kind: string) : string =
        let folder = Path.GetDirectoryName(Path.GetFullPath file) |> string

        Path.Combine(
            folder,
            "exported",
            $"{Path.GetFileNameWithoutExtension file}{PolicyExport.EndingOf kind}"
        )
