/// The benchmark of GPUs runs. How fast anything is, is no matter of a test.
module Distill.Tests.CudaBenchmarkTests

open System.IO
open Distill.Benchmarks
open Distill.Tests.CudaDriver
open Xunit

[<CudaFact>]
let ``the benchmark of GPUs measures its cases, and each kernel of them alone`` () =
    (device ()).Dispose()

    let settings =
        Settings(Threads = [ 1 ], Repetitions = 1, Seconds = 0.0, Quick = true, Root = NativeLibraries.root)

    use session = new Session(settings, TextWriter.Null)
    Gpu.Run session
    let cases = [ for result in session.Results -> result.Case ]
    Expect.equal (List.length (List.distinct cases)) cases.Length "each case once"
    Expect.isTrue (cases.Length >= 5) $"{cases}"

    for result in session.Results do
        Assert.Matches(@"^\d[\d,]* launches, [\d,]+ bytes over the bus$", result.Note)

    let table = Table.Markdown session.Kernels

    for case in cases do
        let kernels =
            [
                for kernel in session.Kernels do
                    if kernel.Case = case then
                        kernel
            ]

        Expect.isTrue (not kernels.IsEmpty) case
        Expect.close 1e-9 (kernels |> List.sumBy _.ShareOfTime) 1.0 $"{case}: shares of time"

        for kernel in kernels do
            Expect.isTrue (kernel.SecondsPerLaunch > 0.0 && kernel.Launches > 0L) kernel.Kernel
            Assert.Contains($"| {case} | {kernel.Kernel} | {kernel.Launches:N0} |", table)

    let share (part: string) (kernel: string) =
        session.Kernels |> Seq.find (fun found -> found.Case.Contains part && found.Kernel = kernel)

    Expect.isTrue ((share "in the loop" "panel_product").ShareOfFma > 0.0) "operations of a product"
    Expect.isTrue ((share "a pass" "gather_rows").ShareOfMemory > 0.0) "bytes of a gather"
