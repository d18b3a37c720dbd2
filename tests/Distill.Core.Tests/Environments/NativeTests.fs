/// Environments in a shared library. The promises that all environments make are in ContractTests.
module Distill.Tests.NativeTests

open System
open System.IO
open System.Runtime.InteropServices
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Environments.Native
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationTestbed
open Distill.Tests.Tools
open Xunit

let private zeros rows : float32[] = Array.zeroCreate (rows * Panel.Width)

let private compileAs (compiler: string) (standard: string list) =
    Storage.inTemporaryFolder (fun folder ->
        for name in [ "pendulum"; "template" ] do
            let source = Path.Combine(NativeLibraries.folder, name + ".c")
            let library = Path.Combine(folder, name + ".so")

            succeedIn folder compiler (standard @ NativeLibraries.strict @ [ source; "-o"; library; "-lm" ])
            |> ignore)

[<GccFact>]
let ``example and template are strict C`` () = compileAs "gcc" [ "-std=c99" ]

[<GxxFact>]
let ``example and template are C++, too`` () = compileAs "g++" [ "-x"; "c++" ]


type private Draw = delegate of seed: uint64 * name: string * counters: uint32[] * numbers: float32[] -> unit

[<GccFact>]
let ``random numbers of the header are those of the house`` () =
    let library =
        NativeLibraries.compile
            "#include \"distill_environment.h\"\n\
             DISTILL_FUNCTION void draw(uint64_t seed, const char *name, uint32_t *x, float *numbers)\n\
             {\n\
                 distill_stream stream = distill_make_stream(seed, name);\n\
                 numbers[0] = distill_uniform(&stream, x[0], x[1], x[2], x[3]);\n\
                 numbers[1] = distill_normal(&stream, x[0], x[1], x[2], x[3]);\n\
                 distill_bits(&stream, x);\n\
             }\n"

    let handle = NativeLibrary.Load library

    let draw =
        Marshal.GetDelegateForFunctionPointer<Draw>(NativeLibrary.GetExport(handle, "draw"))

    let random = Random 3

    for i in 1..200 do
        let seed, name = uint64 (random.NextInt64()), $"stream {i}"
        let counters = Array.init 4 (fun _ -> uint32 (random.NextInt64 0x1_0000_0000L))
        let c = Array.copy counters
        let numbers = zeros 1
        let words = counters
        draw.Invoke(seed, name, words, numbers)
        let stream = RandomStream(seed, name)
        let struct (w0, w1, w2, w3) = stream.Bits(c[0], c[1], c[2], c[3])
        Expect.equal (List.ofArray words) [ w0; w1; w2; w3 ] "words"
        Expect.equal numbers[0] (stream.Uniform(c[0], c[1], c[2], c[3])) "uniform"
        Expect.close 1e-5 (float numbers[1]) (float (stream.Normal(c[0], c[1], c[2], c[3]))) "normal"

