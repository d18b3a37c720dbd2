/// Programs that some tests need, and facts that are skipped where they are not installed.
module Distill.Tests.Tools

open System.ComponentModel
open System.Diagnostics
open System.Runtime.InteropServices
open Xunit

/// Exit code and all that a program prints, run in the folder; None where it is not installed.
let startIn (folder: string) (program: string) (arguments: string list) : (int * string) option =
    try
        use running =
            Process.Start(
                ProcessStartInfo(
                    program,
                    arguments,
                    WorkingDirectory = folder,
                    RedirectStandardOutput = true,
                    RedirectStandardError = true
                )
            )
            |> nonNull

        let error = running.StandardError.ReadToEndAsync()
        let output = running.StandardOutput.ReadToEnd()
        running.WaitForExit()
        Some(running.ExitCode, output + error.Result)
    with :? Win32Exception ->
        None

/// What a program prints that must end well.
let succeedIn (folder: string) (program: string) (arguments: string list) : string =
    match startIn folder program arguments with
    | Some(0, output) -> output
    | outcome -> failwith $"{program} {arguments}: {outcome}"

/// A Python that has the modules.
let private pythonWith (modules: string) =
    lazy
        ([ "python3"; "/usr/bin/python3" ]
         |> List.tryFind (fun python ->
             match startIn "" python [ "-c"; $"import {modules}" ] with
             | Some(0, _) -> true
             | _ -> false))

let onnx = pythonWith "onnx, numpy"
let torch = pythonWith "torch, numpy"
let numpy = pythonWith "numpy"

[<AbstractClass>]
type ToolFactAttribute(installed: bool, tool: string, packages: string) as this =
    inherit FactAttribute()

    do
        if not installed then
            this.Skip <- $"This test needs {tool} (on Debian: apt-get install {packages})."

let private runs (program: string) =
    (startIn "" program [ "--version" ]).IsSome

let gcc = lazy (runs "gcc")
let gxx = lazy (runs "g++")

type GccFactAttribute() =
    inherit ToolFactAttribute(gcc.Value, "gcc", "gcc libc6-dev")

type GxxFactAttribute() =
    inherit ToolFactAttribute(gxx.Value, "g++", "g++")

type ArmFactAttribute() =
    inherit
        ToolFactAttribute(
            runs "arm-none-eabi-gcc",
            "arm-none-eabi-gcc",
            "gcc-arm-none-eabi libnewlib-arm-none-eabi"
        )

type OnnxFactAttribute() =
    inherit ToolFactAttribute(onnx.Value.IsSome, "Python's onnx", "python3-onnx")

type NumpyFactAttribute() =
    inherit ToolFactAttribute(numpy.Value.IsSome, "Python's numpy", "python3-numpy")

type TorchFactAttribute() =
    inherit ToolFactAttribute(torch.Value.IsSome, "Python's torch", "python3-torch")

let mujoco =
    lazy
        (let mutable handle = 0n
         NativeLibrary.TryLoad("libmujoco.so.2.2.2", &handle))

type MujocoFactAttribute() =
    inherit ToolFactAttribute(mujoco.Value, "MuJoCo 2.2.2", "libmujoco2.2.2")
