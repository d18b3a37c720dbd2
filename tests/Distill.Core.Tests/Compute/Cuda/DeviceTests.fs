module Distill.Tests.CudaDeviceTests

open System
open System.IO
open System.Text.RegularExpressions
open Distill
open Distill.Compute.Cuda
open Distill.Tests.CudaDriver
open Xunit

let private sentence (work: unit -> unit) =
    (Expect.throws<DistillException> work).Message

let private opened () = (device ()).Dispose()

[<EmulatorFact>]
let ``what cannot be used is said in a sentence`` () =
    opened ()

    let said what value usual =
        emulating what value usual (fun () -> sentence opened)

    Expect.equal
        (said "version" 10020L 12000L)
        "NVIDIA's driver is for CUDA 10.2, and Distill needs one for 11.0 or newer; update it, or use device=cpu."
        "an old driver"

    Expect.equal
        (said "capability" 61L 70L)
        "The GPU emulated device has compute capability 6.1, and Distill needs 7.0 or newer; use device=cpu."
        "an old GPU"

    Expect.equal
        (sentence (fun () -> (new CudaDevice(3)).Dispose()))
        "There is no GPU 3: this machine has 1, counted from 0."
        "a GPU that is not there"

    let driver = Environment.GetEnvironmentVariable CudaCalls.Variable
    Environment.SetEnvironmentVariable(CudaCalls.Variable, "/nowhere/libcuda.so")

    try
        Expect.isTrue (not CudaDevice.IsAvailable) "no driver"

        Expect.equal
            (sentence opened)
            "device=cuda needs NVIDIA's driver, and there is none on this machine (libcuda.so.1); install it, or use device=cpu."
            "no driver"
    finally
        Environment.SetEnvironmentVariable(CudaCalls.Variable, driver)

[<EmulatorFact>]
let ``memory that is not enough is said in a sentence, and what there is can be used`` () =
    use device = device ()

    emulating "memory" (1L <<< 20) (8L <<< 30) (fun () ->
        Expect.equal
            (sentence (fun () -> (new CudaBuffer<float32>(device, 1L <<< 20, "the dataset")).Dispose()))
            "The GPU's memory is not enough for the dataset (4 MiB); lower envs, max_buffer_size or mini_batch_size (of PPO envs or steps_per_env)."
            "too much"

        use enough = new CudaBuffer<float32>(device, 1L <<< 17, "the dataset")
        let struct (free, total) = device.Memory
        Expect.equal (free, total) (1L <<< 19, 1L <<< 20) "memory")

[<CudaFact>]
let ``a buffer begins with zeros and keeps what is written`` () =
    use device = device ()
    use buffer = new CudaBuffer<int>(device, 1000L, "numbers")
    let numbers = Array.create 1000 1
    buffer.Read(Span numbers)
    Expect.equal numbers (Array.zeroCreate 1000) "zeros"
    buffer.Write(ReadOnlySpan [| 3; 4; 5 |], 10L)
    buffer.Read(Span numbers)
    Expect.equal numbers[9..13] [| 0; 3; 4; 5; 0 |] "written"
    Expect.equal device.BusBytes (4000L + 12L + 4000L) "bytes over the bus"

    Expect.throws<ArgumentOutOfRangeException>(fun () -> buffer.Write(ReadOnlySpan [| 1; 2 |], 999L))
    |> ignore

/// The argument of sum_gradients.
[<Struct>]
type private SumArguments = { Gradients: nativeint; Length: int64; Chunks: int }

/// Adds the second half of a buffer to the first.
let private add (device: CudaDevice) (buffer: CudaBuffer<float32>) =
    let arguments =
        { Gradients = buffer.Address; Length = buffer.Length / 2L; Chunks = 2 }

    device.Kernel<SumArguments>("sum_gradients").Start(&arguments, arguments.Length)

let private read (buffer: CudaBuffer<float32>) =
    let numbers = Array.zeroCreate<float32>(int buffer.Length)
    buffer.Read(Span numbers)
    numbers

