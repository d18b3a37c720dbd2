// The choices of an experiment as functions that make the core's records.
namespace Distill

open System
open System.IO
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.External
open Distill.Environments.Manipulation
open Distill.Environments.Native
open Distill.Environments.Quadrotor
open Distill.Environments.Recorded
open Distill.Networks
open Distill.Policies

/// Number of environments side by side.
type Envs = { envs: int }

/// Size of a recurrent student's memory.
type MemorySize = { hidden: int }

/// Sizes of hidden layers, first to last.
type LayerSizes = { hidden: int list }

/// How many drones are drawn, and the seed that says which.
type DroneSample = { number: int; seed: int }

/// Drones drawn by the procedure of RAPTOR's foundation policy.
module Drones =
    /// As its code draws them; drone i is the same whatever the number. Other ranges, or the paper's version, are fields of
    /// the record: `Settings.set <@ _.Procedure @> SamplingProcedure.Paper`.
    let sample (sample: DroneSample) : DroneSampling =
        if sample.seed < 0 then
            fail $"The seed of sampled drones is {sample.seed}; it must not be negative."

        DroneSampling(Number = sample.number, Seed = uint64 sample.seed)

    /// The numbers by which drones are compared, a row for each.
    let figures (drones: DroneSampling) : DroneFigures list =
        [ for drone in drones.Draw() -> DroneFigures.Of drone ]

    /// Writes a parameter file for each drone into the folder, in rl-tools' JSON form, and their figures beside: drones.csv.
    let write (folder: string) (drones: DroneSampling) : unit =
        ParameterFile.WriteFolder(folder, drones.Draw())
        let columns = Records.properties typeof<DroneFigures> |> List.ofArray

        let cell (value: obj | null) =
            match value with
            | :? float as number -> Csv.number number
            | other -> string other

        Csv.write
            (Path.Combine(folder, "drones.csv"))
            [ for column in columns -> Names.snake column.Name ]
            [ for row in figures drones -> [ for column in columns -> cell (column.GetValue row) ] ]

/// Quadrotors. For what these do not cover, write the record: `QuadrotorConfig(Envs = 100, Drones = [| "x500_real" |])`.
module Quadrotor =
    let private task (task: QuadrotorTask) (size: Envs) =
        QuadrotorConfig(Envs = size.envs, Task = task)

    /// Hold the origin.
    let pointControl size = task QuadrotorTask.Position size

    /// Follow a smoothed random path.
    let langevin size = task QuadrotorTask.Langevin size

    /// Each episode one of the two, half and half.
    let mixture size = task QuadrotorTask.Mixture size

    /// Follow a figure of eight.
    let figureEight size = task QuadrotorTask.FigureEight size

    /// The same task on sampled drones, environment i on drone i modulo their number.
    let flying (drones: DroneSampling) (config: QuadrotorConfig) : QuadrotorConfig =
        config |> Settings.set <@ _.Sampled @> drones

module CartPole =
    /// Keep the pole upright.
    let balance (size: Envs) = CartPoleConfig(Envs = size.envs)

/// Tasks of MetaWorld's at a table with a puck, a drawer or a button, simulated by MuJoCo. The group expert is a scripted controller:
/// `Teacher.environment "expert"`.
module Manipulation =
    /// Environment i has task i modulo their number.
    let tasks (tasks: ManipulationTask list) (size: Envs) =
        ManipulationConfig(Tasks = List.toArray tasks, Envs = size.envs)

/// A trained trajectory transformer: its file, and the observation group whose numbers are the states that it reads.
type Encoder = { encoder: string; states: string }

/// Environments around others.
module Environment =
    /// The same with one more observation group, `encoding`: what the encoder says of the last steps. A student reads it beside the
    /// state: `Student.reading "reduced+encoding"`.
    let encoded (encoder: Encoder) (environment: IEnvironmentConfig) =
        EncodedConfig(Environment = environment, Encoder = encoder.encoder, States = encoder.states)

