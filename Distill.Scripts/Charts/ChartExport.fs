namespace Distill

open System
open System.ComponentModel
open System.Diagnostics
open System.IO
open System.Text
open System.Text.Json

/// Charts as pages and pictures.
[<AutoOpen>]
module ChartExport =
    type Chart with
        /// The chart as a page of its own that works without a network, or that loads plotly.js when asked to.
        static member saveHtml(path: string, ?PlotlyJs: PlotlyJs) =
            fun (chart: GenericChart) ->
                Page.save path (chart.ToPage(defaultArg PlotlyJs Distill.PlotlyJs.Embedded))

        /// Opens the chart in the default browser; where there is none, says where the page is.
        static member show(chart: GenericChart) =
            let path =
                Path.Combine(Path.GetTempPath(), $"distill-chart-{Guid.NewGuid():N}.html")

            Page.save path (chart.ToPage PlotlyJs.Embedded)

            try
                use _ = Process.Start(ProcessStartInfo(path, UseShellExecute = true))
                ()
            with :? Win32Exception ->
                Console.WriteLine $"The chart is in {path}"

        static member internal Image
            (path: string, format: string, width: int, height: int, scale: float, dark: bool)
            =
            fun (chart: GenericChart) ->
                let page =
                    Path.Combine(Path.GetTempPath(), $"distill-chart-{Guid.NewGuid():N}.html")

                Page.save page (chart.ToPage PlotlyJs.Embedded)

                try
                    use browser = Browser.Start $"Saving a chart as {format.ToUpperInvariant()}"
                    browser.Resize(width, height, 1., dark)
                    browser.Open page

                    let size =
                        JsonSerializer.Serialize
                            {| format = format; width = width; height = height; scale = scale |}

                    let image = browser.Evaluate($"distill.image({size})").GetString() |> string
                    let data = image.Substring(image.IndexOf ',' + 1)

                    let bytes =
                        if format = "svg" then
                            Encoding.UTF8.GetBytes(Uri.UnescapeDataString data)
                        else
                            Convert.FromBase64String data

                    Storage.AtomicFile.Write(path, fun stream -> stream.Write(ReadOnlySpan bytes))
                finally
                    File.Delete page

        /// A picture, `Scale` pixels to a pixel of the page. Needs Chromium.
        static member savePNG(path: string, ?Width: int, ?Height: int, ?Scale: float, ?Dark: bool) =
            fun (chart: GenericChart) ->
                let width = Width |> Option.orElse chart.Width |> Option.defaultValue 800
                let height = Height |> Option.defaultValue chart.Height
                Chart.Image (path, "png", width, height, defaultArg Scale 2., defaultArg Dark false) chart

        /// A vector graphic. Needs Chromium.
        static member saveSVG(path: string, ?Width: int, ?Height: int, ?Dark: bool) =
            fun (chart: GenericChart) ->
                let width = Width |> Option.orElse chart.Width |> Option.defaultValue 800
                let height = Height |> Option.defaultValue chart.Height
                Chart.Image (path, "svg", width, height, 1., defaultArg Dark false) chart