[<CudaFact>]
let ``a graph is one launch, and works on what is in memory then`` () =
    use device = device ()
    use buffer = new CudaBuffer<float32>(device, 4L, "numbers")
    use other = new CudaBuffer<float32>(device, 1L, "numbers")
    let numbers = [| 1f; 2f; 10f; 20f |]
    buffer.Write(ReadOnlySpan numbers)
    other.Write(ReadOnlySpan [| 7f |])
    let before = device.Launches

    use graph =
        new CudaGraph(
            device,
            fun () ->
                add device buffer
                other.Clear()
                add device buffer
        )

    Expect.equal (read buffer, read other) (numbers, [| 7f |]) "what is taken down is not done"
    Expect.equal device.Launches before "launches"
    graph.Start()
    Expect.equal (read buffer, read other) ([| 21f; 42f; 10f; 20f |], [| 0f |]) "once"
    buffer.Write(ReadOnlySpan [| 100f |], 2L)
    add device buffer
    graph.Start()
    Expect.equal (read buffer) [| 321f; 102f; 100f; 20f |] "again, after all that was started before"
    Expect.equal device.Launches (before + 3L) "launches"

[<EmulatorFact>]
let ``what a graph cannot have is refused, and leaves all as it was`` () =
    use device = device ()
    use buffer = new CudaBuffer<float32>(device, 4L, "numbers")

    let refused (work: unit -> unit) =
        sentence (fun () -> (new CudaGraph(device, work)).Dispose())

    refused (fun () -> (new CudaBuffer<float32>(device, 4L, "numbers")).Dispose())
    |> Storage.contains "operation not permitted when stream is capturing"

    refused (fun () -> raise (DistillException "No.")) |> Storage.contains "No."
    buffer.Write(ReadOnlySpan [| 1f; 2f; 3f; 4f |])
    add device buffer
    Expect.equal (read buffer) [| 4f; 6f; 3f; 4f |] "started at once"

[<Tools.GxxFact>]
let ``the emulator catches what goes wrong on a GPU`` () =
    let folder = Directory.CreateTempSubdirectory("distill-faults-").FullName

    try
        let program = Path.Combine(folder, "faults")
        compile program [] [ "driver.cpp"; "faults.cpp" ]

        // What several orders of threads give, without what is written beside it.
        let run (fault: string) =
            (Tools.succeedIn folder program [ fault ]).Split '\n'
            |> Array.filter (fun line -> line <> "" && not (line.StartsWith "CUDA emulator"))
            |> Array.toList

        let right = List.replicate 4 "2080 6176 10272"
        Expect.equal (run "right") right "the right kernel"
        Expect.equal (run "warp sum") right "a sum within warps"

        for fault in [ "past the end"; "before the start"; "some do not come" ] do
            Expect.equal (run fault) (List.replicate 4 "caught") fault

        for wrong in run "no barrier" do
            Expect.isTrue (wrong.Contains "nan") $"without barriers the sums are {wrong}"

        Expect.isTrue
            ((List.distinct (run "race")).Length > 1)
            "a race gives the same sums in every order of threads"
    finally
        Directory.Delete(folder, true)

/// What a kernel's header calls rows of this kind.
let private rows (kind: string) =
    let header = File.ReadAllText(Path.Combine(kernels, "quadrotor.cuh"))

    let body =
        Regex.Match(header, $@"struct {kind} \{{\s*enum : int \{{([^}}]*)\}}").Groups[1].Value

    [ for row in Regex.Matches(body, @"(\w+) = (\d+)") -> row.Groups[1].Value, int row.Groups[2].Value ]

[<Fact>]
let ``the kernels know the rows of a quadrotor by their names`` () =
    let ours (kind: Type) (total: int) =
        [
            for value in Enum.GetValues kind |> Seq.cast<obj> do
                yield string value, Convert.ToInt32 value

            yield "Total", total
        ]

    Expect.equal
        (rows "QuadrotorField")
        (ours
            typeof<Distill.Environments.Quadrotor.QuadrotorField>
            Distill.Environments.Quadrotor.QuadrotorFields.Total)
        "fields"

    Expect.equal
        (rows "QuadrotorConstant")
        (ours
            typeof<Distill.Environments.Quadrotor.QuadrotorConstant>
            Distill.Environments.Quadrotor.QuadrotorConstants.Total)
        "constants"

[<ClangFact>]
let ``the kernels in the repository are what their sources make`` () =
    let folder = Directory.CreateTempSubdirectory("distill-ptx-").FullName

    try
        let made = Path.Combine(folder, "kernels.ptx")

        Tools.succeedIn kernels "clang++-19" [ "@flags"; "kernels.cu"; "-o"; made ] |> ignore

        if File.ReadAllText made <> CudaDevice.ReadKernels() then
            failwith "cuda/kernels.ptx.gz is old; `dotnet fsi build.fsx ptx` makes it anew."
    finally
        Directory.Delete(folder, true)
