"""Makes examples in docstrings readable on the site: `>>>` lines become a block of code.

A griffe extension, named in `mkdocs.yml`. Markdown reads `>>>` as three nested quotations; the
docstrings keep the form that doctest runs and the site shows the same lines fenced. Of a module's
docstring the site shows the first paragraph: the rest describes files to people who change them.
"""

import textwrap

import griffe


class DocstringExamples(griffe.Extension):
    def on_object(self, *, obj, **kwargs):
        if obj.docstring is None:
            return
        text = obj.docstring.value
        obj.docstring.value = text.partition("\n\n")[0] if obj.is_module else fenced(text)


def fenced(text):
    """The text with a fence around every run of doctest lines, and `Example:` as a bold line.

    >>> print(fenced("Adds.\\n\\nExample:\\n    >>> 1 + 1\\n    2"))
    Adds.
    <BLANKLINE>
    **Example**
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    lines, example = [], []

    def close():
        if example:
            code = textwrap.dedent("\n".join(example)).replace("  # doctest: +SKIP", "")
            lines.extend(["```pycon", *code.split("\n"), "```", ""])
            example.clear()

    for line in text.split("\n"):
        if line.lstrip().startswith(">>>") or (example and line.strip()):
            example.append(line)
            continue
        close()
        lines.extend(["**Example**", ""] if line.strip() == "Example:" else [line])
    close()
    return "\n".join(lines).rstrip()
