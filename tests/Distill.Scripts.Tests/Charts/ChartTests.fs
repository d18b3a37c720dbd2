/// Charts and tables: the text of figures and pages, and what a browser makes of them.
module Distill.Tests.ChartTests

open System
open System.Collections
open System.IO
open System.Text.Json
open Distill
open FsCheck
open Xunit

/// A fact about what a page does in a browser.
type BrowserFactAttribute() =
    inherit FactAttribute()

    override _.Skip =
        match Browser.Path with
        | None -> "This test needs Chromium (on Debian: apt-get install chromium)."
        | Some _ when not Page.canEmbed ->
            "This test needs plotly.js and three.js, which npm did not restore."
        | Some _ -> null

let private figure (chart: GenericChart) =
    JsonDocument.Parse(chart.ToFigureJson()).RootElement

let private trace (i: int) (chart: GenericChart) = (figure chart).GetProperty("data")[i]

let private layout (chart: GenericChart) = (figure chart).GetProperty "layout"

let private at (path: string) (json: JsonElement) =
    (json, path.Split '.') ||> Array.fold (fun json name -> json.GetProperty name)

let private lineColour (i: int) (chart: GenericChart) =
    (trace i chart |> at "line.color").GetString() |> string

// Figures

[<Fact>]
let ``data are numbers of any type, texts and dates; what is no number is a gap`` () =
    let chart = Chart.Line([ 1; 2; 3 ], [ 1.5; nan; infinity ])
    Assert.Equal("[1,2,3]", (trace 0 chart |> at "x").GetRawText())
    Assert.Equal("[1.5,null,null]", (trace 0 chart |> at "y").GetRawText())
    Assert.Equal("[0.1]", (Chart.Point([ "a" ], [ 0.1f ]) |> trace 0 |> at "y").GetRawText())
    let dates = Chart.Point([ DateTime(2026, 11, 21) ], [ 1 ]) |> trace 0 |> at "x"
    Assert.Equal("[\"2026-11-21 00:00:00.000\"]", dates.GetRawText())

[<Fact>]
let ``no label ends the script that holds it`` () =
    let chart =
        Chart.Line([ 1 ], [ 1 ], Name = "</script><b>") |> Chart.withTitle "</script>"

    Assert.DoesNotContain("</script><b>", chart.ToElement())
    Assert.Equal("</script><b>", (trace 0 chart |> at "name").GetString())

[<Fact>]
let ``merging objects keeps the first where the second says nothing`` () =
    Property.check (fun (first: Map<int, int>) (second: Map<int, int>) ->
        let json (map: Map<int, int>) =
            map
            |> Map.toList
            |> List.map (fun (key, value) -> string key, Json.Number(float value))
            |> Json.Object

        let expected = Map.fold (fun all key value -> Map.add key value all) first second

        match Json.merge (json first) (json second) with
        | Json.Object fields ->
            Map.ofList fields =
                Map.ofList (
                    match json expected with
                    | Json.Object fields -> fields
                    | _ -> []
                )
            && fields.Length = expected.Count
        | _ -> false)

[<Fact>]
let ``each series has a colour of its own and a band has the colour of its line`` () =
    let chart =
        Chart.combine
            [
                Chart.Range([ 1; 2 ], [ 1.; 2. ], [ 2.; 3. ], [ 0.; 1. ], Name = "a")
                Chart.Line([ 1; 2 ], [ 1.; 2. ], Name = "b")
            ]

    Assert.Equal(4, (figure chart |> at "data").GetArrayLength())
    Assert.Equal("rgba(0,104,179,0.18)", (trace 1 chart |> at "fillcolor").GetString())
    Assert.Equal("#0068b3", lineColour 2 chart)
    Assert.NotEqual<string>(lineColour 2 chart, lineColour 3 chart)
    Assert.Equal("red", Chart.Line([ 1 ], [ 1 ], LineColor = "red") |> lineColour 0)

