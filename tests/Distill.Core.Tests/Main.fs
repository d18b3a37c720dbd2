/// Runs tests without a .NET SDK: `Distill.Core.Tests PART ...` runs those whose full name contains one of the parts, as
/// benchmarks/gpu does where a GPU is.
module Distill.Tests.Main

open System
open System.Collections.Generic
open System.Reflection
open System.Threading
open Xunit
open Xunit.Abstractions
open Xunit.Sdk

/// Settings of discovery and of execution: what is not set is as xunit has it.
type private Options() =
    let values = Dictionary<string, obj | null>()

    interface ITestFrameworkOptions with
        member _.GetValue<'T> name =
            match values.TryGetValue name with
            | true, value -> unbox<'T> value
            | _ -> Unchecked.defaultof<'T>

        member _.SetValue<'T>(name, value: 'T) = values[name] <- box value

    interface ITestFrameworkDiscoveryOptions
    interface ITestFrameworkExecutionOptions

/// Hears of each test until all is said.
type private Listener(hear: IMessageSinkMessage -> unit) =
    inherit LongLivedMarshalByRefObject()
    let finished = new ManualResetEventSlim()
    member _.Wait() = finished.Wait()

    interface IMessageSink with
        member _.OnMessage message =
            lock finished (fun () -> hear message)

            match message with
            | :? IDiscoveryCompleteMessage
            | :? ITestAssemblyFinished -> finished.Set()
            | _ -> ()

            true

[<EntryPoint>]
let main parts =
    let chosen (test: ITestCase) =
        parts |> Array.exists (fun part -> test.DisplayName.Contains(part, StringComparison.Ordinal))

    let mutable passed, skipped, failed = 0, 0, 0

    let report (message: IMessageSinkMessage) =
        match message with
        | :? ITestPassed as test ->
            passed <- passed + 1
            printfn $"passed   {test.Test.DisplayName} ({test.ExecutionTime:F1} s)"
        | :? ITestSkipped as test ->
            skipped <- skipped + 1
            printfn $"skipped  {test.Test.DisplayName}: {test.Reason}"
        | :? ITestFailed as test ->
            failed <- failed + 1
            printfn $"FAILED   {test.Test.DisplayName}"

            for trouble in test.Messages do
                printfn $"         {trouble}"

            for trace in test.StackTraces do
                printfn $"{trace}"
        | _ -> ()

    let assembly = Assembly.GetExecutingAssembly()
    use framework = new XunitTestFramework(new Listener(ignore))
    use discoverer = framework.GetDiscoverer(Reflector.Wrap assembly)
    let tests = List<ITestCase>()

    let discovery =
        Listener(fun message ->
            match message with
            | :? ITestCaseDiscoveryMessage as found when chosen found.TestCase -> tests.Add found.TestCase
            | _ -> ())

    discoverer.Find(false, discovery, Options())
    discovery.Wait()

    if tests.Count = 0 then
        let given = String.Join(" or ", parts)
        printfn $"No test's name contains {given}. Called so: Distill.Core.Tests PART ..."
        2
    else
        let running = Listener report
        use executor = framework.GetExecutor(assembly.GetName())
        executor.RunTests(tests, running, Options())
        running.Wait()
        printfn $"{passed} passed, {failed} failed, {skipped} skipped"
        if failed > 0 then 1 else 0