/// Recorded data in the place of an environment (docs/recorded-data.md): to train a student on them alone.
module Recorded =
    /// Files, or folders of which all .npz are taken. They say what observations and actions are.
    let data (files: string list) : RecordedConfig =
        RecordedConfig(Files = List.toArray files)

    /// The same, where the actions are indices of so many choices.
    let choices (number: int) (recorded: RecordedConfig) : RecordedConfig =
        recorded |> Settings.set <@ _.Choices @> number

/// Environments in a shared library of one's own, written in C, C++ or Rust: native/distill_environment.h, native/template.c.
module Native =
    /// Those of the library in this file: "libpendulum.so".
    let library (path: string) (size: Envs) = NativeConfig(path, Envs = size.envs)

    /// Compiles a library with the machine's C compiler where it is older than its source, or not there: `Native.compile
    /// "pendulum.c" "logs/libpendulum.so"`. Gives the library's path.
    let compile (source: string) (library: string) : string =
        if not (File.Exists source) then
            fail $"There is no C file {source}."

        if
            not (File.Exists library && File.GetLastWriteTimeUtc library > File.GetLastWriteTimeUtc source)
        then
            Path.GetDirectoryName(Path.GetFullPath library) |> nonNull |> Directory.CreateDirectory |> ignore
            // Under another name first, so that what is there is whole.
            let made = library + ".new"

            match Shell.run "cc" [ "-std=c99"; "-O2"; "-shared"; "-fPIC"; "-o"; made; source; "-lm" ] with
            | Ok _ -> File.Move(made, library, true)
            | Error why -> fail $"{source} could not be compiled: {why}"

        library

    /// The same, with text that the library is given, such as the name of a model.
    let options (text: string) (config: NativeConfig) : NativeConfig =
        config |> Settings.set <@ _.Options @> text

/// Simulators in another process, in Python as a rule: docs/your-own-simulator.md. For what these do not cover, write the record:
/// `ExternalConfig(Command = "python3 my_env.py", Envs = 64, Shared = true)`.
module External =
    /// One that is started by a command, such as "python3 my_env.py".
    let command (command: string) (size: Envs) =
        ExternalConfig(Command = command, Envs = size.envs)

    /// One that runs already, and waits at this socket.
    let connect (socket: string) (size: Envs) =
        ExternalConfig(Socket = socket, Envs = size.envs)

/// Teachers that a script has made itself; whoever made them disposes of them.
[<Sealed>]
type TeacherCode(made: ITeachers) =
    interface ITeachers with
        member _.Policies = made.Policies
        member _.LabelGroup = made.LabelGroup
        member _.Teach(environment, noise) = made.Teach(environment, noise)

/// What labels what the student does: a policy in a file, several, the environments themselves, or code.
type TeacherFile =
    {
        /// A .safetensors or .pt file. Or a folder with teachers.csv, of which each teacher labels its own variant of the
        /// environment, such as a drone. Or environment:GROUP, where that observation group carries the action of an expert: as many
        /// numbers as an action has; of choices the index of one, or a probability for each. Or several files, joined by plus
        /// signs, of which teacher_index chooses.
        Teacher: string

        /// The observation group whose number says which of several files is asked, from 0; it may change in every step. Empty where
        /// there is one.
        TeacherIndex: string

        /// The observation group it reads; empty for what the file says.
        TeacherGroup: string

        /// Nonlinearity of its hidden layers; null for what the file or params/agent.yaml beside it says. Checkpoints of rsl_rl
        /// do not say it, and a teacher with the wrong one labels nonsense.
        TeacherActivation: Nullable<Activation>

        /// Mean return that every teacher of a set must reach, alone on its variant, before training begins; null for no check.
        /// Raise it to what a usable teacher has, lower it where a variant cannot do better.
        MinTeacherReturn: Nullable<float>

        /// Episodes of each variant in that check. Raise it when a teacher fails by bad luck, lower it when the start takes too long.
        TeacherEpisodes: int

        /// What labels where teacher is empty: made in the script.
        TeacherCode: TeacherCode | null
    }