/// A walker on a plane that says of which environment, episode, step and place in its arrays each number is.
let private marking =
    """
#include <stdlib.h>
#include "distill_environment.h"
typedef struct { int32_t envs; int32_t *steps; uint32_t *episodes; } all;
static const distill_component one[] = { { "environment", 1 }, { NULL, 0 } };
static const distill_component three[] = { { "environment", 1 }, { "episode and step", 2 }, { NULL, 0 } };
static const distill_group groups[] = { { "one", one }, { "three", three }, { NULL, NULL } };
static const distill_measure measures_[] = { { "sum", "m", DISTILL_MAX, 1 }, { "lane", NULL, DISTILL_FINAL, 0 }, { NULL, NULL, 0, 0 } };
static const char *const variants[] = { "a", "b", "c", NULL };
static const distill_facts facts = { DISTILL_ENVIRONMENT_VERSION, 9, 0.5, "marking", groups, 2, 0, "pushes", measures_, variants, 0 };
const distill_facts *distill_describe(const char *options) { return *options == 'x' ? NULL : &facts; }
const char *distill_error(void) { return "x is no option"; }
void *distill_create(const char *options, int32_t envs, uint64_t seed)
{
    all *a = (all *)malloc(sizeof(all));
    (void)options;
    a->envs = envs;
    a->steps = (int32_t *)calloc((size_t)envs, 4);
    a->episodes = (uint32_t *)calloc((size_t)envs, 4);
    if (seed == 13)
        return NULL;
    return a;
}
void distill_destroy(void *s) { all *a = (all *)s; free(a->steps); free(a->episodes); free(a); }
void distill_reset(void *s, int32_t environment, uint32_t episode)
{
    all *a = (all *)s;
    a->steps[environment] = 0;
    a->episodes[environment] = episode;
}
void distill_observe(void *s, int32_t first, int32_t count, int32_t group, float *o)
{
    all *a = (all *)s;
    int32_t i;
    for (i = 0; i < count; i++) {
        *o++ = (float)(first + i < a->envs ? first + i : -1);
        if (group == 1) {
            *o++ = (float)a->episodes[first + i];
            *o++ = (float)a->steps[first + i];
        }
    }
}
void distill_step(void *s, int32_t first, int32_t count, const float *actions, float *reward, float *terminated, float *truncated, float *measures)
{
    all *a = (all *)s;
    int32_t i;
    for (i = 0; i < count; i++) {
        int32_t e = first + i;
        a->steps[e]++;
        reward[i] = actions[2 * i] + 100 * actions[2 * i + 1];
        terminated[i] = e % 3 == 0 && a->steps[e] == 4 ? 7.0f : 0.0f;
        truncated[i] = e % 3 == 1 && a->steps[e] == 5;
        if (measures != NULL) {
            measures[2 * i] = reward[i];
            measures[2 * i + 1] = (float)i;
        }
    }
}
"""

[<GccFact>]
let ``rows of a library and panels are the same numbers, and it sees no environment that is not there`` () =
    let config =
        NativeConfig(NativeLibraries.compile marking, Envs = 40) :> IEnvironmentConfig

    use environment = config.Create(40, 1UL)
    let spec = config.Spec
    Expect.equal (List.ofSeq spec.Variants) [ "a"; "b"; "c" ] "variants"
    Expect.equal [ for env in 0..4 -> environment.VariantOf env ] [ 0; 1; 2; 0; 1 ] "whose they are"
    Expect.equal (spec.Name, spec.EpisodeLimit, spec.StepSeconds, spec.Actions.Size) ("marking", 9, 0.5, 2) ""

    Expect.equal
        [ for m in spec.Measures -> m.Name, m.Unit, m.Over, m.HigherIsBetter ]
        [ "sum", "m", MeasureOver.Max, true; "lane", "", MeasureOver.Final, false ]
        "measures"

    Expect.equal
        [ for c in spec.Groups[1].Components -> c.Name, c.Size ]
        [ "environment", 1; "episode and step", 2 ]
        "components"

    // Steps after which the episodes of environment e end.
    let length e =
        match e % 3 with
        | 0 -> 4
        | 1 -> 5
        | _ -> 9

    for panel in 0..1 do
        environment.Reset panel
        let there = min 32 (40 - 32 * panel)

        for step in 1..20 do
            let actions =
                Array.init (2 * 32) (fun k -> float32 (k % 32) + (if k >= 32 then 0.5f else 0f))

            let reward, terminated, truncated, measures = zeros 1, zeros 1, zeros 1, zeros 2
            environment.Step(panel, actions, reward, terminated, truncated, measures)
            let one, three = Array.create 32 nanf, Array.create 96 nanf
            environment.Observe(panel, 0, one)
            environment.Observe(panel, 1, three)

            for lane in 0 .. there - 1 do
                let env = 32 * panel + lane
                let expected = float32 lane + 100f * (float32 lane + 0.5f)
                let ended = step % length env = 0
                Expect.equal reward[lane] expected "actions and rewards"
                Expect.equal (measures[lane], measures[32 + lane]) (expected, float32 lane) "measures"
                Expect.equal terminated[lane] (if ended && env % 3 = 0 then 1f else 0f) "terminated"
                Expect.equal truncated[lane] (if ended && env % 3 <> 0 then 1f else 0f) "truncated"
                Expect.equal one[lane] (float32 env) "one number"

                Expect.equal
                    (three[lane], three[32 + lane], three[64 + lane])
                    (float32 env, float32 (step / length env), float32 (step % length env))
                    "environment, episode, step"

            for lane in there..31 do
                Expect.equal three[lane] 0f "nobody"

            // Where nobody asks for measures the library is told.
            environment.Step(panel, actions, reward, terminated, truncated)
            environment.Reset panel

            for _ in 1..step do
                environment.Step(panel, actions, reward, terminated, truncated)

            environment.Rewind()
            environment.Reset panel

            for _ in 1..step do
                environment.Step(panel, actions, reward, terminated, truncated)

