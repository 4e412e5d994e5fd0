"""The report of an evaluation: its document model, and the page and model card made from it.

    document  the models behind report.json
    words     numbers and results as people read them
    plots     curves as SVG that follows the page's colours
    html      report.html: one file, nothing fetched from anywhere
    card      MODEL_CARD.md

Renders what medray.evaluate computed; computes no metric itself.
"""