[<Fact>]
let ``a figure has no word of the theme left`` () =
    let chart =
        [
            Chart.Line([ 1 ], [ 1 ], Name = "a")
            |> Chart.withTitle "one"
            |> Chart.withVerticalLine (1, Text = "here")
            Chart.Surface([ [ 1.; 2. ]; [ 3.; 4. ] ])
            Chart.ParallelCoord([ ("a", [ 1.; 2. ]); ("b", [ 2.; 1. ]) ])
            Chart.Violin [ 1.; 2. ]
        ]
        |> Chart.Grid(2, 2)

    Assert.DoesNotContain("\"@", chart.ToFigureJson())

[<Fact>]
let ``the cells of a grid have axes of their own and do not overlap`` () =
    let chart =
        [
            for i in 1..3 do
                Chart.Line([ 1; 2 ], [ i; i ], Name = "same") |> Chart.withTitle $"cell {i}"
        ]
        |> Chart.Grid(2, 2)

    Assert.Equal("x3", (trace 2 chart |> at "xaxis").GetString())

    let edge (axis: string) (i: int) =
        let domain = layout chart |> at axis |> at "domain"
        domain[i].GetDouble()

    Assert.True(edge "xaxis" 1 < edge "xaxis2" 0)
    Assert.True(edge "yaxis3" 1 < edge "yaxis" 0)
    Assert.False((trace 1 chart |> at "showlegend").GetBoolean())
    Assert.Equal(3, (layout chart |> at "annotations").GetArrayLength())

    let error =
        Expect.throws<DistillException>(fun () ->
            [ Chart.Line([ 1 ], [ 1 ]); Chart.Line([ 1 ], [ 1 ]) ] |> Chart.Grid(1, 1) |> ignore)

    Assert.Equal("Chart.Grid(1, 1) was given 2 charts; it takes 1 to 1.", error.Message)

[<Fact>]
let ``settings of axes go where the chart has its axes`` () =
    let flat =
        Chart.Line([ 1; 2 ], [ 1; 10 ])
        |> Chart.withYAxisStyle (TitleText = "loss", AxisType = "log", MinMax = (1., 100.))

    Assert.Equal("loss", (layout flat |> at "yaxis.title.text").GetString())
    Assert.Equal("[0,2]", (layout flat |> at "yaxis.range").GetRawText())

    let space =
        Chart.Line3D([ 1 ], [ 1 ], [ 1 ]) |> Chart.withZAxisStyle (TitleText = "height")

    Assert.Equal("height", (layout space |> at "scene.zaxis.title.text").GetString())
    Assert.False((layout space).TryGetProperty "xaxis" |> fst)

[<Fact>]
let ``charts do not change when other charts are made of them`` () =
    let chart = Chart.Line([ 1; 2 ], [ 1; 2 ], Name = "a")
    let before = chart.ToFigureJson()

    chart
    |> Chart.withTitle "other"
    |> Chart.withTraceInfo (Name = "b")
    |> Chart.withSize (Width = 300)
    |> Chart.withLayout [ "barmode", Json.Text "stack" ]
    |> ignore

    Assert.Equal(before, chart.ToFigureJson())

[<Fact>]
let ``texts of parallel coordinates are places on an axis`` () =
    let chart = Chart.ParallelCoord [ ("sampling", [ "b"; "a"; "b" ]) ]
    let dimension = (trace 0 chart |> at "dimensions")[0]
    Assert.Equal("[0,1,0]", (at "values" dimension).GetRawText())
    Assert.Equal("[\"b\",\"a\"]", (at "ticktext" dimension).GetRawText())

// Colours

/// Linear red, green and blue of "#rrggbb".
let private linear (hex: string) =
    [ 1; 3; 5 ]
    |> List.map (fun i ->
        let c = float (Convert.ToInt32(hex.Substring(i, 2), 16)) / 255.

        if c <= 0.04045 then
            c / 12.92
        else
            ((c + 0.055) / 1.055) ** 2.4)

let private times (matrix: float list list) (vector: float list) =
    matrix |> List.map (fun row -> List.sum (List.map2 (*) row vector))