/// What a teacher turns out to be.
[<RequireQualifiedAccess>]
type internal TeacherKind =
    | Nobody
    | File
    | Set
    | Chosen of files: string list
    | Environment of group: string
    | Code of TeacherCode

module Teacher =
    let private ofEnvironment = "environment:"

    /// The policy in a .safetensors or .pt file. It is read, and checked against the environment, when the run starts.
    let load (path: string) : TeacherFile =
        {
            Teacher = path
            TeacherIndex = ""
            TeacherGroup = ""
            TeacherActivation = Nullable()
            MinTeacherReturn = Nullable()
            TeacherEpisodes = 100
            TeacherCode = null
        }

    /// Nobody: for training by reward alone.
    let none: TeacherFile = load ""

    /// A set of teachers, each for one variant of the environment: a folder with teachers.csv.
    let set (folder: string) : TeacherFile = load folder

    /// The policies in several files, of which the number of an observation group chooses in every step, from 0.
    let choose (group: string) (files: string list) : TeacherFile =
        { load (String.Join("+", files)) with TeacherIndex = group }

    /// The environments themselves: this observation group carries the action of an expert, such as a planner, an MPC or a script.
    let environment (group: string) : TeacherFile = load (ofEnvironment + group)

    /// A function of what an observation group shows, `fun seen action -> ...`, which writes the action, or the index of the choice. It is
    /// called for several environments at once and must not keep anything between calls.
    let compute (group: string) (expert: float[] -> float[] -> unit) : TeacherFile =
        { none with TeacherCode = new TeacherCode(new FunctionTeachers(group, expert)) }

    /// Whatever labels: teachers of a script's own. They are not disposed of here.
    let made (teachers: ITeachers) : TeacherFile =
        { none with TeacherCode = new TeacherCode(teachers) }

    /// The same set, refused where a teacher's mean return is lower, alone on its variant.
    let atLeast (mean: float) (teacher: TeacherFile) =
        { teacher with MinTeacherReturn = Nullable mean }

    /// The same policy, reading another observation group.
    let reading (group: string) (teacher: TeacherFile) = { teacher with TeacherGroup = group }

    /// The same policy with this nonlinearity in its hidden layers, for files that do not say theirs.
    let activation (activation: Activation) (teacher: TeacherFile) =
        { teacher with TeacherActivation = Nullable activation }

    let internal kind (file: TeacherFile) : TeacherKind =
        match file.Teacher, file.TeacherCode with
        | "", code ->
            match code with
            | null -> TeacherKind.Nobody
            | code -> TeacherKind.Code code
        | text, _ when text.StartsWith ofEnvironment ->
            TeacherKind.Environment(text.Substring ofEnvironment.Length)
        | text, _ when file.TeacherIndex <> "" -> TeacherKind.Chosen(List.ofArray (text.Split '+'))
        | text, _ when Directory.Exists text -> TeacherKind.Set
        | _ -> TeacherKind.File

    let private group (file: TeacherFile) =
        if file.TeacherGroup = "" then null else file.TeacherGroup

    let private policy (file: TeacherFile) (path: string) : Policy =
        PolicyFile.Load(path, group file, file.TeacherActivation)

    /// Refuses what is not one policy in a file.
    let internal checkFile (file: TeacherFile) =
        match kind file with
        | TeacherKind.File -> ()
        | TeacherKind.Set ->
            fail $"{file.Teacher} is a set of teachers, but one policy is needed here; name one of its files."
        | TeacherKind.Nobody -> fail "There is no teacher; name a policy file: teacher=FILE."
        | TeacherKind.Chosen _
        | TeacherKind.Environment _
        | TeacherKind.Code _ ->
            fail
                "The teacher is no policy in a file, but one is needed here, where it is asked about more than the states as they come; name a policy file: teacher=FILE."

    /// Reads the file, where there is one.
    let internal read (file: TeacherFile) : Policy =
        checkFile file
        policy file file.Teacher

    /// Reads what is in files, and checks it against the environment.
    let internal readAll (file: TeacherFile) (environment: EnvironmentSpec) : ITeachers =
        match kind file with
        | TeacherKind.Set ->
            (TeacherSet.Read file.Teacher).Load(environment, group file, file.TeacherActivation)
        | TeacherKind.Environment group -> new EnvironmentTeachers(group)
        | TeacherKind.Code code -> code
        | TeacherKind.Chosen files ->
            TeacherPolicies.Choosing(
                [| for path in files -> policy file path |],
                environment,
                file.TeacherIndex
            )
        | TeacherKind.File
        | TeacherKind.Nobody -> TeacherPolicies.Of(read file, environment)

