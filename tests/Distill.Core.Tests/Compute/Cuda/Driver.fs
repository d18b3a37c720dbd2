/// The driver that the tests of the GPU use: NVIDIA's where there is one, else the emulated one, which g++ makes of tests/cuda-emulator
/// and the sources of the kernels.
module Distill.Tests.CudaDriver

open System
open System.IO
open System.Runtime.InteropServices
open Distill.Compute.Cuda
open Xunit


/// The sources of the kernels.
let kernels = Path.Combine(NativeLibraries.root, "cuda")

/// The folder of the emulator's sources.
let emulator = Path.Combine(NativeLibraries.root, "tests", "cuda-emulator")

/// Whether there is a GPU to run on.
let real =
    lazy
        (let mutable handle = 0n
         NativeLibrary.TryLoad("libcuda.so.1", &handle))

/// Compiles sources of the emulator's folder, with these beside.
let compile (target: string) (flags: string list) (sources: string list) =
    let common =
        [
            "-std=c++20"
            "-O2"
            "-ffp-contract=off"
            "-fvisibility=hidden"
            "-Wall"
            "-Werror"
            "-Wno-unknown-pragmas"
            "-I"
            emulator
            if RuntimeInformation.ProcessArchitecture = Architecture.X64 then
                "-mfma"
        ]

    Tools.succeedIn emulator "g++" (common @ flags @ sources @ [ "-o"; target ]) |> ignore

let private library =
    lazy
        (let folder = Directory.CreateTempSubdirectory("distill-cuda-").FullName
         AppDomain.CurrentDomain.ProcessExit.Add(fun _ -> Directory.Delete(folder, true))
         let path = Path.Combine(folder, "libcuda.so")
         compile path [ "-shared"; "-fPIC" ] [ "driver.cpp"; "kernels.cpp" ]
         Environment.SetEnvironmentVariable(CudaCalls.Variable, path)
         NativeLibrary.Load path)

[<UnmanagedFunctionPointer(CallingConvention.Cdecl)>]
type private Emulate = delegate of string * unativeint -> int

/// Sets what the emulated machine has.
let emulate (what: string) (value: int64) =
    let call =
        Marshal.GetDelegateForFunctionPointer<Emulate>(NativeLibrary.GetExport(library.Value, "emulate"))

    Expect.equal (call.Invoke(what, unativeint value)) 0 $"the emulator knows {what}"

/// Does something while the emulated machine has something else.
let emulating (what: string) (value: int64) (usual: int64) (work: unit -> 'T) =
    emulate what value

    try
        work ()
    finally
        emulate what usual

/// Opens the device.
let device () =
    if not real.Value then
        library.Force() |> ignore

    new CudaDevice()

/// A test of what runs on a GPU, real or emulated.
type CudaFactAttribute() =
    inherit Tools.ToolFactAttribute(real.Value || Tools.gxx.Value, "g++, which makes the emulated GPU", "g++")

/// A test that needs the emulated one.
type EmulatorFactAttribute() as this =
    inherit Tools.ToolFactAttribute(Tools.gxx.Value, "g++, which makes the emulated GPU", "g++")

    do
        if real.Value then
            this.Skip <- "This test needs the emulated GPU, and this machine has a real one."

/// A test that compiles the kernels for GPUs.
type ClangFactAttribute() =
    inherit
        Tools.ToolFactAttribute(
            (Tools.startIn "" "clang++-19" [ "--version" ]).IsSome,
            "clang-19",
            "clang-19"
        )
