"""The sheet as a page: one file that loads nothing, works without a network and by the keyboard."""

from __future__ import annotations

import json
from importlib import resources

from rlm_ray.validation.sheet import Sheet


def page(sheet: Sheet, run: str) -> str:
    """Return the page: question, one record at a time, keys y, n and u, and a button that saves the labels as CSV.

    The page has no hint of what the machine said of a record; texts of the corpus are data in it, and never markup.
    """
    items = [{"id": item["id"], "text": item["text"]} for item in sheet["items"]]
    data = json.dumps({"run": run, "question": sheet["question"], "items": items}, ensure_ascii=False)
    # in a script element only "<" can end it
    data = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return resources.files("rlm_ray.validation").joinpath("page.html").read_text("utf-8").replace("/*DATA*/null", data)
