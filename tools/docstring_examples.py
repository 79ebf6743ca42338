"""Prepares docstrings for the site: examples become code, short sections become paragraphs.

A griffe extension, named in `mkdocs.yml`. Markdown reads `>>>` as three nested quotations, so the
site shows doctest lines in a fence. Of a module's docstring it shows the first paragraph: the rest
describes files to people who change them.
"""

import re

import griffe

SEVERAL_NAMES = re.compile(r"^    \w+(?:, \w+)+(?=: )", re.M)
PARAGRAPHS = ("Example:", "Returns:", "Input shape:", "Output shape:")


class DocstringExamples(griffe.Extension):
    def on_object(self, *, obj, **kwargs):
        if obj.docstring is None:
            return
        text = obj.docstring.value
        obj.docstring.value = text.partition("\n\n")[0] if obj.is_module else readable(text)


def readable(text):
    """A docstring with a fence around doctest lines, and `PARAGRAPHS` as bold titles.

    Names that share a description, `a, b: of the sides`, are joined by a hard space: griffe would
    read the second as the type of the first.
    """
    text = SEVERAL_NAMES.sub(lambda names: names[0].replace(", ", ",\N{NO-BREAK SPACE}"), text)
    lines, section, doctest = [], False, False
    for line in text.split("\n"):
        if line in PARAGRAPHS:
            section = True
            lines += [f"**{line[:-1]}**", ""]
            continue
        section = section and (not line or line.startswith(" "))
        line = line.removeprefix("    ") if section else line
        if not doctest and line.lstrip().startswith(">>>"):
            doctest = True
            lines.append("```pycon")
        elif doctest and not line.strip():
            doctest = False
            lines.append("```")
        lines.append(line.replace("  # doctest: +SKIP", "") if doctest else line)
    return "\n".join([*lines, "```"] if doctest else lines)