let private luminance (colour: float list) =
    times [ [ 0.2126; 0.7152; 0.0722 ] ] colour |> List.head

let private lab (colour: float list) =
    let f t =
        if t > 216. / 24389. then
            Math.Cbrt t
        else
            (24389. / 27. * t + 16.) / 116.

    let white = [ 0.95047; 1.; 1.08883 ]

    let xyz =
        times [ [ 0.4124; 0.3576; 0.1805 ]; [ 0.2126; 0.7152; 0.0722 ]; [ 0.0193; 0.1192; 0.9505 ] ] colour

    match List.map2 (fun c w -> f (c / w)) xyz white with
    | [ x; y; z ] -> [ 116. * y - 16.; 500. * (x - y); 200. * (y - z) ]
    | _ -> []

/// What people without red, without green and without blue cones see (Machado, Oliveira and Fernandes 2009, severity 1).
let private eyes =
    [
        "full colour vision", [ [ 1.; 0.; 0. ]; [ 0.; 1.; 0. ]; [ 0.; 0.; 1. ] ]
        "protanopia",
        [
            [ 0.152286; 1.052583; -0.204868 ]
            [ 0.114503; 0.786281; 0.099216 ]
            [ -0.003882; -0.048116; 1.051998 ]
        ]
        "deuteranopia",
        [
            [ 0.367322; 0.860646; -0.227968 ]
            [ 0.280085; 0.672501; 0.047413 ]
            [ -0.011820; 0.042940; 0.968881 ]
        ]
        "tritanopia",
        [
            [ 1.255528; -0.076749; -0.178779 ]
            [ -0.078411; 0.930809; 0.147602 ]
            [ 0.004733; 0.691367; 0.303900 ]
        ]
    ]

let private colours (theme: (string * string) list) =
    [ for i in 0..7 -> Theme.colour theme (Theme.series i) ]

[<Fact>]
let ``colours of series and of words stand out from the page`` () =
    for theme in [ Theme.light; Theme.dark ] do
        let paper = luminance (linear (Theme.colour theme "@paper"))

        let contrast (hex: string) =
            let l = luminance (linear hex)
            (max l paper + 0.05) / (min l paper + 0.05)

        for hex in colours theme do
            Expect.isTrue (contrast hex >= 3.) $"{hex} has a contrast of {contrast hex:F2}, less than 3"

        for word in [ "@ink"; "@muted" ] do
            Expect.isTrue (contrast (Theme.colour theme word) >= 4.5) $"{word} has a contrast below 4.5"

[<Fact>]
let ``the first series can be told apart with any colour vision`` () =
    for theme in [ Theme.light; Theme.dark ] do
        for name, eye in eyes do
            let seen =
                colours theme
                |> List.take 4
                |> List.map (fun hex ->
                    hex, lab (times eye (linear hex) |> List.map (fun c -> Math.Clamp(c, 0., 1.))))

            for i in 0 .. seen.Length - 1 do
                for j in i + 1 .. seen.Length - 1 do
                    let (a, labA), (b, labB) = seen[i], seen[j]
                    let difference = sqrt (List.sum (List.map2 (fun x y -> (x - y) ** 2.) labA labB))
                    Expect.isTrue (difference >= 12.) $"{a} and {b} differ by {difference:F1} with {name}"

// Notebooks

[<Fact>]
let ``notebook hosts find the formatter by its names`` () =
    for value in [ box (Chart.Line([ 1 ], [ 1 ])); Table([ "a" ], [ [ "x" ] ]) ] do
        let attribute =
            value.GetType().GetCustomAttributes false
            |> Array.find (fun attribute -> attribute.GetType().Name = "TypeFormatterSourceAttribute")

        let read (object: obj) (name: string) =
            match object.GetType().GetProperty name with
            | null -> failwith $"There is no property {name}."
            | property -> property.GetValue object |> nonNull

        Assert.Equal<string array>([| "text/html" |], read attribute "PreferredMimeTypes" :?> string array)

        let source =
            Activator.CreateInstance(read attribute "FormatterSourceType" :?> Type) |> nonNull

        let create = source.GetType().GetMethod "CreateTypeFormatters" |> nonNull

        let html =
            nonNull (create.Invoke(source, [||])) :?> IEnumerable
            |> Seq.cast<obj>
            |> Seq.find (fun formatter -> read formatter "MimeType" = "text/html")

        use writer = new StringWriter()
        let format = html.GetType().GetMethod "Format" |> nonNull
        Assert.Equal(box true, format.Invoke(html, [| value; writer |]))
        Assert.Contains("<div class=\"distill-", writer.ToString())