module Student =
    /// Dense, GRU, output: a student with memory, trained on sequences.
    let gru (size: MemorySize) : StudentConfig = GruStudent(Hidden = size.hidden)

    /// Dense, LSTM, output: the same with the memory that most recurrent policies of rsl_rl have.
    let lstm (size: MemorySize) : StudentConfig = LstmStudent(Hidden = size.hidden)

    /// Dense layers only.
    let mlp (sizes: LayerSizes) : StudentConfig =
        MlpStudent(Hidden = List.toArray sizes.hidden)

    /// A student that was trained before, from its .safetensors or .pt file: fine-tuning, another task, another teacher.
    let load (path: string) : StudentConfig = FileStudent(File = path)

    /// The same student with outputs that mean this: a distribution to explore with, or one whose spread depends on the state.
    let head (head: Head) (student: StudentConfig) : StudentConfig =
        student |> Settings.set <@ _.Head @> (Nullable head)

    /// The same student, reading another observation group: "tracking" for a quadrotor that is told where its reference is.
    let reading (group: string) (student: StudentConfig) : StudentConfig =
        student |> Settings.set <@ _.ObservationGroup @> group

/// Numbers that change from iteration to iteration, counted from 0: `learning_rate=linear(1e-3,1e-4,200)` and the like.
module Schedule =
    /// The same number always.
    let constant (value: float) : Schedule = Schedule.op_Implicit value

    /// In a straight line from one number to another, which is reached after so many iterations and kept.
    let linear (from: float) (until: float) (iterations: int) : Schedule =
        Schedule.Linear(from, until, iterations)

    /// By the same factor every iteration from one number to another, which is reached after so many iterations and kept.
    let exponential (from: float) (until: float) (iterations: int) : Schedule =
        Schedule.Exponential(from, until, iterations)

    /// Along half a wave of the cosine.
    let cosine (from: float) (until: float) (iterations: int) : Schedule =
        Schedule.Cosine(from, until, iterations)

    /// from × factor ^ iteration.
    let decay (from: float) (factor: float) : Schedule = Schedule.Decay(from, factor)

    /// Straight lines through points (iteration, number).
    let piecewise (points: (int * float) list) : Schedule =
        Schedule.Piecewise [| for iteration, value in points -> struct (iteration, value) |]

    /// Any function of the iteration; the name stands for it in files.
    let custom (name: string) (at: int -> float) : Schedule = Schedule.Of(name, at)

/// Who acts.
module Acting =
    /// Two-stage training: the teacher drives in the first iterations (`phase1_iterations`), then the student.
    let teacherUntil (iterations: int) : Acting = TeacherUntil iterations

    /// The student drives from the start.
    let studentAlways: Acting = StudentAlways()

    /// The teacher always drives.
    let teacherAlways: Acting = TeacherAlways()

    /// The share of steps that the teacher drives falls linearly to 0 over these iterations.
    let linear (iterations: int) : Acting = LinearBeta iterations

    /// The share of steps that the teacher drives is this base to the power of the iteration.
    let exponential (baseOfBeta: float) : Acting = ExponentialBeta baseOfBeta

    /// The share of steps that the teacher drives follows a schedule.
    let schedule (beta: Schedule) : Acting = Mixed beta