let private sentence (config: NativeConfig) =
    (Expect.throws<DistillException>(fun () ->
        (config :> IEnvironmentConfig).Spec |> ignore
        config.Create(config.Envs, 13UL).Dispose()))
        .Message

[<GccFact>]
let ``what is wrong with a library is said in a sentence`` () =
    let template edits =
        NativeConfig(NativeLibraries.compile (NativeLibraries.edited "template.c" edits))

    let textFile = Path.GetTempFileName()
    File.WriteAllText(textFile, "not a library")
    let marking = NativeConfig(NativeLibraries.compile marking)
    let group = "{ \"student\", state }"

    for config, said in
        [
            NativeConfig "", "library=FILE"
            NativeConfig "no/such/file.so", "There is no native library"
            NativeConfig textFile, "is no shared library for this machine"
            NativeConfig(NativeLibraries.compile "int distill_nothing;"), "has no function distill_describe"
            template [ "distill_observe", "observe" ], "has no function distill_observe"
            template [ "0,    /* bytes", "4,    /* bytes" ], "has no function distill_save"
            template [ "DISTILL_ENVIRONMENT_VERSION,", "7," ],
            "was built for version 7 of distill_environment.h, but this is version 1; build it anew"
            template [ "100,    /* steps", "0, /* steps" ], "episode_limit is 0; it must be between 1 and"
            template [ "0.1,    /* s", "-1, /* s" ], "step_seconds is -1; it must be above 0"
            template [ "\"mine\", /* name", "\"\", /* name" ], "name is empty"
            template [ "1, /* numbers", "0, /* numbers" ], "action_size is 0"
            template [ "0, /* 1 where", "2, /* 1 where" ], "action_is_discrete is 2"
            template [ "{ \"place, m\", 1 }", "{ \"place, m\", 0 }" ],
            "size of 'place, m' in the group 'teacher' is 0"
            template [ "{ \"teacher\", state }", "{ NULL, state }" ], "groups is empty"
            template [ group, "{ \"teacher\", state }" ], "has the group 'teacher' twice"
            template [ group, "{ \"student\", NULL }" ], "size of the group 'student' is 0"
            marking, "distill_create failed: x is no option."
            NativeConfig(marking.Library, Options = "xyz"),
            "distill_describe failed with the options 'xyz': x is no option."
            NativeConfig(marking.Library, Envs = 0), "are 0; they must be between 1 and"
        ] do
        let message = sentence config
        Storage.contains said message
        Expect.isTrue (message.EndsWith '.' || message.Contains "no shared library") message

    File.Delete textFile

[<GccFact>]
let ``what a library leaves out, or what is not finite, stops a run with environment and step`` () =
    let observed = "observations[i] = all->worlds[first + i].place;"
    let rewarded = "reward[i] = 1 - fabsf(one->place);"

    for old, other, said in
        [
            observed, $"if (first + i != 35) {observed}", "observation of environment 35 is NaN at step 0"
            observed,
            observed.Replace("all", "1 / 0.0f + all"),
            "observation of environment 0 is Infinity at step 0"
            rewarded, $"if (first + i != 37) {rewarded}", "reward of environment 37 is NaN at step 0"
        ] do
        let library =
            NativeLibraries.compile (NativeLibraries.edited "template.c" [ old, other ])

        use pool = new WorkerPool(1)

        use policy = new Policy(NetworkSpec.Mlp(1, [], 1, Activation.Elu), "student")

        use evaluator = new Evaluator(NativeConfig library, 40, 1UL, pool)

        (Expect.throws<DistillException>(fun () -> evaluator.Run policy |> ignore)).Message
        |> Storage.contains said