[<Fact>]
let ``a page holds plotly.js, or names its address and version, or leaves it to others`` () =
    let chart = Chart.Line([ 1 ], [ 1 ])
    Assert.Contains("/npm/plotly.js-dist-min@", chart.ToHtml PlotlyJs.Cdn)
    Assert.DoesNotContain("id=\"packed-plotly.js\"", chart.ToHtml PlotlyJs.None)

    if Page.canEmbed then
        Assert.DoesNotContain("/npm/", chart.ToHtml PlotlyJs.Embedded)
        Assert.Contains("data-integrity=\"sha384-", chart.ToHtml PlotlyJs.Cdn)
        Assert.InRange((chart.ToPage PlotlyJs.Embedded).Length, 1 <<< 20, 3 <<< 20)

// Tables

let private table =
    Table(
        [ "run"; "return"; "finished"; "when" ],
        [
            [ "<a>"; { Estimate = 431.2345; Low = 427.8345; High = 434.6345 }; true; DateTime(2026, 11, 21) ]
            [ "b"; None; false; null ]
            [ "c"; Some { Estimate = 1.5; Low = nan; High = nan }; false; null ]
            [ "long name"; 1234567; true; null ]
        ]
    )

[<Fact>]
let ``a table on a console is columns of text, numbers to the right`` () =
    let expected =
        [
            "run                      return  finished                 when"
            "---------  --------------------  --------  -------------------"
            "<a>        431.2 [427.8, 434.6]  yes       2026-11-21 00:00:00"
            "b                             –  no                          –"
            "c                           1.5  no                          –"
            "long name             1,234,567  yes                         –"
        ]

    Assert.Equal<string list>(expected, (string table).Split '\n' |> List.ofArray)

[<Fact>]
let ``cells have keys to sort by and no mark-up of their own`` () =
    let html = table.ToHtml()
    Assert.Contains("data-key=\"431.2345\"", html)
    Assert.Contains("&lt;a&gt;", html)
    Assert.DoesNotContain("<a>", html)

[<Fact>]
let ``numbers have the digits that a reader needs`` () =
    let shown =
        [ 0.; 0.001234567; 12.34567; 999.95; 1234.5678; 1e-7; 12345678.9; nan; -infinity ]
        |> List.map Table.Number

    Assert.Equal<string list>(
        [ "0"; "0.001235"; "12.35"; "1000"; "1,234.6"; "1e-7"; "1.235e7"; "–"; "-∞" ],
        shown
    )

[<Fact>]
let ``records are rows`` () =
    let table =
        Table.ofRecords [ {| Name = "a"; Return = Some 1.5 |}; {| Name = "b"; Return = None |} ]

    Assert.Equal<string list>([ "Name"; "Return" ], table.Headings)
    Assert.EndsWith("b          –", string table)

[<Fact>]
let ``a row of the wrong length is named`` () =
    let error =
        Expect.throws<DistillException>(fun () -> Table([ "a"; "b" ], [ [ 1; 2 ]; [ 1 ] ]) |> ignore)

    Assert.Equal("Row 2 of a table has 1 cells under 2 headings.", error.Message)

// In a browser

/// Opens pages in one browser; fails on errors of their scripts and on any use of the network.
let browse (pages: (string * (Browser -> unit)) list) =
    use browser = Browser.Start "The test"
    browser.Resize(800, 600, 1., false)

    for path, look in pages do
        browser.Open path
        look browser

    Assert.Empty browser.Problems
    Assert.Empty browser.Requests