/// Whose data an iteration keeps, where every variant of the environment has its teacher.
module Active =
    /// All.
    let all: ActiveTeachers = AllActiveTeachers()

    /// So many, on whose variants the student does best.
    let best (number: int) : ActiveTeachers = BestActiveTeachers number

    /// So many, on whose variants the student does worst.
    let worst (number: int) : ActiveTeachers = WorstActiveTeachers number

    /// So many, others in every iteration.
    let random (number: int) : ActiveTeachers = RandomActiveTeachers number

/// What is kept.
module Retain =
    /// The newest rows, up to a limit (`max_buffer_size`).
    let latest (rows: int) : Retention = FirstInFirstOut(int64 rows)

    /// The newest rollout only.
    let newestRollout: Retention = NewestRollout()

    /// A uniform sample of all rows ever seen, up to a limit.
    let reservoir (rows: int) : Retention = Reservoir(int64 rows)

    /// A sample of all rows ever seen in which every choice keeps an equal share, up to a limit; for students without memory.
    let classBalanced (rows: int) : Retention = ClassBalancedReservoir(int64 rows)

/// What is drawn from what is kept.
module Sample =
    /// Everything once per epoch, in random order.
    let permutation: Sampling = Permutation()

    /// Everything once per epoch, in the order it is stored.
    let inOrder: Sampling = InOrder()

    /// Newer data more often: p ~ exp(-decay × age in iterations).
    let recent (decay: float) : Sampling = RecencyWeighted decay

    /// What the student got most wrong more often: p ~ (loss + epsilon) ^ exponent.
    let lossPrioritized (exponent: float) (epsilon: float) : Sampling = LossPrioritized(exponent, epsilon)

    /// That on which so many students, trained side by side, disagree more often: p ~ (disagreement + epsilon) ^ exponent.
    let disagreement (members: int) (exponent: float) (epsilon: float) : Sampling =
        DisagreementPrioritized(members, exponent, epsilon)

    /// Rare choices more often: p ~ (rows with this choice) ^ -exponent.
    let classBalanced (exponent: float) : Sampling = ClassBalanced exponent

module Loss =
    /// Mean squared error.
    let mse: Loss = MeanSquared()

    /// Quadratic up to an error of delta, then linear.
    let huber (delta: float) : Loss = Huber delta

    /// Negative log-likelihood under a Gaussian whose spread is learned, too.
    let gaussian: Loss = GaussianLogLikelihood()

    /// KL(teacher || student) of their distributions; the student learns the teacher's spread, too.
    let kl: Loss = KullbackLeibler()

    /// Squared errors of the likeliest action and of log_std, the second with this weight and less where the teacher's deviation is
    /// small: the student learns the teacher's spread, too.
    let meanAndDeviation (deviationWeight: float) : Loss =
        MeanAndDeviation(DeviationWeight = deviationWeight)

    /// For choices; smoothing spreads that share of the target over all of them.
    let crossEntropy (smoothing: float) : Loss = CrossEntropy smoothing

/// How much one iteration collects.
module Collect =
    /// Every environment runs this many steps; episodes go on from one iteration to the next.
    let stepsPerEnv (steps: int) : Collection = StepsPerIteration steps

    /// Whole episodes, from their start.
    let episodes (number: int) : Collection = EpisodesPerEpoch number

    /// Whole episodes, put end to end in the sequences of a recurrent student.
    let packed (number: int) : Collection = EpisodesPerEpoch(number, true)

    /// Nothing: iterations only train, on recorded data, which a recurrent student sees in pieces of so many rows.
    let seedDataOnly (rows: int) : Collection = SeedDataOnly rows