let private ppo (config: NativeConfig) pool =
    new Ppo(
        PpoConfig(StepsPerEnv = 6, Actor = dense "teacher" [ 5 ] true, Critic = dense "teacher" [ 5 ] true),
        config,
        pool
    )

let private iterate times (ppo: Ppo) =
    for _ in 1..times do
        ppo.Iterate() |> ignore

[<GccFact>]
let ``a run on a library that saves its states goes on bit for bit, with any number of threads`` () =
    let config = NativeConfig(NativeLibraries.pendulum 20, Envs = 100)

    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "state.safetensors")
        use one = new WorkerPool(1)
        use three = new WorkerPool(3)
        use undisturbed = ppo config one
        iterate 5 undisturbed

        (use first = ppo config three
         iterate 2 first
         save path first.Visit)

        use resumed = ppo config three
        resumed.Iterate() |> ignore
        load path resumed.Visit
        iterate 3 resumed
        sameState (bytes resumed.Visit) (bytes undisturbed.Visit) "resumed")

[<GccFact>]
let ``a run on a library that cannot save begins its episodes anew and says so`` () =
    let library =
        NativeLibraries.compile (NativeLibraries.edited "pendulum.c" [ "    sizeof(world),", "    0," ])

    let config = NativeConfig(library, Envs = 40)
    Expect.isTrue (not (config :> IEnvironmentConfig).Spec.Resumes) "is told"

    Expect.isTrue
        (NativeConfig(NativeLibraries.pendulum 20) :> IEnvironmentConfig).Spec.Resumes
        "of the other"

    let see (environment: IBatchedEnvironment) panel =
        let seen = zeros 3
        environment.Observe(panel, 0, seen)
        seen

    let step (environment: IBatchedEnvironment) panel =
        let reward, terminated, truncated = zeros 1, zeros 1, zeros 1
        environment.Step(panel, zeros 1, reward, terminated, truncated)
        Array.sum terminated, Array.sum truncated

    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "state.safetensors")
        use before = config.Create(40, 4UL)

        for panel in 0..1 do
            before.Reset panel

            for _ in 1..7 do
                Expect.equal (step before panel) (0f, 0f) "goes on"

        let seen = see before 1
        save path before.Visit
        Paths.sameBits (see before 1) seen "saving changes nothing"
        Expect.equal (step before 1) (0f, 0f) "nor ends anything"

        use after = config.Create(40, 4UL)
        after.Reset 0
        after.Reset 1
        load path after.Visit
        Expect.isTrue after.Lost "nobody knows where the episodes were"
        after.Reset 0
        Expect.isTrue after.Lost "half of them"
        after.Reset 1
        Expect.isTrue (not after.Lost && not before.Lost) "all begin anew"
        Expect.isTrue (see after 1 <> seen) "another episode"

        for _ in 1..199 do
            Expect.equal (step after 1) (0f, 0f) "goes on"

        Expect.equal (step after 1) (0f, 8f) "the limit")

[<GccFact>]
let ``stepping a library allocates nothing`` () =
    let config = NativeConfig(NativeLibraries.compile marking, Envs = 64)
    use environment = config.Create(64, 1UL)
    let actions, outcome, seen = zeros 2, zeros 5, zeros 3
    environment.Reset 0

    let some () =
        for _ in 1..100 do
            environment.Observe(0, 1, seen)
            environment.Step(0, actions, StepOutcome(Span outcome))

    some ()
    let before = GC.GetAllocatedBytesForCurrentThread()
    some ()
    Expect.equal (GC.GetAllocatedBytesForCurrentThread() - before) 0L "bytes"