/// Width and height, in CSS pixels, of what a browser shows for a selector.
let sizes (browser: Browser) (selector: string) : (float * float) list =
    let boxes =
        browser.Evaluate
            $"[...document.querySelectorAll('{selector}')].map((e) => e.getBoundingClientRect()).map((b) => [b.width, b.height])"

    [ for box in boxes.EnumerateArray() -> box[0].GetDouble(), box[1].GetDouble() ]

/// Fails unless there is such a chart and all are as high as charts are.
let expectHeight (browser: Browser) (charts: string) =
    let found = sizes browser charts
    Assert.NotEmpty found
    Assert.All(found, fun (_, height) -> Assert.InRange(height, 200., 1000.))

/// Fails unless the chart has its height and the selector finds so many traces in it, each with a size.
let expectDrawn (browser: Browser) (chart: string) (trace: string) (count: int) =
    expectHeight browser chart
    let traces = sizes browser $"{chart} {trace}"
    Assert.Equal(count, traces.Length)
    Assert.All(traces, fun (width, height) -> Assert.True(width > 20. && height > 5., $"{width} by {height}"))

[<BrowserFact>]
let ``charts of every kind are drawn without an error`` () =
    let x = [ 0..20 ]
    let y = x |> List.map (fun x -> sin (float x / 3.))
    let z = [ for i in x -> [ for j in x -> sin (float (i * j) / 40.) ] ]

    let charts =
        [
            Chart.Line(x, y), "path.js-line"
            Chart.Point(List.zip x y), ".points"
            Chart.Range(x, y, List.map ((+) 1.) y, y), "path.js-fill"
            Chart.Column([ 1; 2 ], Keys = [ "a"; "b" ]), ".bars .points"
            Chart.Bar [ 1; 2 ], ".bars .points"
            Chart.Histogram y, ".bars .points"
            Chart.BoxPlot y, "path.box"
            Chart.Violin y, "path.violin"
            Chart.Heatmap z, ".heatmaplayer image"
            Chart.Contour z, ".contourlines"
            Chart.Line3D(x, y, y), ".gl-container canvas"
            Chart.Surface z, ".gl-container canvas"
            Chart.ParallelCoord([ ("a", y); ("b", y) ], Color = y), "canvas.gl-canvas-context"
            [ Chart.Line(x, y); Chart.Surface z ] |> Chart.Grid(1, 2), "path.js-line"
        ]

    use folder = new RunTests.Workplace()
    let path = folder.Path "charts.html"

    let body =
        charts
        |> List.mapi (fun i (chart, _) -> $"<div id=\"chart-{i}\">{chart.ToElement()}</div>")
        |> String.concat "\n"

    Page.save path (Page.html "Charts" (Page.chartScript PlotlyJs.Embedded) body)

    let drawn (browser: Browser) =
        browser.Evaluate "distill.drawn()" |> ignore


        for i, (_, trace) in List.indexed charts do
            expectDrawn browser $"#chart-{i}" trace 1

    browse [ path, drawn ]

/// A page with outputs of a notebook, put into it one after another and with its own theme.
let private notebookPage (path: string) (style: string) (outputs: string list) =
    let script =
        outputs
        |> List.map (fun html ->
            // As notebooks do: the elements first, then each of their scripts anew.
            $"show({Json.toText (Json.Text html)})")
        |> String.concat ";"

    let show =
        "function show(html){const cell=document.createElement('div');document.body.append(cell);cell.innerHTML=html;"
        + "for(const old of cell.querySelectorAll('script')){const script=document.createElement('script');"
        + "script.type=old.type;script.id=old.id;script.textContent=old.textContent;old.replaceWith(script)}}"

    Page.save path $"<!doctype html><title>a</title><body style='{style}'><script>{show};{script}</script>"

[<BrowserFact>]
let ``charts of a notebook use the library that one output holds, wherever it stands, and the notebook's theme``
    ()
    =
    use folder = new RunTests.Workplace()
    let library = Page.chartScript PlotlyJs.Embedded

    let chart = Chart.Line([ 1; 2 ], [ 1; 2 ], ShowLegend = true).ToHtml PlotlyJs.None

    let another = (Chart.Line [ 1, 2; 2, 3 ]).ToHtml PlotlyJs.None

    let drawn (ink: string) (browser: Browser) =
        browser.Evaluate "distill.drawn()" |> ignore

        let count =
            browser.Evaluate "document.querySelectorAll('.distill-chart .xaxislayer-above').length"

        Assert.Equal(2, count.GetInt32())
        let text = browser.Evaluate "document.querySelector('.distill-chart').textContent"
        Assert.DoesNotContain("Run the notebook", text.GetString())
        let fill = browser.Evaluate "document.querySelector('.xtick text').style.fill"
        Assert.Equal(ink, fill.GetString())

    let colour (theme: (string * string) list) =
        let hex = (dict theme)["ink"]

        let channel (at: int) =
            Convert.ToInt32(hex.Substring(at, 2), 16)

        $"rgb({channel 1}, {channel 3}, {channel 5})"

    let light, dark = folder.Path "light.html", folder.Path "dark.html"
    notebookPage light "color:#111" [ library; chart; another ]
    notebookPage dark "color:#eee;background:#111" [ chart; another; library ]
    browse [ light, drawn (colour Theme.light); dark, drawn (colour Theme.dark) ]

[<BrowserFact>]
let ``a chart is saved as a picture and as a vector graphic`` () =
    use folder = new RunTests.Workplace()
    let chart = Chart.Line([ 1; 2 ], [ 1; 2 ]) |> Chart.withSize (Height = 200)
    chart |> Chart.savePNG (folder.Path "a.png", Width = 300)
    let png = File.ReadAllBytes(folder.Path "a.png")
    // Width and height stand big-endian at 16 and 20; there are two pixels to a CSS pixel.
    let number (at: int) =
        Buffers.Binary.BinaryPrimitives.ReadInt32BigEndian(ReadOnlySpan(png, at, 4))

    Assert.Equal((600, 400), (number 16, number 20))
    chart |> Chart.saveSVG (folder.Path "a.svg", Width = 300)
    Assert.StartsWith("<svg", File.ReadAllText(folder.Path "a.svg"))

[<Fact>]
let ``texts on the cells of a heat map have a contrast of 4.5 or more`` () =
    // WCAG 2.2: relative luminance and contrast.
    let luminance (hex: string) =
        let channel (at: int) =
            let c = float (Convert.ToInt32(hex.Substring(at, 2), 16)) / 255.

            if c <= 0.04045 then
                c / 12.92
            else
                ((c + 0.055) / 1.055) ** 2.4

        0.2126 * channel 1 + 0.7152 * channel 3 + 0.0722 * channel 5

    let luminances = Chart.CellScale |> List.map luminance
    Assert.Equal<float list>(List.sort luminances, luminances)
    Assert.True((List.min luminances + 0.05) / (luminance Chart.TextOnCells + 0.05) >= 4.5)
    let cells = Chart.Heatmap([ [ 1; 2 ] ], ZText = "%{z}").ToFigureJson()
    Assert.Contains(Chart.TextOnCells, cells)
    Assert.Contains(Chart.CellScale.Head, cells)

[<Fact>]
let ``points in space, and styles given afterwards, say what they were given`` () =
    let points = Chart.Point3D([ 1 ], [ 2 ], [ 3 ], MarkerColor = "@1") |> trace 0
    Assert.Equal("markers", (at "mode" points).GetString())
    Assert.Equal("[3]", (at "z" points).GetRawText())

    let line =
        Chart.Line([ 1; 2 ], [ 1; 2 ])
        |> Chart.withLineStyle (Dash = "dot")
        |> Chart.withMarkerStyle (Size = 7.)
        |> trace 0

    Assert.Equal("dot", (at "line.dash" line).GetString())
    Assert.Equal(7., (at "marker.size" line).GetDouble())
